"""What went wrong with a call, as the error class that says it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from grpc import StatusCode

from serving import errors
from serving.client import channel
from serving.errors import ServingError
from serving.v1 import ERROR_TRAILER, failure

NO_SERVER = "no_server"
"""The code of an error that says that no connection came about, so nothing was asked."""

_CLASSES: dict[StatusCode, type[ServingError]] = {
    StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    StatusCode.NOT_FOUND: errors.NotFound,
    StatusCode.RESOURCE_EXHAUSTED: errors.Overloaded,
    StatusCode.UNAVAILABLE: errors.Unavailable,
    StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    StatusCode.CANCELLED: errors.Cancelled,
    StatusCode.UNIMPLEMENTED: errors.Unimplemented,
}
_TOO_LARGE = re.compile(r"larger than max \((\d+) vs\. (\d+)\)")
# What gRPC's core says when no connection came about; it has no code for that.
_NOT_CONNECTED = "failed to connect"
_NOT_RESOLVED = ("errors resolving", "DNS resolution failed")
_HTTP_1 = "http1"
_HANDSHAKE = "andshake failed"
_WITHOUT_TLS = "WRONG_VERSION_NUMBER"
_OTHER_NAME = "Hostname Verification"
# The end of a server that wants TLS, or a certificate, from a client that has shown neither.
_SHUT = ("Socket closed", "Connection reset")


def from_rpc(
    address: str,
    code: StatusCode,
    details: str | None,
    trailers: Iterable[tuple[str, str | bytes]] | None,
    timeout_s: float | None,
) -> ServingError:
    """Return the error that the server raised, or one for what gRPC itself says."""
    for key, value in trailers or ():
        if key == ERROR_TRAILER and isinstance(value, bytes):
            sent = failure.from_bytes(value)
            if sent is not None:
                return sent
    details = details or ""
    if code is StatusCode.DEADLINE_EXCEEDED:
        within = f" within {timeout_s:.3g} s" if timeout_s is not None else ""
        return errors.DeadlineExceeded(f"{address} did not answer{within}")
    if code is StatusCode.UNIMPLEMENTED:
        return errors.Unimplemented(
            f"{address} does not speak the protocol serving.v1",
            code="other_server",
            fix="is it this server's gRPC port, and is its version at least this client's?",
        )
    if code is StatusCode.UNAVAILABLE:
        return _unreachable(address, details)
    too_large = _TOO_LARGE.search(details)
    if too_large:
        given, most = map(int, too_large.groups())
        return errors.TooLarge(
            "the message is larger than its receiver takes",
            expected=f"at most {most} bytes",
            given=f"{given} bytes",
            fix="send fewer rows at once, or start the server with a larger --max-request-mb",
        )
    if code is StatusCode.UNAUTHENTICATED:
        return errors.Unauthenticated(
            f"{address}: {details}", fix="Client(token=...), or --token-file FILE for a command"
        )
    return _CLASSES.get(code, errors.InternalError)(f"{address}: {details or code.name}")


def _unreachable(address: str, details: str) -> ServingError:
    """Return why a connection did not come about or did not last."""
    if _HTTP_1 in details:
        return errors.Unavailable(
            f"what listens on {address} does not speak gRPC", code=NO_SERVER,
            fix="give the gRPC port (--grpc-port, 5500 by default), not the REST port",
        )  # fmt: skip
    if any(words in details for words in _NOT_RESOLVED):
        return errors.Unavailable(
            f"there is no host of that name: {address}", code=NO_SERVER,
            fix="give host:port, such as localhost:5500",
        )  # fmt: skip
    if _NOT_CONNECTED in details and (_HANDSHAKE in details or _OTHER_NAME in details):
        return _no_trust(address, details)
    if _NOT_CONNECTED in details and any(words in details for words in _SHUT):
        return errors.Unavailable(
            f"what listens on {address} ended the connection at once", code=NO_SERVER,
            fix="it may ask for TLS (tls=Tls(ca=...), --tls-ca), or for a client's certificate, or "
            "be without TLS",
        )  # fmt: skip
    if _NOT_CONNECTED in details and channel.listens_here(address):
        return errors.Unavailable(
            f"what listens on {address} takes no gRPC connection", code=NO_SERVER,
            fix="give the gRPC port (--grpc-port, 5500 by default), not the REST port; if that is "
            "it, it may have TLS and want tls=Tls(ca=...), --tls-ca, or be without",
        )  # fmt: skip
    if _NOT_CONNECTED in details:
        return errors.Unavailable(
            f"nothing listens on {address}", code=NO_SERVER,
            fix="is `serving start` running, and is this its gRPC port?",
        )  # fmt: skip
    return errors.Unavailable(
        f"the connection to {address} was lost: {details}", code="connection_lost"
    )


def _no_trust(address: str, details: str) -> ServingError:
    """Return why a connection came about and its TLS did not."""
    problem, fix = "its certificate is not trusted", "tls=Tls(ca=...), or --tls-ca, says whom to"
    if _WITHOUT_TLS in details:
        problem, fix = "it is without TLS", "leave TLS out, or give the port that has it"
    elif _OTHER_NAME in details:
        problem, fix = "its certificate is for another name", "use a name that it is for"
    return errors.Unavailable(
        f"no TLS connection to {address} came about: {problem}", code="no_trust", fix=fix
    )
