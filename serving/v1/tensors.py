"""Tensors in messages: written as bytes with one copy, read as views of the message.

A ``Tensor`` message is small but for its ``data``. Writing serialises the rest once for every
look (name, dtype, shape) and lays the elements beside it; reading cuts ``data`` out before
protobuf sees the message.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from serving import protobuf
from serving.protobuf import Buffer, Malformed, TooManyFields
from serving.tensor import BY_NAME, TEXT, DType, Tensor
from serving.v1.stubs import serving_v1_pb2 as pb

REQUEST_INPUTS = 5
RESPONSE_OUTPUTS = 4
"""Numbers of the fields that hold tensors, in PredictRequest and PredictResponse."""

DTYPES: Mapping[str, DType] = {**BY_NAME, TEXT.name: TEXT}
"""Dtypes of tensors by their names in messages."""

_DATA = 4
_FEW_FIELDS = 256
"""Fields of one tensor that are looked through; only strings have more, one an element."""
_MAX_TENSORS = 4096


class Sealed(NamedTuple):
    """A tensor's message as it came: without ``data`` in ``head``, and a view of its ``data``.

    ``data`` is None where it was not looked for: the message has very many fields, so it holds
    strings, which protobuf itself reads best.
    """

    head: Buffer
    data: memoryview | None

    def open(self) -> tuple[pb.Tensor, memoryview]:
        """Return the message without ``data``, and ``data``. Raises Malformed."""
        try:
            message = pb.Tensor.FromString(self.head)
        except DecodeError:
            raise Malformed from None
        data = memoryview(message.data) if self.data is None else self.data
        return message, data


class Parcel(NamedTuple):
    """A predict message: without tensors in ``head``, and its tensors."""

    head: bytes
    tensors: tuple[Sealed, ...]


def unpack(message: bytes, number: int) -> Parcel:
    """Return the parts of a serialised predict message whose tensors are field ``number``.

    The parts are views of ``message``. Raises Malformed when it is none.
    """
    head, tensors = protobuf.cut(message, number, _MAX_TENSORS)
    return Parcel(head, tuple([_sealed(view) for view in tensors]))


def pack(head: bytes, number: int, tensors: list[tuple[Tensor, bool]]) -> bytes:
    """Return a serialised predict message: ``head``, then the tensors as field ``number``.

    Each tensor comes with its ``json`` mark. Numbers are copied once, into the result.
    """
    parts: list[Buffer] = [head]
    for tensor, json in tensors:
        look = _head(tensor.name, tensor.dtype.name, tensor.shape, json)
        if tensor.array is None:
            body = look + pb.Tensor(items=tensor.items or ()).SerializeToString()
            parts += (protobuf.prefix(number, len(body)), body)
        else:
            # A view of the elements; an array without gaps is not copied for it.
            array = np.ascontiguousarray(tensor.array)
            data = array.reshape(-1).view(np.uint8).data
            before = look + protobuf.prefix(_DATA, data.nbytes)
            parts += (protobuf.prefix(number, len(before) + data.nbytes), before, data)
    return b"".join(parts)


def _sealed(view: memoryview) -> Sealed:
    try:
        head, data = protobuf.cut(view, _DATA, _FEW_FIELDS)
    except TooManyFields:
        return Sealed(view, None)
    # Of a field that comes more than once, the last counts: protobuf's own rule.
    return Sealed(head, data[-1] if data else memoryview(b""))


@lru_cache(maxsize=1024)
def _head(name: str, dtype: str, shape: tuple[int, ...], json: bool) -> bytes:
    return bytes(pb.Tensor(name=name, dtype=dtype, shape=shape, json=json).SerializeToString())
