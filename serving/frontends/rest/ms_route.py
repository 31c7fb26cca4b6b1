"""The paths of MindSpore Serving's REST clients, and what is wrong with one, in its words.

    /model/{name}[/version/{number}]:{method}

``/v1`` may stand before it and a slash before the colon. A path is held against this only after
the body, as there, so that finding one never fails.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from serving.errors import InvalidRequest, ServingError
from serving.frontends.method import Describe
from serving.frontends.mindspore.failures import told
from serving.frontends.mindspore.target import Target
from serving.frontends.rest import ms_codec, ms_row_form, names
from serving.frontends.rest.ms_exchange import MsExchange
from serving.frontends.rest.row_form import Cut
from serving.frontends.rest.wire import Call, Headers, Reply

_PATH = re.compile(
    rb"(?:/v1)?/model/(?P<name>%(text)b*)(?:/version/(?P<version>%(text)b*))?/?"
    rb"(?:%(colon)b(?P<method>.*))?" % {b"text": names.BEFORE_COLON, b"colon": names.COLON}
)
_MAX_VERSION = 2**32 - 2
_CHECK = "please check url, "


def find(raw_path: bytes) -> MsRoute | None:
    """Return the format of a path that is MindSpore Serving's, None for any other."""
    if b"/model/" not in raw_path:
        return None
    found = _PATH.fullmatch(raw_path)
    return None if found is None else MsRoute(*map(_decoded, found.group(1, 2, 3)))


class MsRoute:
    """One path: servable, version and method as they stand in it; None where they do not."""

    __slots__ = ("_found", "_method", "_name", "_version")
    exchange = MsExchange

    def __init__(self, name: str | None, version: str | None, method: str | None) -> None:
        self._name = name
        self._version = version
        self._method = method
        self._found: Target | None = None

    def decode(self, body: bytes, headers: Headers, describe: Describe, now: float) -> Call:
        """Decode a body; raises a ``ServingError``."""
        instances = ms_codec.parse(body)
        target = self._found
        if target is None:
            target = self._found = self._target()
        return ms_codec.decode(body, instances, target, headers, describe, now)

    def cut(self, body: bytes, _headers: Headers, describe: Describe, /) -> Cut | None:
        """Return what a body has in common with others but for numbers, if anything."""
        return None if self._found is None else ms_row_form.cut(self._found, body, describe)

    def decodes_fast(self, _size: int, _headers: Headers, _describe: Describe, /) -> bool:
        """Return False: every number is read from text."""
        return False

    def error(self, error: ServingError, request_id: str) -> Reply:
        """Return the answer to a call that failed: HTTP 200, as its clients expect."""
        target = Target(self._name or "", self._method or "", _number(self._version))
        return ms_codec.refusal(told(error, target), request_id)

    def _target(self) -> Target:
        """Return what the path asks for; raises InvalidRequest."""
        if not self._name:
            raise InvalidRequest(f"{_CHECK}the keyword:[model] must contain.")
        version = self._version
        if version is not None and not re.fullmatch(r"-?[0-9]+", version, re.ASCII):
            raise InvalidRequest(
                f"{_CHECK}the keyword:[version] value invalid, "
                f"request version number {version[:80]}"
            )
        if version is not None and not (len(version) <= 10 and 0 <= int(version) <= _MAX_VERSION):
            raise InvalidRequest(
                f"{_CHECK}version number range failed, request version number {version[:80]}"
            )
        if not self._method:
            raise InvalidRequest(f"{_CHECK}the keyword:[service method] must contain.")
        return Target(self._name, self._method, _number(version))


def _number(version: str | None) -> int:
    return int(version) if version and version.isdecimal() and len(version) <= 10 else 0


def _decoded(segment: bytes | None) -> str | None:
    return None if segment is None else unquote_to_bytes(segment).decode("utf-8", "replace")
