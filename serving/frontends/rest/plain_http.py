"""uvicorn's HTTP connection, speaking HTTP/1.1 and nothing else: offers declined, nonsense named.

To the parser (httptools 0.7) a request that offers an upgrade is the last that is HTTP: it leaves
the body unread, and takes it for the next request when more comes. Java's client offers HTTP/2
with every request. A server may ignore an offer (RFC 9110, 7.8), so the head is read once more
without it, and then the body as that of any request.
"""

from __future__ import annotations

import logging
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.dataplane import DataPlane
from serving.errors import InvalidRequest
from serving.frontends.rest import status
from serving.frontends.rest.refusal import refusal

_OFFER = (b"upgrade", b"http2-settings")

_log = logging.getLogger("serving.rest")


class PlainHttp(HttpToolsProtocol):
    """One HTTP connection; what it refuses is counted by ``plane``."""

    def __init__(self, plane: DataPlane, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._plane = plane
        self.url = b""
        self.declined = False  # the head that was read last offers an upgrade

    def data_received(self, data: bytes) -> None:
        """Feed the parser; it calls the ``on_`` methods."""
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if not self.declined:  # CONNECT: what follows is for somebody behind us
                    self.end_with_latest()
                    return
                data = self._without_offer() + data[upgrade.args[0] :]
            except httptools.HttpParserError as error:
                self._is_not_http(data, error)
                return
            else:
                return

    def declines(self) -> bool:
        """Return whether the head that is complete offers an upgrade, and so is read once more."""
        parser = self.parser
        self.declined = parser.should_upgrade() and parser.get_method() != b"CONNECT"
        return self.declined

    def begin_anew(self) -> None:
        """Read what follows with a fresh parser."""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does

    def hear_no_more(self) -> None:
        """Pass over what still comes."""
        self.parser = _Deaf()

    def end_with_latest(self) -> None:
        """Read nothing more: answer what was read, then close."""
        self.hear_no_more()
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        else:
            self.cycle.keep_alive = False

    def _without_offer(self) -> bytes:
        """Return the head that was read, without its offer, for the parser that takes over."""
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self._version)]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                value = b", ".join([t for t in tokens if t.lower() not in _OFFER])
                if not value:
                    continue
            if name not in _OFFER:
                lines.append(b"%b: %b" % (name, value))
        self.begin_anew()
        self.declined = False
        return b"\r\n".join([*lines, b"", b""])

    @property
    def _version(self) -> bytes:
        version: str = self.parser.get_http_version()
        return version.encode("ascii")

    def _is_not_http(self, data: bytes, error: httptools.HttpParserError) -> None:
        """Answer what is no HTTP; where the next request would begin nobody knows.

        Those who were read whole before are answered, and the connection ends with them.
        """
        refused = _malformed(data, error)
        _log.info("%s: %s", self.client[0] if self.client else "a client", refused.message)
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not cycle.more_body:
            self.end_with_latest()
            return
        short = self.url.startswith((b"/v1/", b"/v2"))
        form = status.v2_error if short else status.problem
        reply = refusal(refused, {}, form, self._plane)
        fields = [*self.server_state.default_headers, (b"content-type", reply.content_type)]
        fields += [(b"content-length", b"%d" % len(reply.body)), (b"connection", b"close")]
        head = b"".join([b"%b: %b\r\n" % field for field in fields])
        self.hear_no_more()
        self.transport.write(STATUS_LINE[reply.status] + head + b"\r\n" + reply.body)
        self.transport.close()


class _Deaf:
    """Stands in for the parser once nothing more is to be read."""

    def feed_data(self, data: bytes) -> None:
        """Pass over data."""


def _malformed(data: bytes, error: httptools.HttpParserError) -> InvalidRequest:
    fix = ""
    if data.startswith(b"\x16\x03"):  # a TLS handshake
        fix = "use http://: this port was not started with --tls-cert"
    elif data.startswith(b"PRI * HTTP/2"):
        fix = "speak HTTP/1.1 here; gRPC has a port of its own (--grpc-port)"
    reason = str(error)
    if isinstance(error, httptools.HttpParserCallbackError):
        reason = "its head cannot be read"
    return InvalidRequest(
        "what was sent is not an HTTP/1.1 request",
        code="malformed_http",
        expected="a request as RFC 9112 has it",
        given=reason,
        fix=fix,
    )
