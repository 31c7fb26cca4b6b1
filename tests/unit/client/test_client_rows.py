"""Rows are stacked into as few requests as may be, and their answers cut apart in order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serving.client import rows
from serving.client.prediction import Prediction, objects
from serving.errors import InternalError, InvalidRequest
from serving.request import Description
from serving.tensor import BY_NAME, BatchAxes, Dim, Signature, Tensor, TensorSpec


def servable(
    *inputs: tuple[str, tuple[Dim, ...] | None, int | None],
    output_axis: int | None = 0,
    batched: bool = True,
    most: int = 32,
) -> Description:
    specs = tuple(
        TensorSpec(f"x{i}", BY_NAME[dtype], shape) for i, (dtype, shape, _) in enumerate(inputs)
    )
    axes = BatchAxes(True, "shown", tuple(a for _, _, a in inputs), (output_axis,))
    output = TensorSpec("y", BY_NAME["FP32"], None)
    batch = axes if batched else BatchAxes.refused("made up")
    return Description("m", 1, Signature(specs, (output,)), batch, most if batched else 0, "p")


def echo(groups: list[rows.Group], at: int = 0) -> list[Prediction]:
    """Answer every request with one of its inputs."""
    return [Prediction("m", 1, "", {"y": _array(sent.inputs[at])}) for sent in groups]


def _array(tensor: Tensor) -> Any:
    if tensor.array is None:
        return objects([item.decode() for item in tensor.items or ()], tensor.shape)
    return tensor.array


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rows_come_back_in_order_whatever_the_axis(axis: int) -> None:
    shape: list[Dim] = [2, 3]
    shape.insert(axis, "n")
    known = servable(("FP32", tuple(shape), axis), output_axis=axis, most=4)
    given = [np.full((2, 3), i, np.float32) for i in range(10)]
    groups = rows.group(given, known)
    assert [len(sent.places) for sent in groups] == [4, 4, 2]
    assert groups[0].inputs[0].shape[axis] == 4
    back = rows.join(groups, echo(groups), known)
    np.testing.assert_array_equal([row["y"] for row in back], given)


def test_rows_of_several_shapes_go_apart_and_come_back_in_order() -> None:
    known = servable(("INT64", ("n", "width"), 0))
    given = [[1], [2, 2], [3], [], [4, 4]]
    groups = rows.group(given, known)
    assert [sent.places for sent in groups] == [(0, 2), (1, 4), (3,)]
    assert [row["y"].tolist() for row in rows.join(groups, echo(groups), known)] == given


def test_text_rows_are_stacked() -> None:
    known = servable(("BYTES", ("n", 2), 0))
    groups = rows.group([["a", "b"], ["c", "é"]], known)
    (sent,) = groups
    assert sent.inputs[0].shape == (2, 2)
    assert sent.inputs[0].items == [b"a", b"b", b"c", "é".encode()]


def test_rows_meet_only_where_they_agree_on_a_shared_input() -> None:
    known = servable(("FP32", ("n",), 0), ("FP32", (), None))
    given = [{"x0": 1, "x1": 5}, {"x0": 2, "x1": 6}, {"x0": 3, "x1": 5}]
    groups = rows.group(given, known)
    assert [sent.places for sent in groups] == [(0, 2), (1,)]
    assert [sent.inputs[1].shape for sent in groups] == [(), ()]


def test_rows_of_a_servable_without_batching_go_alone() -> None:
    known = servable(("FP32", (2,), None), batched=False, output_axis=None)
    groups = rows.group([[1, 2], [1, 2]], known)
    assert [sent.places for sent in groups] == [(0,), (1,)]
    assert rows.join(groups, echo(groups), known)[1]["y"].tolist() == [1, 2]


def test_no_rows_make_no_request() -> None:
    known = servable(("FP32", ("n",), 0))
    assert rows.group([], known) == []
    assert rows.join([], [], known) == []


@pytest.mark.parametrize(
    ("row", "code", "where"),
    [
        ({"x0": [1, 2]}, "missing_input", "rows[1]"),
        ({"x0": [1, 2], "x1": [1, 2], "y": 1}, "unknown_input", "rows[1]"),
        ({"x0": [[1, 2]], "x1": [1, 2]}, "wrong_rank", "rows[1].x0"),
        ({"x0": ["a", "b"], "x1": [1, 2]}, "wrong_dtype", "rows[1].x0"),
        (([1, 2],), "wrong_count", "rows[1]"),
    ],
)
def test_a_wrong_row_is_named(row: Any, code: str, where: str) -> None:
    known = servable(("FP32", ("n", 2), 0), ("FP32", ("n", 2), 0))
    with pytest.raises(InvalidRequest) as refused:
        rows.group([([1, 2], [3, 4]), row], known)
    assert (refused.value.code, refused.value.where) == (code, where)


def test_an_answer_with_another_number_of_rows_is_an_error() -> None:
    known = servable(("FP32", ("n",), 0))
    groups = rows.group([1.0, 2.0], known)
    wrong = [Prediction("m", 1, "", {"y": np.zeros(3, np.float32)})]
    with pytest.raises(InternalError):
        rows.join(groups, wrong, known)
