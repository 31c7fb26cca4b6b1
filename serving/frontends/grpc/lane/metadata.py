"""Metadata of a call as header fields: binary values, percent-encoding, the time it may take.

Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

import base64
import binascii
import re

Value = str | bytes
Metadata = tuple[tuple[str, Value], ...]

_TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")
_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_ESCAPED = re.compile(rb"[^ -$&-~]")


class BadMetadata(ValueError):
    """A field of gRPC's own that cannot be read; the text is for the client."""


def timeout_s(text: bytes) -> float:
    """Return the seconds that a ``grpc-timeout`` names; raises BadMetadata."""
    match = _TIMEOUT.fullmatch(text)
    if match is None:
        raise BadMetadata(
            "Error parsing 'grpc-timeout' metadata: not like 100m (digits and a unit)"
        )
    return int(match[1]) * _SECONDS[match[2]]


def values(name: str, text: bytes) -> list[Value]:
    """Return what a field says: several values where binary ones were joined by commas.

    Raises BadMetadata for a binary value that is not base64.
    """
    if not name.endswith("-bin"):
        try:
            return [text.decode()]
        except UnicodeDecodeError:
            return [text.decode("latin-1")]
    try:
        return [_binary(part.strip()) for part in text.split(b",")]
    except binascii.Error:
        raise BadMetadata(f"Error parsing '{name}' metadata: illegal base64 encoding") from None


def field(name: str, value: Value) -> tuple[bytes, bytes]:
    """Return the header field for a piece of metadata."""
    if isinstance(value, bytes):
        return name.encode(), base64.b64encode(value).rstrip(b"=")
    return name.encode(), value.encode()


def percent_encoded(message: str) -> bytes:
    """Return a status message as it goes into ``grpc-message``."""
    return _ESCAPED.sub(lambda found: b"%%%02X" % ord(found[0]), message.encode("utf-8", "replace"))


def _binary(text: bytes) -> bytes:
    return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
