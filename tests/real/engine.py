"""The bare engine in the test's own process: what a served answer has to equal, bit for bit.

It runs with the options that a worker sets on a server with one worker, so that sums are added
in the same order on both sides.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from serving.master.cores import usable_cores
from serving.tensor import BY_NAME, BY_ONNX, Array

ONE_WORKER = ("--workers", "1")
"""The server's options that the session's number of threads follows from."""

Value = Array | list[Any] | None
"""An input as the engine's own API takes it: a tensor, a sequence, an optional without value."""


class EngineRefused(Exception):
    """The engine cannot load or run a model."""


@dataclass(frozen=True)
class Output:
    """One output: V2 type, shape, and its little-endian elements or, for BYTES, its strings.

    ``value`` is what the engine's Python API gave instead where the output is no tensor.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes = b""
    items: tuple[bytes, ...] = ()
    value: Any = None

    def array(self) -> Array:
        """Return the elements; raw patterns for BF16, ``bytes`` objects for BYTES."""
        numpy = BY_NAME[self.datatype].numpy
        if numpy is None:
            strings = np.empty(len(self.items), dtype=object)
            strings[:] = self.items
            return strings.reshape(self.shape)
        return np.frombuffer(self.raw, numpy).reshape(self.shape)

    def documents(self) -> list[Any]:
        """Return what the JSON documents say that a sequence or map is answered as."""
        return [json.loads(item) for item in self.items]

    def equals(self, other: Output) -> bool:
        """Compare with the engine's bit for bit, except that any NaN equals any other."""
        if other.value is not None:
            return self.name == other.name and self.documents() == _documents(other.value)
        mine = (self.name, self.datatype, self.shape, self.items)
        if mine != (other.name, other.datatype, other.shape, other.items):
            return False
        if self.raw == other.raw:
            return True
        floats = self.datatype in ("FP16", "FP32", "FP64")
        return floats and np.array_equal(self.array(), other.array(), equal_nan=True)


class Engine:
    """A model in a session of its own. Raises EngineRefused, also from ``run``."""

    def __init__(self, model: bytes | Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = usable_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        source = str(model) if isinstance(model, Path) else model
        try:
            self._session = ort.InferenceSession(
                source, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ORT raises a family of types without a common base
            raise EngineRefused(str(error)) from error
        self.inputs = {node.name: node.type for node in self._session.get_inputs()}
        self.outputs = {node.name: node.type for node in self._session.get_outputs()}

    def run(self, inputs: Mapping[str, Value]) -> tuple[Output, ...]:
        """Run once on exactly the inputs that the model has."""
        try:
            if all(_by_address(kind) for kind in (*self.inputs.values(), *self.outputs.values())):
                feed = {name: _to_value(inputs[name]) for name in self.inputs}
                values = self._session.run_with_ort_values(None, feed)
                return tuple(map(_of_value, self.outputs, values))
            answer = self._session.run(None, {name: inputs[name] for name in self.inputs})
        except Exception as error:
            raise EngineRefused(str(error)) from error
        return tuple(map(_of_python, self.outputs, self.outputs.values(), answer))


def _by_address(kind: str) -> bool:
    return kind.startswith("tensor(") and kind != "tensor(string)"


def _to_value(value: Value) -> Any:
    assert isinstance(value, np.ndarray)
    if value.dtype.isbuiltin == 1:
        return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value).reshape(value.shape))
    # A type of the ml_dtypes package: bfloat16, float8, int4 and the like.
    number = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(value, number)


def _of_value(name: str, value: Any) -> Output:
    """Copy an OrtValue's memory: numpy has no type for some of them."""
    size = value.tensor_size_in_bytes()
    raw = ctypes.string_at(value.data_ptr(), size) if size else b""
    return Output(name, _datatype(value.element_type()), tuple(value.shape()), raw)


def _of_python(name: str, kind: str, value: Any) -> Output:
    if not kind.startswith("tensor("):
        return Output(name, "BYTES", (), value=value)
    if value.dtype.kind in "OSU":
        items = tuple(str(text).encode() for text in value.reshape(-1).tolist())
        return Output(name, "BYTES", value.shape, items=items)
    number = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    return Output(name, _datatype(number), value.shape, value.tobytes())


def _datatype(number: int) -> str:
    found = BY_ONNX.get(number)
    return found.name if found is not None else onnx.TensorProto.DataType.Name(number)


def _documents(value: Any) -> list[Any]:
    """Return a sequence as JSON can say it: numbers exactly, keys as text."""
    return [_plain(element) for element in value]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value
