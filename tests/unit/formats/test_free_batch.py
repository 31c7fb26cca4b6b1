"""A fixed first axis is freed: equal at the old length, row by row at others, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from serving.formats.batch_axis import prove
from serving.formats.batch_axis.step import Refusal
from serving.formats.free_batch import AXIS, freed

LENGTH = 4
RANDOM = np.random.default_rng(3)


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, ...]],
    constants: dict[str, np.ndarray[Any, Any]],
    rank: int = 2,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [LENGTH, *[None] * (rank - 1)])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def run(made: onnx.ModelProto, **inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(made.SerializeToString(), options)
    (answer,) = session.run(None, inputs)
    found: np.ndarray[Any, Any] = answer
    return found


def shape(*lengths: int) -> np.ndarray[Any, Any]:
    return np.array(lengths, np.int64)


def floats(*lengths: int) -> np.ndarray[Any, Any]:
    return RANDOM.standard_normal(lengths).astype(np.float32)


N = helper.make_node
W = floats(6, 5)
TARGETS = {
    "flatten": (shape(LENGTH, 6), shape(LENGTH * 2, 3)),
    "rest": (shape(LENGTH, -1), shape(LENGTH, 6)),
    "merged": (shape(LENGTH * 2, 3), shape(LENGTH, 6)),
}


def attention(scale: np.ndarray[Any, Any], first: Any, second: Any) -> onnx.ModelProto:
    return model(
        [
            N("Reshape", ["x", "first"], ["a"]),
            N("Reshape", ["a", "second"], ["b"]),
            N("Reshape", ["b", "flat"], ["c"]),
            N("MatMul", ["c", "w"], ["d"]),
            N("Mul", ["d", "scale"], ["y"]),
        ],
        {"x": (LENGTH, 2, 3)},
        {"first": first, "second": second, "flat": shape(LENGTH, 6), "w": W, "scale": scale},
    )


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("scale", [np.full((LENGTH, 5), 2, np.float32), np.float32([[2]])])
def test_reshapes_and_equal_rows_are_freed_and_answer_as_before(name: str, scale: Any) -> None:
    made = attention(scale, *TARGETS[name])
    opened = freed(made)
    assert prove(opened).batched, prove(opened).reason
    x = floats(LENGTH, 2, 3)
    before = run(made, x=x)
    np.testing.assert_array_equal(run(opened, x=x), before)
    for rows in ([2], [3, 1, 0], [0, 1, 2, 3, 3, 3, 1]):
        np.testing.assert_allclose(run(opened, x=x[rows]), before[rows], rtol=1e-5)


def test_freed_axes_have_a_name_and_others_keep_their_lengths() -> None:
    opened = freed(attention(np.float32([[2]]), *TARGETS["flatten"]))
    dims = opened.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == [AXIS, 2, 3]
    assert opened.graph.output[0].type.tensor_type.shape.dim[0].dim_param == AXIS


def test_model_itself_is_left_as_it_was() -> None:
    made = attention(np.float32([[2]]), *TARGETS["flatten"])
    before = made.SerializeToString()
    freed(made)
    assert made.SerializeToString() == before


def test_slices_and_expansions_over_the_whole_axis_are_freed() -> None:
    made = model(
        [
            N("Slice", ["x", "starts", "ends"], ["a"]),
            N("Expand", ["a", "target"], ["b"]),
            N("ReduceSum", ["b", "axes"], ["y"], keepdims=0),
        ],
        {"x": (LENGTH, 3, 1)},
        {
            "starts": shape(0, 1), "ends": shape(LENGTH, 3),
            "target": shape(LENGTH, 2, 6), "axes": shape(1),
        },
    )  # fmt: skip
    opened = freed(made)
    assert prove(opened).batched, prove(opened).reason
    x = floats(LENGTH, 3, 1)
    before = run(made, x=x)
    np.testing.assert_array_equal(run(opened, x=x), before)
    np.testing.assert_array_equal(run(opened, x=x[[1]]), before[[1]])


def test_rows_with_numbers_of_their_own_are_not_proved() -> None:
    scale = np.arange(LENGTH * 5, dtype=np.float32).reshape(LENGTH, 5)
    proof = prove(freed(attention(scale, *TARGETS["flatten"])))
    assert not proof.batched


def test_constant_rows_that_stretch_the_axis_are_kept() -> None:
    made = model(
        [N("ReduceSum", ["x", "axes"], ["a"]), N("Add", ["a", "rows"], ["y"])],
        {"x": (LENGTH, 3)},
        {"axes": shape(0), "rows": np.ones((LENGTH, 3), np.float32)},
    )
    opened = freed(made)
    assert not prove(opened).batched
    x = floats(LENGTH, 3)
    np.testing.assert_array_equal(run(opened, x=x), run(made, x=x))


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"x": (LENGTH, 3), "z": (5, 3)}, "differ in length: 4 ('x') and 5 ('z')"),
        ({"x": (LENGTH, 3), "z": ("n", 3)}, "first axis of input 'z' is free as it is"),
        ({"x": (), "z": ()}, "no input has an axis"),
    ],
)
def test_inputs_that_do_not_agree_are_refused(inputs: Any, said: str) -> None:
    made = model([N("Identity", ["x"], ["y"])], inputs, {}, rank=1)
    with pytest.raises(Refusal) as caught:
        freed(made)
    assert said in str(caught.value)


@pytest.mark.parametrize("length", [1, LENGTH])
def test_tokens_that_a_decoder_begins_with_are_as_many_as_the_batch(length: int) -> None:
    made = model(
        [
            N("Gather", ["table", "start"], ["a"]),
            N("Reshape", ["a", "flat"], ["b"]),
            N("Concat", ["b", "x"], ["c"], axis=1),
            N("MatMul", ["c", "w"], ["y"]),
        ],
        {"x": (length, 4)},
        {
            "table": floats(7, 2), "start": np.full((length, 1), 3, np.int32),
            "flat": shape(length, 2), "w": W,
        },
    )  # fmt: skip
    made.graph.output[0].type.tensor_type.shape.dim[0].dim_value = length
    assert not prove(freed(made)).batched
    opened = freed(made, stretch=True)
    assert prove(opened).batched, prove(opened).reason
    x = floats(length, 4)
    before = run(made, x=x)
    np.testing.assert_array_equal(run(opened, x=x), before)
    many = [0] * 5
    np.testing.assert_allclose(run(opened, x=x[many]), before[many], rtol=1e-5)


def test_tokens_that_differ_from_row_to_row_are_not_stretched() -> None:
    made = model(
        [N("Gather", ["table", "start"], ["a"]), N("Concat", ["a", "x"], ["y"], axis=1)],
        {"x": (LENGTH, 3, 2)},
        {"table": floats(7, 2), "start": np.arange(LENGTH, dtype=np.int32)[:, None]},
        rank=3,
    )
    assert not prove(freed(made, stretch=True)).batched
