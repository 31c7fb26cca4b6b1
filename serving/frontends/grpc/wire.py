"""Cut the tensors' bytes out of a ModelInferRequest, and put them into a ModelInferResponse.

They are top-level ``bytes`` fields, so ``serving.protobuf`` can read and write them without
copies, and the small rest is left to protobuf.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from serving import protobuf
from serving.errors import InvalidRequest

MAX_FIELDS = 16384
"""Top-level fields of a message: far over any real signature, and quickly walked through."""

_RAW_INPUT, _RAW_OUTPUT = 7, 6


class Parcel(NamedTuple):
    """A request's message without raw contents (``head``), and views of those (``raw``)."""

    head: bytes
    raw: tuple[memoryview, ...]


def split(message: bytes | memoryview) -> Parcel:
    """Return the parts of a serialised ModelInferRequest; ``raw`` are views, not copies.

    Raises InvalidRequest when the message is cut short, is no protobuf message, or has more
    than MAX_FIELDS fields.
    """
    try:
        return Parcel(*protobuf.cut(message, _RAW_INPUT, MAX_FIELDS))
    except protobuf.TooManyFields:
        raise InvalidRequest(
            "the message has too many fields",
            code="too_many_fields",
            expected=f"at most {MAX_FIELDS}",
        ) from None
    except protobuf.Malformed:
        raise malformed() from None


def before_raw_input(size: int) -> bytes:
    """Return what stands before a raw input of that many bytes in a ModelInferRequest."""
    return protobuf.prefix(_RAW_INPUT, size)


def before_raw_output(size: int) -> bytes:
    """Return what stands before a raw output of that many bytes in a ModelInferResponse."""
    return protobuf.prefix(_RAW_OUTPUT, size)


def join(head: bytes, raw: Sequence[bytes | memoryview]) -> bytes:
    """Return a serialised ModelInferResponse: ``head`` and then its raw output contents.

    ``raw`` are buffers without gaps; each is copied once, into the result.
    """
    parts: list[bytes | memoryview] = [head]
    for data in raw:
        size = len(data) if isinstance(data, bytes) else data.nbytes
        parts.append(protobuf.prefix(_RAW_OUTPUT, size))
        parts.append(data)
    return b"".join(parts)


def malformed() -> InvalidRequest:
    """Return the refusal of bytes that are not the message they should be."""
    return InvalidRequest(
        "the request is not a valid protobuf message of its type",
        code="bad_message",
        fix="generate the client from the Open Inference Protocol's .proto file",
    )
