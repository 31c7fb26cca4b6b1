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
from serving.tensor import BF16, DType, Tensor, element_count

_MOST_ELEMENTS = 4096
"""Of one output as JSON: more are better written on another thread."""

Look = tuple[str, str, tuple[int, ...], int | None]
"""An output's name, datatype, shape, and its size where it is binary data."""


class Frame(NamedTuple):
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
        elif not is_short(tensor.dtype, array.shape):
            return None
        else:
            text = orjson.dumps(array.reshape(-1), option=orjson.OPT_SERIALIZE_NUMPY)
            if b"null" in text:  # NaN or an infinity
                return None
        texts.append(text)
        looks.append((tensor.name, tensor.dtype.name, tensor.shape, size))
    begin, before = frame(model, response.version, tuple(looks))
    head = begin + b',"id":' + orjson.dumps(id) if id else begin
    for start, text in zip(before, texts, strict=True):
        head += start + text
    return Written(head + b"}]}", tail)


def write_stored(
    model: str, response: InferResponse, stored: Mapping[str, Mapping[str, str | int]]
) -> bytes:
    """Return the answer all of whose outputs lie in shared memory, as ``stored`` says by name."""
    looks = [
        (t.name, _datatype(t), t.shape, tuple(stored[t.name].items())) for t in response.outputs
    ]
    return _stored(model, response.version, tuple(looks))


@lru_cache(maxsize=1024)
def _stored(
    model: str,
    version: int,
    outputs: tuple[tuple[str, str, tuple[int, ...], tuple[tuple[str, str | int], ...]], ...],
) -> bytes:
    told = [
        {"name": name, "datatype": datatype, "shape": shape, "parameters": dict(parameters)}
        for name, datatype, shape, parameters in outputs
    ]
    return orjson.dumps({"model_name": model, "model_version": str(version), "outputs": told})


def _datatype(tensor: Tensor) -> str:
    """Return the datatype's name; text is a kind of BYTES that only methods tell apart."""
    return "BYTES" if tensor.array is None else tensor.dtype.name


def is_short(dtype: DType, shape: tuple[int, ...]) -> bool:
    """Return whether an output is written here as JSON: few numbers, and of a type that it has."""
    return dtype is not BF16 and 0 < element_count(shape) <= _MOST_ELEMENTS


@lru_cache(maxsize=1024)
def frame(model: str, version: int, outputs: tuple[Look, ...]) -> Frame:
    """Return what stands around the values of outputs of these looks."""
    begin = orjson.dumps({"model_name": model, "model_version": str(version)})[:-1]
    before = []
    for index, (name, datatype, shape, size) in enumerate(outputs):
        output: dict[str, object] = {"name": name, "datatype": datatype, "shape": shape}
        if size is not None:
            output["parameters"] = {"binary_data_size": size}
        values = b"" if size is not None else b',"data":'
        between = b"}," if index else b',"outputs":['
        before.append(between + orjson.dumps(output)[:-1] + values)
    return Frame(begin, tuple(before))
