"""Parts and orders of tensors agree with numpy, with lengths that vary where it makes sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.errors import LoadError
from tests.unit.formats.mindir.mindir_files import RELEASES
from tests.unit.formats.mindir.one_node import Fixed, agrees, floats, like, run_node

X = floats(2, 6, 4)


def loose(expected: np.ndarray[Any, Any]) -> tuple[str, tuple[int, ...]]:
    return str(expected.dtype), (-1,) * expected.ndim


@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize(("start", "end"), [(0, -1), (1, 2), (0, 1), (-1, -1)])
def test_flatten_ext_joins_a_range_of_axes(
    tmp_path: Path, start: int, end: int, varying: bool
) -> None:
    dims = list(X.shape)
    first, last = start % 3, end % 3
    shape = [*dims[:first], int(np.prod(dims[first : last + 1])), *dims[last + 1 :]]
    expected = X.reshape(shape)
    found = run_node(
        tmp_path, "FlattenExt", [X], loose(expected), varying=varying, start_dim=start,
        end_dim=end,
    )  # fmt: skip
    agrees(found, expected)


def test_flatten_ext_of_a_number_is_a_row(tmp_path: Path) -> None:
    x = np.array(3, "float32")
    found = run_node(tmp_path, "FlattenExt", [x], ("float32", (1,)), start_dim=0, end_dim=-1)
    agrees(found, x.reshape(1))


def test_orders_of_axes_agree_with_numpy(tmp_path: Path) -> None:
    expected = np.swapaxes(X, 0, 2)
    found = run_node(tmp_path, "TransposeExtView", [X], like(expected), dim0=0, dim1=-1)
    agrees(found, expected)
    expected = X.transpose(2, 0, 1)
    agrees(run_node(tmp_path, "TransposeView", [X, Fixed((2, 0, 1))], like(expected)), expected)
    agrees(run_node(tmp_path, "TExt", [X[0]], like(X[0].T)), X[0].T)
    agrees(run_node(tmp_path, "ExpandDimsView", [X, Fixed(1)], like(X[:, None])), X[:, None])
    agrees(run_node(tmp_path, "View", [X, Fixed((4, -1))], ("float32", (4, 12))), X.reshape(4, 12))


def test_broadcast_keeps_lengths_written_as_minus_one(tmp_path: Path) -> None:
    x = floats(6, 1)
    expected = np.broadcast_to(x, (2, 6, 4))
    found = run_node(tmp_path, "BroadcastToView", [x, Fixed((2, -1, 4))], like(expected))
    agrees(found, expected)
    agrees(run_node(tmp_path, "ExpandAs", [x, X], like(X)), expected)


SPLITS: list[tuple[str, dict[str, Any], list[int]]] = [
    ("SplitTensor", {"split_size": 4, "dim": 1}, [4]),
    ("SplitTensorView", {"split_size": 3, "dim": -2}, [3]),
    ("SplitTensorView", {"split_size": 9, "dim": 1}, []),
    ("SplitWithSize", {"split_size": (1, 2, 3), "dim": 1}, [1, 3]),
    ("SplitWithSizeView", {"split_size": (6,), "dim": 1}, []),
    ("Chunk", {"chunks": 4, "dim": 1}, [2, 4]),
    ("ChunkView", {"chunks": 2, "dim": 1}, [3]),
]


@pytest.mark.parametrize(("operator", "settings", "at"), SPLITS)
def test_split_gives_every_part(
    tmp_path: Path, operator: str, settings: dict[str, Any], at: list[int]
) -> None:
    expected = np.split(X, at, 1)
    stated = [like(e) for e in expected]
    agrees(run_node(tmp_path, operator, [X], stated, **settings), *expected)


def test_split_of_a_length_that_varies_is_refused(tmp_path: Path) -> None:
    stated = [("float32", (2, -1, 4))] * 2
    with pytest.raises(LoadError, match="length varies"):
        run_node(tmp_path, "ChunkView", [X], stated, varying=True, chunks=2, dim=1)


@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize(("start", "length"), [(0, 6), (2, 3), (-2, 2), (-3, 1)])
def test_narrow_counts_from_either_end(
    tmp_path: Path, start: int, length: int, varying: bool
) -> None:
    first = start % 6
    expected = X[:, first : first + length]
    found = run_node(
        tmp_path, "NarrowView", [X], loose(expected), varying=varying, dim=1, start=start,
        length=length,
    )  # fmt: skip
    agrees(found, expected)


@pytest.mark.parametrize(("start", "end", "step"), [
    (1, 5, 2), (-4, -1, 1), (0, 99, 3), (4, 2, 1), (None, None, 1),
])  # fmt: skip
def test_slice_ext_is_pythons(tmp_path: Path, start: Any, end: Any, step: int) -> None:
    expected = X[:, start:end:step]
    found = run_node(
        tmp_path, "SliceExt", [X], like(expected), dim=1, start=start, end=end, step=step
    )
    agrees(found, expected)


@pytest.mark.parametrize("index", [0, 5, -1])
def test_select_drops_the_axis(tmp_path: Path, index: int) -> None:
    expected = X[:, index]
    agrees(run_node(tmp_path, "SelectExtView", [X], like(expected), dim=1, index=index), expected)


def test_index_select_takes_slices(tmp_path: Path) -> None:
    index = np.array([3, 0, 0], "int32")
    expected = X[:, index]
    found = run_node(tmp_path, "IndexSelect", [X, Fixed(1), index], like(expected))
    agrees(found, expected)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_stack_and_unstack_are_each_others_inverse(tmp_path: Path, dim: int) -> None:
    parts = [floats(2, 3) for _ in range(3)]
    expected = np.stack(parts, dim)
    agrees(run_node(tmp_path, "StackExt", [parts], like(expected), dim=dim), expected)
    stated = [like(p) for p in parts]
    agrees(run_node(tmp_path, "UnstackExtView", [expected], stated, dim=dim), *parts)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("axes", [(1,), (0, -1), (0, 1, 2), ()])
def test_reverse_agrees_with_numpy(tmp_path: Path, release: str, axes: tuple[int, ...]) -> None:
    expected = np.flip(X, axes)
    agrees(run_node(tmp_path, "ReverseV2", [X], like(X), release, axis=axes), expected)


@pytest.mark.parametrize(("shifts", "dims"), [
    ((1,), (1,)), ((-2, 7), (0, 1)), ((0,), (2,)), ((5,), ()),
])  # fmt: skip
def test_roll_agrees_with_numpy(
    tmp_path: Path, shifts: tuple[int, ...], dims: tuple[int, ...]
) -> None:
    expected = np.roll(X, shifts, dims) if dims else np.roll(X, shifts[0])
    found = run_node(tmp_path, "Roll", [X], like(X), shifts=shifts, dims=dims or None)
    agrees(found, expected)
    found = run_node(tmp_path, "Roll", [X], like(X), "2.0", shift=shifts, axis=dims)
    agrees(found, expected)


@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("dim", [1, -1, None])
@pytest.mark.parametrize("repeats", [1, 3])
def test_repeat_interleave_agrees_with_numpy(
    tmp_path: Path, dim: int | None, repeats: int, varying: bool
) -> None:
    expected = np.repeat(X, repeats, dim)
    found = run_node(
        tmp_path, "RepeatInterleaveInt", [X], loose(expected), varying=varying, repeats=repeats,
        dim=dim, output_size=None,
    )  # fmt: skip
    agrees(found, expected)


def test_repeat_interleave_takes_a_count_for_each_slice(tmp_path: Path) -> None:
    repeats = np.array([2, 0, 1, 0, 0, 3])
    expected = np.repeat(X, repeats, 1)
    found = run_node(
        tmp_path, "RepeatInterleaveTensor", [X, repeats], loose(expected), dim=1, output_size=None
    )
    agrees(found, expected)


def test_repeat_tiles_new_axes_in_front(tmp_path: Path) -> None:
    expected = np.tile(X[0], (3, 1, 2))
    agrees(run_node(tmp_path, "Repeat", [X[0]], like(expected), repeats=(3, 1, 2)), expected)


@pytest.mark.parametrize(("written", "word"), [(0, "ij"), (1, "xy"), ("xy", "xy")])
def test_meshgrid_agrees_with_numpy(tmp_path: Path, written: Any, word: Any) -> None:
    vectors = [floats(2), floats(3), floats(4)]
    expected = np.meshgrid(*vectors, indexing=word)
    stated = [like(e) for e in expected]
    agrees(run_node(tmp_path, "Meshgrid", [vectors], stated, indexing=written), *expected)


def test_masked_select_broadcasts_both(tmp_path: Path) -> None:
    x, mask = floats(3, 1), np.array([[True, False], [False, True], [True, True]])
    expected = np.broadcast_to(x, (3, 2))[mask]
    agrees(run_node(tmp_path, "MaskedSelect", [x, mask], ("float32", (-1,))), expected)
    found = run_node(tmp_path, "MaskedSelect", [X, np.array([True, False, True, True])], (
        "float32", (-1,)))  # fmt: skip
    agrees(found, X[..., [0, 2, 3]].reshape(-1))


def test_non_zero_gives_a_row_for_each_place(tmp_path: Path) -> None:
    x = np.array([[0, 3, 0], [1, 0, 2]], "float32")
    expected = np.argwhere(x)
    agrees(run_node(tmp_path, "NonZero", [x], ("int64", (-1, 2))), expected)
    stated = [("int64", (-1,))] * 2
    agrees(run_node(tmp_path, "NonZeroExt", [x], stated), *np.nonzero(x))
