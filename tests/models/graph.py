"""Writes an ONNX graph to a file: the one place that sets IR version, opset and producer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from serving.tensor import BY_NAME, Dim

Array = NDArray[Any]
OPSET = 17
IR_VERSION = 10


def value(name: str, dtype: str, shape: Sequence[Dim | None] | None) -> onnx.ValueInfoProto:
    """Declare an input or output; ``dtype`` is a V2 name, a ``str`` in ``shape`` a named size."""
    return helper.make_tensor_value_info(name, BY_NAME[dtype].onnx, shape)


def build(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Mapping[str, Array] | None = None,
    *,
    opset: int = OPSET,
    ir_version: int = IR_VERSION,
    domains: Mapping[str, int] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """Put a model together; ``domains`` are further operator sets and their versions."""
    stored = [
        numpy_helper.from_array(np.ascontiguousarray(v).reshape(np.shape(v)), k)
        for k, v in (constants or {}).items()
    ]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, stored)
    imports = [helper.make_opsetid("", opset)]
    imports += [helper.make_opsetid(name, version) for name, version in (domains or {}).items()]
    return helper.make_model(
        graph,
        producer_name="serving-tests",
        ir_version=ir_version,
        opset_imports=imports,
        functions=list(functions),
    )


def save(model: onnx.ModelProto, path: Path) -> Path:
    """Write ``model`` to ``path``, making its folder, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def weights(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    """Return normal weights [fan_in, ...] scaled so that activations keep their size."""
    return np.asarray(rng.standard_normal(shape) / np.sqrt(shape[0]), np.float32)
