"""The commonest answers of V2 calls: a few numbers, put into a frame that is made once.

What stands around the values is the same whenever names, datatypes and shapes are: ``v2_call``
writes equal answers, and all those that do not fit here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import orjson

from serving.frontends import raw_tensor
from serving.request import InferResponse
from serving.tensor import BF16

_MOST_ELEMENTS = 4096
"""Of one output as JSON: more are better written on another thread."""

Look = tuple[str, str, tuple[int, ...], int | None]
"""An output's name, datatype, shape, and its size where it is binary data."""


class _Frame(NamedTuple):
    """The beginning up to the model's version, and what stands before each output's values."""

    begin: bytes
    outputs: tuple[bytes, ...]


class Written(NamedTuple):
    """The JSON of an answer, and the binary data to be put behind it."""

    head: bytes
    tail: list[bytes | memoryview]


def write(
    model: str, id: str, response: InferResponse, binary: Mapping[str, bool], default: bool
) -> Written | None:
    """Return the answer, None for one that does not fit; ``binary`` has what is not as ``default``.

    Strings do not fit, nor long outputs in JSON, nor numbers that JSON does not have.
    """
    if response.parameters:
        return None
    looks: list[Look] = []
    texts: list[bytes] = []
    tail: list[bytes | memoryview] = []
    for tensor in response.outputs:
        array, size = tensor.array, None
        if array is None:
            return None
        text = b""
        if binary.get(tensor.name, default):
            data = raw_tensor.write(tensor)
            size = len(data)
            tail.append(data)
        elif tensor.dtype is BF16 or not 0 < array.size <= _MOST_ELEMENTS:
            return None
        else:
            text = orjson.dumps(array.reshape(-1), option=orjson.OPT_SERIALIZE_NUMPY)
            if b"null" in text:  # NaN or an infinity
                return None
        texts.append(text)
        looks.append((tensor.name, tensor.dtype.name, tensor.shape, size))
    begin, before = _frame(model, response.version, tuple(looks))
    head = begin + b',"id":' + orjson.dumps(id) if id else begin
    for start, text in zip(before, texts, strict=True):
        head += start + text
    return Written(head + b"}]}", tail)


@lru_cache(maxsize=1024)
def _frame(model: str, version: int, outputs: tuple[Look, ...]) -> _Frame:
    begin = orjson.dumps({"model_name": model, "model_version": str(version)})[:-1]
    before = []
    for index, (name, datatype, shape, size) in enumerate(outputs):
        output: dict[str, object] = {"name": name, "datatype": datatype, "shape": shape}
        if size is not None:
            output["parameters"] = {"binary_data_size": size}
        values = b"" if size is not None else b',"data":'
        between = b"}," if index else b',"outputs":['
        before.append(between + orjson.dumps(output)[:-1] + values)
    return _Frame(begin, tuple(before))
