"""Lower precision: which operators run in it, and that answers stay near those of FP32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from serving.building.tensorrt_casting import Casting
from tests import models
from tests.models.graph import build, save, value

node = helper.make_node


def cast(path: Path, lower: str = "fp16") -> tuple[onnx.ModelProto, Casting]:
    model = onnx.load(path)
    casting = Casting(model, lower)
    casting.run()
    if lower == "fp16":  # ONNX's schemas allow BF16 only since opset 22, TensorRT's parser always
        onnx.checker.check_model(model, full_check=True)
    return model, casting


def run(model: onnx.ModelProto, **inputs: Any) -> list[Any]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


def types(model: onnx.ModelProto) -> dict[str, int]:
    """Return element types of all values, by name."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    infos = (*inferred.input, *inferred.output, *inferred.value_info)
    stored = {tensor.name: tensor.data_type for tensor in inferred.initializer}
    return {**stored, **{info.name: info.type.tensor_type.elem_type for info in infos}}


def operators(model: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in model.graph.node]


@pytest.mark.parametrize("lower", ["fp16", "bf16"])
def test_cast_model_keeps_its_inputs_and_outputs(tmp_path: Path, lower: str) -> None:
    path = models.lenet(tmp_path / "m.onnx")
    before, (after, _) = onnx.load(path), cast(path, lower)
    assert list(before.graph.input) == list(after.graph.input)
    assert list(before.graph.output) == list(after.graph.output)


def test_cast_model_answers_nearly_as_before(tmp_path: Path) -> None:
    path = models.lenet(tmp_path / "m.onnx")
    model, casting = cast(path)
    image = np.random.default_rng(0).random((3, 1, 32, 32), np.float32)
    (wide,), (low,) = run(onnx.load(path), image=image), run(model, image=image)
    assert casting.lowered == 12
    assert operators(model).count("Cast") == 2
    assert not np.array_equal(wide, low)
    np.testing.assert_allclose(low, wide, rtol=0.02, atol=0.01)


def test_cast_transformer_answers_nearly_as_before(tmp_path: Path) -> None:
    path = models.transformer(tmp_path / "m.onnx")
    model, casting = cast(path)
    before = onnx.load(path)
    rng = np.random.default_rng(0)
    inputs = {}
    for info in before.graph.input:
        shape = [d.dim_value or 2 for d in info.type.tensor_type.shape.dim]
        kind = helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        inputs[info.name] = (
            rng.random(shape).astype(kind) if kind.kind == "f" else np.ones(shape, kind)
        )
    assert casting.lowered > 5
    for wide, low in zip(run(before, **inputs), run(model, **inputs), strict=True):
        np.testing.assert_allclose(low, wide, rtol=0.05, atol=0.02)
    kinds = types(model)
    for n in model.graph.node:
        if n.op_type in ("Softmax", "LayerNormalization"):
            assert kinds[n.input[0]] == TensorProto.FLOAT
        if n.op_type == "MatMul":
            assert {kinds[name] for name in n.input} == {TensorProto.FLOAT16}


def graph(
    path: Path, nodes: Sequence[onnx.NodeProto], constants: dict[str, Any] | None = None
) -> Path:
    ends = [value("x", "FP32", ["n", 4])], [value("y", "FP32", ["n", 4])]
    return save(build(nodes, *ends, constants), path)


def test_cast_values_are_cast_once_for_all_that_need_them(tmp_path: Path) -> None:
    eye = np.eye(4, dtype=np.float32)
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("MatMul", ["x", "w"], ["b"]),
        node("Softmax", ["a"], ["c"]),
        node("Exp", ["a"], ["d"]),
        node("Add", ["c", "d"], ["e"]),
        node("Add", ["e", "b"], ["y"]),
    ]
    model, _ = cast(graph(tmp_path / "m.onnx", nodes, {"w": eye}))
    # x down once; a up once for Softmax and Exp; b up for the sum with what stayed in FP32.
    assert operators(model).count("Cast") == 3
    given = np.array([[0.5, 1, 2, 3]], np.float32)
    (wide,) = run(onnx.load(tmp_path / "m.onnx"), x=given)
    np.testing.assert_allclose(run(model, x=given)[0], wide, rtol=0.01)


def test_cast_model_without_products_stays_as_it_is(tmp_path: Path) -> None:
    nodes = [node("Softmax", ["x"], ["s"]), node("Relu", ["s"], ["y"])]
    path = graph(tmp_path / "m.onnx", nodes)
    model, casting = cast(path)
    assert casting.lowered == 0
    assert operators(model) == ["Softmax", "Relu"]


def test_cast_constants_that_fp16_cannot_hold_are_cut_and_counted(tmp_path: Path) -> None:
    mask = np.array([0, -1e9, 1e9, -np.inf], np.float32)
    nodes = [
        node("Constant", [], ["m"], value=numpy_helper.from_array(mask)),
        node("MatMul", ["x", "w"], ["a"]),
        node("Add", ["a", "m"], ["y"]),
    ]
    path = graph(tmp_path / "m.onnx", nodes, {"w": np.eye(4, dtype=np.float32)})
    model, casting = cast(path)
    assert casting.clipped == 2
    (low,) = run(model, x=np.zeros((1, 4), np.float32))
    assert low.tolist() == [[0, -65504, 65504, -np.inf]]
    assert cast(path, "bf16")[1].clipped == 0


def test_cast_weights_are_stored_in_the_lower_type_alone(tmp_path: Path) -> None:
    model, _ = cast(models.mlp(tmp_path / "m.onnx"), "bf16")
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    assert kinds == {TensorProto.BFLOAT16}


def test_cast_bf16_weights_are_rounded_to_nearest(tmp_path: Path) -> None:
    weights = np.float32([[1.00390625, 1.01171875, 3.3895e38, -0.1]] * 4)
    nodes = [node("MatMul", ["x", "w"], ["y"])]
    model, _ = cast(graph(tmp_path / "m.onnx", nodes, {"w": weights}), "bf16")
    (tensor,) = model.graph.initializer
    bits = np.frombuffer(tensor.raw_data, np.uint16)[:4]
    # 1 + 2**-8 lies between two and goes to the even one, 1; 1 + 3 * 2**-8 to 1 + 2**-6.
    assert [hex(b) for b in bits] == ["0x3f80", "0x3f82", "0x7f7f", "0xbdcd"]


def test_cast_values_that_a_branch_reads_stay_in_fp32_for_it(tmp_path: Path) -> None:
    def branch(name: str, operator: str) -> onnx.GraphProto:
        inner = [node(operator, ["a"], [name])]
        return helper.make_graph(inner, name, [], [value(name, "FP32", ["n", 4])])

    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("If", ["flag"], ["y"], then_branch=branch("t", "Exp"), else_branch=branch("e", "Neg")),
    ]
    constants = {"w": np.eye(4, dtype=np.float32), "flag": np.array(True)}
    path = graph(tmp_path / "m.onnx", nodes, constants)
    model, casting = cast(path)
    assert casting.lowered == 1
    given = np.array([[0, 0.5, 1, 2]], np.float32)
    np.testing.assert_allclose(run(model, x=given)[0], np.exp(given), rtol=0.01)


def test_cast_leaves_integers_and_foreign_operators_alone(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Cast", ["a"], ["i"], to=TensorProto.INT32),
        node("Add", ["i", "i"], ["j"]),
        node("Cast", ["j"], ["y"], to=TensorProto.FLOAT),
    ]
    path = graph(tmp_path / "m.onnx", nodes, {"w": np.eye(4, dtype=np.float32)})
    model, casting = cast(path)
    assert casting.lowered == 1
    assert run(model, x=np.ones((1, 4), np.float32))[0].tolist() == [[2] * 4]


@pytest.mark.parametrize(("opset", "lowered"), [(17, 3), (14, 1)])
def test_cast_keeps_the_statistics_of_a_normalisation_in_fp32(
    tmp_path: Path, opset: int, lowered: int
) -> None:
    nodes = [
        node("Conv", ["x", "k"], ["c"], kernel_shape=[1, 1]),
        node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]),
        node("Relu", ["n"], ["y"]),
    ]
    ends = [value("x", "FP32", ["n", 2, 3, 3])], [value("y", "FP32", ["n", 2, 3, 3])]
    rng = np.random.default_rng(0)
    constants = {"k": rng.random((2, 2, 1, 1), np.float32)}
    constants |= {name: np.float32([0.5, 2e-6]) for name in "sbmv"}
    path = save(build(nodes, *ends, constants, opset=opset), tmp_path / "m.onnx")
    model, casting = cast(path)
    assert casting.lowered == lowered
    (norm,) = [n for n in model.graph.node if n.op_type == "BatchNormalization"]
    assert list(norm.input[1:]) == ["s", "b", "m", "v"]
    given = rng.random((2, 2, 3, 3), np.float32)
    (wide,), (low,) = run(onnx.load(path), x=given), run(model, x=given)
    np.testing.assert_allclose(low, wide, rtol=0.01, atol=1e-3)
