"""Shapes, parts and places: conversions agree with numpy, for fixed and for varying lengths."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from serving.formats.mindir import operators
from serving.formats.mindir.convert import convert
from tests.unit.formats.mindir.mindir_files import RELEASES, Net, pb, run, run_net, run_one

F = "float32"
RNG = np.random.default_rng(23)


def floats(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(F)


def test_every_family_is_imported() -> None:
    folder = Path(operators.__file__).parent
    families = {p.stem for p in folder.glob("*.py")} - {"__init__"}
    assert {f for f in families if f"{operators.__name__}.{f}" not in sys.modules} == set()


CHANGES: dict[str, tuple[dict[str, Any], Callable[[Any], Any]]] = {
    "Flatten": ({}, lambda x: x.reshape(2, -1)),
    "ExpandDims": ({"axis": -1}, lambda x: x[..., None]),
    "Squeeze": ({"axis": (1,)}, lambda x: x[:, 0]),
    "Transpose": ({"perm": (2, -4, 1, 3)}, lambda x: x.transpose(2, 0, 1, 3)),
    "Reshape": ({"shape": (4, -1)}, lambda x: x.reshape(4, -1)),
    "BroadcastTo": ({"shape": (5, 2, 3, -1, 4)}, lambda x: np.broadcast_to(x, (5, 2, 3, 6, 4))),
}


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("operator", sorted(CHANGES))
def test_change_of_shape_agrees_with_numpy(tmp_path: Path, release: str, operator: str) -> None:
    settings, function = CHANGES[operator]
    x = floats(2, 1, 6, 4)
    want = function(x)
    (y,) = run_one(tmp_path, release, operator, [x], (F, want.shape), **settings)
    np.testing.assert_array_equal(y, want)


def test_squeeze_without_axes_drops_every_one(tmp_path: Path) -> None:
    x = floats(1, 3, 1)
    (y,) = run_one(tmp_path, "2.0", "Squeeze", [x], (F, (3,)), axis=())
    np.testing.assert_array_equal(y, x.reshape(3))


def test_reshape_to_nothing_keeps_a_length_of_zero(tmp_path: Path) -> None:
    x = floats(0, 4)
    (y,) = run_one(tmp_path, "2.10", "Reshape", [x], (F, (2, 0)), shape=(2, 0))
    assert y.shape == (2, 0)


@pytest.mark.parametrize("release", RELEASES)
def test_concat_joins_a_tuple_in_the_outputs_type(tmp_path: Path, release: str) -> None:
    x, y = floats(2, 3), floats(2, 1)
    net = Net(release)
    given = [net.input("x", F, x.shape), net.input("y", F, y.shape)]
    pair = net.op("MakeTuple", given, [(F, x.shape), (F, y.shape)])
    net.output(net.op("Concat", [pair], (F, (2, 4)), axis=-1))
    np.testing.assert_array_equal(run_net(net, tmp_path, x, y)[0], np.concatenate([x, y], -1))


def test_shape_of_a_varying_tensor_is_computed(tmp_path: Path) -> None:
    """Write ``x.reshape(x.shape[0], 2, 3)``, the first length not fixed."""
    net = Net()
    x = net.input("x", F, (-1, 6))
    lengths = net.op("Shape", [x], None)
    stated = net.graph.node[-1].attribute.add(name="shape", type=pb.AttributeProto.TUPLE)
    for _ in range(2):
        scalar = stated.values.add(type=pb.AttributeProto.SCALAR)
        scalar.tensors.add(data_type=7, dims=[0])
    length = net.op("TupleGetItem", [lengths, net.constant(0)], None)
    target = net.op("MakeTuple", [length, net.constant(2), net.constant(3)], None)
    net.output(net.op("Reshape", [x, target], (F, (-1, 2, 3))))
    path = net.save(tmp_path / "m.mindir")
    for rows in (1, 5):
        values = floats(rows, 6)
        np.testing.assert_array_equal(run(path, values)[0], values.reshape(rows, 2, 3))


def test_shape_of_a_fixed_tensor_is_constant(tmp_path: Path) -> None:
    net = Net()
    x, y = net.input("x", F, (2, 6)), net.input("y", F, (12,))
    shape = net.op("Shape", [x], None)
    net.output(net.op("Reshape", [y, shape], (F, (2, 6))))
    path = net.save(tmp_path / "m.mindir")
    assert [n.op_type for n in convert(path).model.graph.node] == ["Reshape", "Identity"]


@pytest.mark.parametrize("release", RELEASES)
def test_split_gives_equal_parts(tmp_path: Path, release: str) -> None:
    x = floats(2, 6)
    parts = run_one(tmp_path, release, "Split", [x], [(F, (2, 2))] * 3, axis=1, output_num=3)
    for part, want in zip(parts, np.split(x, 3, 1), strict=True):
        np.testing.assert_array_equal(part, want)


def test_split_into_one_part_gives_a_tuple_of_it(tmp_path: Path) -> None:
    x = floats(2, 6)
    (y,) = run_one(tmp_path, "2.0", "Split", [x], [(F, (2, 6))], axis=1, output_num=1)
    np.testing.assert_array_equal(y, x)


def test_split_v_gives_parts_of_stated_lengths(tmp_path: Path) -> None:
    x = floats(2, 6)
    settings = {"size_splits": (1, 3, 2), "split_dim": 1, "num_split": 3}
    stated: Any = [(F, (2, n)) for n in (1, 3, 2)]
    parts = run_one(tmp_path, "2.0", "SplitV", [x], stated, settings)
    for part, want in zip(parts, np.split(x, [1, 4], 1), strict=True):
        np.testing.assert_array_equal(part, want)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_takes_slices_along_an_axis(tmp_path: Path, axis: int) -> None:
    x, indices = floats(4, 3), np.array([[2, 0], [1, 1]], "int32")
    want = x.take(indices, axis)
    net = Net("2.0")
    given = [net.weight("t", x), net.input("i", "int32", (2, 2)), net.constant(axis)]
    net.output(net.op("Gather", given, (F, want.shape), {"batch_dims": 0}))
    np.testing.assert_array_equal(run_net(net, tmp_path, indices)[0], want)


def test_gather_nd_takes_places_of_any_whole_type(tmp_path: Path) -> None:
    x, indices = floats(3, 4), np.array([[0, 1], [2, 3]], "int32")
    (y,) = run_one(tmp_path, "2.10", "GatherNd", [x, indices], (F, (2,)))
    np.testing.assert_array_equal(y, x[indices[:, 0], indices[:, 1]])


def test_gather_d_takes_one_element_for_each_place(tmp_path: Path) -> None:
    x, indices = floats(3, 4), np.array([[0, 3], [1, 1], [2, 0]], "int32")
    net = Net()
    given = [net.input("x", F, x.shape), net.constant(1), net.input("i", "int32", (3, 2))]
    net.output(net.op("GatherD", given, (F, (3, 2))))
    want = np.take_along_axis(x, indices.astype("int64"), 1)
    np.testing.assert_array_equal(run_net(net, tmp_path, x, indices)[0], want)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("keep", [False, True])
def test_arg_max_with_value_gives_place_and_value(tmp_path: Path, release: str, keep: bool) -> None:
    x = floats(3, 4)
    shape = (3, 1) if keep else (3,)
    stated: Any = [("int32", shape), (F, shape)]
    place, value = run_one(
        tmp_path, release, "ArgMaxWithValue", [x], stated, axis=1, keep_dims=keep
    )
    np.testing.assert_array_equal(place, x.argmax(1, keepdims=keep).astype("int32"))
    np.testing.assert_array_equal(value, x.max(1, keepdims=keep))


@pytest.mark.parametrize(("operator", "function"), [("ReduceAll", np.all), ("ReduceAny", np.any)])
@pytest.mark.parametrize("axis", [(), (1,)])
def test_reduction_of_truth_agrees_with_numpy(
    tmp_path: Path, operator: str, function: Any, axis: tuple[int, ...]
) -> None:
    x = np.array([[True, True, True], [False, True, False], [False, False, False]])
    want = np.asarray(function(x, axis=axis or None))
    net = Net()
    given = [net.input("x", "bool", x.shape), net.constant(axis)]
    net.output(net.op(operator, given, ("bool", want.shape), keep_dims=False))
    np.testing.assert_array_equal(run_net(net, tmp_path, x)[0], want)


def test_select_takes_the_types_of_its_output(tmp_path: Path) -> None:
    condition = np.array([True, False, True])
    x, y = floats(3), floats(3)
    (z,) = run_one(tmp_path, "2.10", "Select", [condition, x, y], (F, (3,)))
    np.testing.assert_array_equal(z, np.where(condition, x, y))


@pytest.mark.parametrize(
    ("source", "target"), [("float32", "int32"), ("int32", "float16"), ("bool", "float32")]
)
def test_cast_goes_by_the_stated_output(tmp_path: Path, source: str, target: str) -> None:
    x = np.array([0, 1, 1, 0, 1], source) if source == "bool" else (floats(5) * 9).astype(source)
    (y,) = run_one(tmp_path, "2.10", "Cast", [x], (target, (5,)), dst_type=43)
    np.testing.assert_array_equal(y, x.astype(target))
    assert y.dtype == target
