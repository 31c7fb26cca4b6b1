"""Errors on the wire: a ``ServingError`` in a call's trailing metadata, and back again."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from serving import errors
from serving.errors import ServingError
from serving.v1.stubs import serving_v1_pb2 as pb

_TEXT_BYTES = {"code": 64, "where": 256, "message": 1024, "expected": 512, "given": 256, "fix": 256}
"""Clients refuse metadata over 8 KiB in all; half of that is left to the status text."""


def to_bytes(error: ServingError) -> bytes:
    """Return the serialised ``Error``; long texts are cut."""
    message = pb.Error(kind=errors.kind(error))
    for field, size in _TEXT_BYTES.items():
        setattr(message, field, _cut(getattr(error, field), size))
    if error.retry_after_s is not None:
        message.retry_after_s = error.retry_after_s
    return bytes(message.SerializeToString())


def from_bytes(data: bytes) -> ServingError | None:
    """Return the error that was sent, in its own class; None when the bytes hold none."""
    try:
        message = pb.Error.FromString(data)
    except DecodeError:
        return None
    return errors.of_kind(message.kind)(
        message.message,
        code=message.code or None,
        where=message.where,
        expected=message.expected,
        given=message.given,
        fix=message.fix,
        retry_after_s=message.retry_after_s if message.HasField("retry_after_s") else None,
    )


def _cut(text: str, size: int) -> str:
    """Return the text in at most ``size`` bytes of UTF-8; what cannot be encoded becomes ``?``."""
    data = text.encode("utf-8", "replace")
    if len(data) <= size:
        return data.decode()
    return data[: size - 4].decode("utf-8", "ignore") + " ..."
