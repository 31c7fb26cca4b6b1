"""The answer to a request: outputs by name, as numpy arrays of the caller's own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from serving.errors import InternalError
from serving.protobuf import Malformed
from serving.tensor import TEXT, Array, element_count, shape_text
from serving.v1 import tensors
from serving.v1.stubs import serving_v1_pb2 as pb
from serving.v1.tensors import Sealed


class Prediction(Mapping[str, Array]):
    """Outputs by name, in the model's order; ``servable``, ``version`` and ``id`` say whose.

    Numbers come in their own dtype, BF16 as raw 16-bit patterns in uint16 arrays. Strings come
    as object arrays of ``str``; of ``bytes`` when one of them is no UTF-8. A method's text comes
    as ``str`` and its bytes as ``bytes``. Sequences and maps come as object arrays of Python lists
    and dicts, one a row. Every array is writable.
    """

    def __init__(self, servable: str, version: int, id: str, outputs: Mapping[str, Array]) -> None:
        self.servable = servable
        self.version = version
        self.id = id
        self._outputs = dict(outputs)

    def __getitem__(self, name: str) -> Array:
        return self._outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)

    def __repr__(self) -> str:
        outputs = ", ".join(f"{n}: {a.dtype}{shape_text(a.shape)}" for n, a in self.items())
        return f"Prediction({self.servable!r} version {self.version}; {outputs})"


def read(data: bytes, *, is_method: bool = False) -> Prediction:
    """Return what a serialised PredictResponse holds; raises InternalError if it is none.

    A method tells text from bytes, a model does not.
    """
    try:
        parcel = tensors.unpack(data, tensors.RESPONSE_OUTPUTS)
        head = pb.PredictResponse.FromString(parcel.head)
        outputs = dict(_output(sealed, is_method) for sealed in parcel.tensors)
    except (Malformed, KeyError, ValueError) as error:
        raise InternalError(f"the server's answer cannot be read: {error!r}") from error
    return Prediction(head.servable, head.version, head.id, outputs)


def _output(sealed: Sealed, is_method: bool) -> tuple[str, Array]:
    message, data = sealed.open()
    dtype, shape = tensors.DTYPES[message.dtype], tuple(message.shape)
    if dtype.numpy is not None:
        # Copied, so that it is aligned and writable and does not keep the whole answer alive.
        return message.name, np.frombuffer(data, dtype.numpy).reshape(shape).copy()
    items: Sequence[Any] = message.items
    if message.json:
        items = [json.loads(item) for item in items]
    elif dtype is TEXT or not is_method:
        items = text(items)
    return message.name, objects(items, shape)


def text(items: Sequence[bytes]) -> Sequence[str] | Sequence[bytes]:
    """Return strings as text if all of them are UTF-8, else as they are."""
    try:
        return [item.decode() for item in items]
    except UnicodeDecodeError:
        return items


def objects(items: Sequence[Any], shape: tuple[int, ...]) -> Array:
    """Return Python objects as an array; numpy's own constructor would look into lists."""
    if len(items) != element_count(shape):
        raise ValueError(f"{len(items)} items for shape {shape_text(shape)}")
    array = np.empty(len(items), dtype=object)
    for index, item in enumerate(items):
        array[index] = item
    return array.reshape(shape)
