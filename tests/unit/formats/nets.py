"""Small ONNX models for the tests of this folder, and runs of them in onnxruntime."""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

node = helper.make_node
Dims = Sequence[int | str | None]
FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING


def tensor(name: str, dims: Dims | None, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, dims)


def constant(name: str, values: Any, dtype: Any = None) -> onnx.TensorProto:
    array = np.asarray(values)
    if dtype is None:
        plain = {"i": "int64", "f": "float32"}
        dtype = array.dtype if array.dtype.itemsize < 8 else plain[array.dtype.kind]
    return numpy_helper.from_array(array.astype(dtype), name)


def weights(name: str, *shape: int, seed: int = 7) -> onnx.TensorProto:
    values = np.random.default_rng(seed + len(name)).standard_normal(shape)
    return constant(name, values.astype("float32"))


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[str | onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto] = (),
    opset: int = 17,
) -> onnx.ModelProto:
    """Build a model; an output given by name alone has an open type, which engines infer."""
    named = [onnx.ValueInfoProto(name=o) if isinstance(o, str) else o for o in outputs]
    graph = helper.make_graph(list(nodes), "net", list(inputs), named, list(constants))
    opsets = [
        helper.make_opsetid("", opset),
        helper.make_opsetid("ai.onnx.ml", 3),
        helper.make_opsetid("com.microsoft", 1),
        helper.make_opsetid("com.acme", 1),
    ]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def session(net: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(
        net.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def rows_agree(net: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> None:
    """Assert that rows run alone give what they give together (scalars are shared)."""
    engine = session(net)
    together = engine.run(None, feeds)
    count = next(len(a) for a in feeds.values() if a.ndim)
    for n in range(count):
        alone = engine.run(None, {k: a[n : n + 1] if a.ndim else a for k, a in feeds.items()})
        for name, whole, part in zip(engine.get_outputs(), together, alone, strict=True):
            assert (len(whole), len(part)) == (count, 1), name.name
            if isinstance(whole, list):
                assert part[0] == pytest.approx(whole[n])
            elif whole.dtype.kind in "OUS":
                assert part[:1].tolist() == whole[n : n + 1].tolist()
            else:
                np.testing.assert_allclose(part[0], whole[n], rtol=1e-4, atol=1e-5)


def written(text: str, opset: int = 17, **constants: Any) -> onnx.ModelProto:
    """Build a model from ``(float[N,4] x) => (y) { y = Relu(x) }`` in onnx's own notation.

    A constant is a tuple (shape of random weights), or an array or list of values.
    """
    graph = onnx.parser.parse_graph(f"net {text}")
    graph.initializer.extend(
        weights(name, *value) if isinstance(value, tuple) else constant(name, value)
        for name, value in constants.items()
    )
    return model(graph.node, graph.input, graph.output, graph.initializer, opset=opset)
