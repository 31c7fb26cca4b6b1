"""Numbers and tuples outside tensors: computed when the file is read, or while the model runs."""

from __future__ import annotations

import math
import operator as python
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.errors import LoadError
from tests.unit.formats.mindir.mindir_files import Net, run_net, tensor
from tests.unit.formats.mindir.mindir_files import pb as mindir
from tests.unit.formats.mindir.one_node import agrees, floats

ARITHMETIC: dict[str, Any] = {
    "ScalarAdd": python.add, "ScalarSub": python.sub, "ScalarMul": python.mul,
    "ScalarDiv": python.truediv, "ScalarFloorDiv": python.floordiv, "ScalarMod": python.mod,
    "ScalarMax": max, "ScalarMin": min, "ScalarPow": python.pow,
}  # fmt: skip
COMPARED: dict[str, Any] = {
    "ScalarEq": python.eq, "ScalarLt": python.lt, "ScalarLe": python.le, "ScalarGt": python.gt,
    "ScalarGe": python.ge, "scalar_gt": python.gt,
}  # fmt: skip


class Numbers:
    """A net on x of varying lengths, with numbers that are stated as such."""

    def __init__(self) -> None:
        self.net = Net()
        self.x = self.net.input("x", "float32", (-1, -1))
        self.shape = self.net.op("Shape", [self.x], None)

    def length(self, axis: int) -> str:
        return self.net.op("TupleGetItem", [self.shape, self.net.constant(axis)], None)

    def number(self, operator: str, *given: str, dtype: str = "int64") -> str:
        made = self.net.op(operator, given, None)
        node = self.net.graph.node[-1]
        stated = node.attribute.add(name="shape", type=mindir.AttributeProto.SCALAR)
        stated.tensors.append(tensor((dtype, (0,))))
        return made

    def result(self, folder: Path, value: str, dtype: str, x: Any) -> Any:
        made = self.net.op("ScalarToTensor", [value, self.net.constant(43)], (dtype, ()))
        self.net.output(made)
        (found,) = run_net(self.net, folder, x)
        return found


@pytest.mark.parametrize(
    ("operator", "second"),
    [(o, n) for o in sorted(ARITHMETIC) for n in (2, -2, 3) if o != "ScalarPow" or n > 0],
)
def test_arithmetic_on_lengths_is_pythons(tmp_path: Path, operator: str, second: int) -> None:
    expected = ARITHMETIC[operator](5, second)
    dtype = "float32" if isinstance(expected, float) else "int64"
    for is_known in (False, True):
        numbers = Numbers()
        first = numbers.net.constant(5) if is_known else numbers.length(0)
        made = numbers.number(operator, first, numbers.net.constant(second), dtype=dtype)
        found = numbers.result(tmp_path, made, dtype, floats(5, 2))
        assert (found.dtype, found.shape) == (np.dtype(dtype), ())
        assert found == np.float32(expected)


@pytest.mark.parametrize("operator", ["ScalarFloorDiv", "ScalarMod"])
@pytest.mark.parametrize("second", [2.5, -2.5])
def test_arithmetic_with_fractions_rounds_down(
    tmp_path: Path, operator: str, second: float
) -> None:
    numbers = Numbers()
    made = numbers.number(
        operator, numbers.length(0), numbers.net.constant(second), dtype="float32"
    )
    found = numbers.result(tmp_path, made, "float32", floats(7, 2))
    assert found == ARITHMETIC[operator](7, second)


@pytest.mark.parametrize("length", [2, 3, 4])
@pytest.mark.parametrize("operator", sorted(COMPARED))
def test_comparison_of_lengths_is_pythons(tmp_path: Path, operator: str, length: int) -> None:
    for is_known in (False, True):
        numbers = Numbers()
        first = numbers.net.constant(length) if is_known else numbers.length(0)
        made = numbers.number(operator, first, numbers.net.constant(3), dtype="bool")
        found = numbers.result(tmp_path, made, "bool", floats(length, 2))
        assert found == COMPARED[operator](length, 3)


@pytest.mark.parametrize(("operator", "function", "dtype"), [
    ("ScalarUsub", python.neg, "int64"), ("ScalarUadd", python.pos, "int64"),
    ("ScalarLog", math.log, "float32"), ("ScalarBool", bool, "bool"),
    ("ScalarBoolNot", python.not_, "bool"), ("ScalarCast", float, "float32"),
])  # fmt: skip
def test_function_of_a_length_is_pythons(
    tmp_path: Path, operator: str, function: Any, dtype: str
) -> None:
    for is_known in (False, True):
        numbers = Numbers()
        first = numbers.net.constant(4) if is_known else numbers.length(0)
        more = [numbers.net.constant(43)] if operator == "ScalarCast" else []
        made = numbers.number(operator, first, *more, dtype=dtype)
        found = numbers.result(tmp_path, made, dtype, floats(4, 2))
        assert found == np.array(function(4), dtype)


def test_reshape_by_computed_lengths(tmp_path: Path) -> None:
    numbers = Numbers()
    net = numbers.net
    both = numbers.number("ScalarMul", numbers.length(0), numbers.length(1))
    target = net.op("MakeTuple", [both, net.constant(1)], None)
    net.output(net.op("Reshape", [numbers.x, target], ("float32", (-1, -1))))
    x = floats(3, 4)
    agrees(run_net(net, tmp_path, x), x.reshape(12, 1))


def test_tuple_of_lengths_becomes_a_tensor_and_back(tmp_path: Path) -> None:
    numbers = Numbers()
    net = numbers.net
    as_tensor = net.op("TupleToTensor", [numbers.shape, net.constant(43)], ("float32", (2,)))
    back = net.op("TensorToTuple", [as_tensor], None)
    second = net.op("TupleGetItem", [back, net.constant(1)], None)
    net.output(net.op("ScalarToTensor", [second, net.constant(43)], ("float32", ())))
    agrees(run_net(net, tmp_path, floats(3, 4)), np.array(4, "float32"))


@pytest.mark.parametrize(("bounds", "expected"), [
    ((1, 4, 1), (20, 30, 40)), ((-2, 9, 1), (40, 50)), ((0, 5, 2), (10, 30, 50)),
    ((4, 0, -2), (50, 30)),
])  # fmt: skip
def test_slice_of_a_tuple_is_pythons(
    tmp_path: Path, bounds: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    net = Net()
    items = net.constant((10, 20, 30, 40, 50))
    part = net.op("SequenceSlice", [items, *[net.constant(b) for b in bounds]], None)
    net.output(net.op("TupleToTensor", [part, net.constant(35)], ("int64", (len(expected),))))
    agrees(run_net(net, tmp_path), np.array(expected))


def test_tuples_are_added_repeated_counted_and_asked_for_items(tmp_path: Path) -> None:
    net = Net()
    items = net.op("SequenceAdd", [net.constant((1, 2)), net.constant((3,))], None)
    items = net.op("SequenceMul", [items, net.constant(2)], None)
    length = net.op("SequenceLen", [items], None)
    fifth = net.op("RealTupleGetItem", [items, net.constant(-2)], None)
    both = net.op("MakeTuple", [length, fifth], None)
    net.output(net.op("TupleToTensor", [both, net.constant(35)], ("int64", (2,))))
    agrees(run_net(net, tmp_path), np.array([6, 2]))


def test_tuple_that_would_never_end_is_refused(tmp_path: Path) -> None:
    net = Net()
    many = net.op("SequenceMul", [net.constant((1, 2)), net.constant(1 << 40)], None)
    net.output(net.op("TupleToTensor", [many, net.constant(35)], ("int64", (-1,))))
    with pytest.raises(LoadError, match="repeats a tuple"):
        run_net(net, tmp_path)


def test_element_of_a_tensor_becomes_a_number(tmp_path: Path) -> None:
    numbers = Numbers()
    net = numbers.net
    as_tensor = net.op("ScalarToTensor", [numbers.length(0), net.constant(35)], ("int64", ()))
    back = numbers.number("TensorToScalar", as_tensor)
    zero, one = net.constant(0), net.constant(1)
    net.output(net.op("Range", [zero, back, one], ("int64", (-1,)), maxlen=1000))
    agrees(run_net(net, tmp_path, floats(5, 2)), np.arange(5))


@pytest.mark.parametrize("less", [1, 2])
def test_slice_ends_at_a_computed_length(tmp_path: Path, less: int) -> None:
    numbers = Numbers()
    net = numbers.net
    last = numbers.number("ScalarSub", numbers.length(0), net.constant(less))
    zero, one = net.constant(0), net.constant((1, 1))
    begin = net.op("MakeTuple", [zero, zero], None)
    end = net.op("MakeTuple", [last, net.constant(3)], None)
    net.output(net.op("StridedSlice", [numbers.x, begin, end, one], ("float32", (-1, -1))))
    x = floats(5, 4)
    agrees(run_net(net, tmp_path, x), x[:-less, :3])


@pytest.mark.parametrize("back", [1, 3])
def test_slice_takes_one_row_at_a_computed_place(tmp_path: Path, back: int) -> None:
    numbers = Numbers()
    net = numbers.net
    place = numbers.number("ScalarSub", numbers.length(1), net.constant(4 + back))
    begin = net.op("MakeTuple", [place], None)
    net.output(
        net.op(
            "StridedSlice", [numbers.x, begin, begin, net.constant((1,))], ("float32", (-1,)),
            begin_mask=0, end_mask=0, ellipsis_mask=0, new_axis_mask=0, shrink_axis_mask=1,
        )
    )  # fmt: skip
    x = floats(5, 4)
    agrees(run_net(net, tmp_path, x), x[-back])


def test_slice_begins_at_the_elements_of_a_tensor(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", "float32", (4, 5))
    begin = net.input("begin", "int32", (2,))
    end, steps = net.constant((4, 5)), net.constant((1, 2))
    net.output(net.op("StridedSlice", [x, begin, end, steps], ("float32", (-1, -1))))
    given = floats(4, 5)
    found = run_net(net, tmp_path, given, np.array([2, 1], "int32"))
    agrees(found, given[2:, 1::2])


def test_tensor_is_broadcast_to_computed_lengths(tmp_path: Path) -> None:
    numbers = Numbers()
    net = numbers.net
    target = net.op("MakeTuple", [numbers.length(0), net.constant(2), net.constant(-1)], None)
    row = net.constant(np.array([[1, 2, 3]], "float32"))
    net.output(net.op("BroadcastTo", [row, target], ("float32", (-1, 2, 3))))
    expected = np.broadcast_to(np.array([1, 2, 3], "float32"), (5, 2, 3))
    agrees(run_net(net, tmp_path, floats(5, 1)), expected)
