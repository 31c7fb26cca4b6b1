"""Graphs with parts inside: functions of the model's own, branches and loops; and odd inputs."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

from serving.formats.batch_axis import prove
from tests.unit.formats.nets import model, node, rows_agree, tensor, weights, written

HEAD = '<ir_version: 8, opset_import: ["" : 17, "local" : 1]>\n'
ROWS = np.random.default_rng(1).standard_normal((3, 4)).astype("float32")


def branch(name: str, text: str) -> onnx.GraphProto:
    graph = onnx.parser.parse_graph(f"{name} {text}")
    graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return graph


def chosen(condition: str, then: str, other: str) -> onnx.ModelProto:
    """Return x plus the outcome of an If whose branches are given."""
    nodes = [
        node("If", [condition], ["c"], "gate", then_branch=branch("t", then),
             else_branch=branch("e", other)),
        node("Add", ["x", "c"], ["y"]),
    ]  # fmt: skip
    inputs = [tensor("x", ["N", 4]), tensor("flag", [], onnx.TensorProto.BOOL)]
    return model(nodes, inputs, [tensor("y", ["N", 4])], [weights("w", 4), weights("v", 4)])


def test_functions_of_the_model_are_unfolded() -> None:
    net = onnx.parser.parse_model(
        HEAD + "net (float[N,4] x) => (float[N,4] y) { y = local.soft(x) }\n"
        '<domain: "local", opset_import: ["" : 17]> soft (a) => (b) { b = Softmax<axis=1>(a) }'
    )
    assert prove(net).batched
    rows_agree(net, {"x": ROWS})


def test_functions_that_mix_rows_are_found_out() -> None:
    net = onnx.parser.parse_model(
        HEAD + "net (float[N,4] x) => (float[N,4] y) { y = local.soft(x) }\n"
        '<domain: "local", opset_import: ["" : 17]> soft (a) => (b) { b = Softmax<axis=0>(a) }'
    )
    assert "normalises over axis 0, the batch" in prove(net).reason


def test_branch_that_is_free_of_the_batch_is_free() -> None:
    net = chosen("flag", "() => (float[4] r) { r = Neg(w) }", "() => (float[4] s) { s = Abs(v) }")
    proof = prove(net)
    assert proof.batched, proof.reason
    assert proof.inputs == (0, None)
    rows_agree(net, {"x": ROWS, "flag": np.array(True)})


def test_branch_that_hands_the_batch_through_is_refused() -> None:
    net = chosen("flag", "() => (float[4] r) { r = Neg(w) }", "() => (float[4] s) { s = Abs(v) }")
    inner = net.graph.node[0].attribute[0].g
    nested = node(
        "If", ["flag"], ["nested"], then_branch=onnx.GraphProto(name="a"),
        else_branch=onnx.GraphProto(name="b"),
    )  # fmt: skip
    for attribute in nested.attribute:
        attribute.g.output.append(tensor("x", ["N", 4]))
    inner.node.append(nested)
    assert "under its own control" in prove(net).reason


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        ("() => (float[4] r) { r = ReduceMax<axes=[0],keepdims=0>(x) }", "under its own control"),
        ("() => (float[4] r) { q = RandomUniformLike(w) r = Add(q, w) }", "draws random numbers"),
        ("() => (float[4] r) { r = com.acme.Mystery(w) }", "that the proof does not know"),
    ],
)
def test_branch_that_touches_the_batch_or_chance_is_refused(then: str, reason: str) -> None:
    proof = prove(chosen("flag", then, "() => (float[4] s) { s = Abs(v) }"))
    assert "node 'gate' (If)" in proof.reason
    assert reason in proof.reason


def test_scalar_input_is_shared_by_the_rows() -> None:
    net = written("(float[batch,4] x, float scale) => (y) { y = Mul(x, scale) }")
    proof = prove(net)
    assert (proof.inputs, proof.outputs) == ((0, None), (0,))
    rows_agree(net, {"x": ROWS, "scale": np.array(2.5, "float32")})


@pytest.mark.parametrize("name", ["", "?", "unk__749", "p2o.DynamicDimension.3"])
def test_made_up_names_of_first_axes_do_not_differ(name: str) -> None:
    net = written("(float[batch,4] x, float[other,4] z) => (y) { y = Add(x, z) }")
    net.graph.input[1].type.tensor_type.shape.dim[0].dim_param = name
    assert prove(net).batched


def test_input_without_a_rank_is_refused_by_name() -> None:
    net = model([node("Relu", ["x"], ["y"])], [tensor("x", None)], ["y"])
    assert prove(net).reason == "input 'x' has no declared rank"


def test_declared_shapes_of_outputs_are_not_believed() -> None:
    net = written("(float[N,4] x) => (float[7,9,1] y) { y = Relu(x) }")
    assert prove(net).batched


def test_graph_out_of_order_is_refused() -> None:
    net = written("(float[N,4] x) => (y) { y = Relu(a) a = Neg(x) }")
    assert "before any node has made it" in prove(net).reason


def test_proof_leaves_the_model_as_it_was() -> None:
    net = written("(float[N,4] x) => (float[N,2] y) { y = MatMul(x, w) }", w=(4, 2))
    net.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    before = net.SerializeToString()
    assert prove(net).batched
    assert net.SerializeToString() == before
