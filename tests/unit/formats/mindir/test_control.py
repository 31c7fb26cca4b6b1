"""Branches and loops that depend on data become If and Loop and give what Python gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from serving.errors import LoadError
from serving.formats.mindir.convert import convert
from tests.unit.formats.mindir.mindir_files import Net, run, run_net

F = "float32"
SHAPE = (2, 2)
STATED = (F, SHAPE)
BOOL = ("bool", ())


def scalar(value: float) -> np.ndarray[Any, Any]:
    return np.array(value, F)


def branch_net(both: bool = False) -> Net:
    """Write ``x * 2 if sum(x) > 0 else x - 1``; ``both`` gives a tuple, its second always x."""
    net = Net()
    for name, operator, number in (("2_yes", "Mul", 2), ("3_no", "Sub", 1)):
        net.function(name)
        x = net.input("x", *STATED)
        result = net.op(operator, [x, net.constant(scalar(number))], STATED)
        net.output(net.op("MakeTuple", [result, x], [STATED, STATED]) if both else result)
    net.graph = net.model.graph
    x = net.input("x", *STATED)
    total = net.op("ReduceSum", [x, net.constant(())], (F, ()), keep_dims=False, skip_mode=False)
    condition = net.op("Greater", [total, net.constant(scalar(0))], BOOL)
    sides = [net.op("Partial", [name, x], None) for name in ("2_yes", "3_no")]
    chosen = net.op("Switch", [condition, *sides], None)
    net.output(net.call(chosen, [], STATED))
    return net


def test_branch_gives_the_side_that_the_data_choose(tmp_path: Path) -> None:
    path = branch_net().save(tmp_path / "m.mindir")
    x = np.array([[1, 2], [3, 4]], F)
    np.testing.assert_array_equal(run(path, x)[0], x * 2)
    np.testing.assert_array_equal(run(path, -x)[0], -x - 1)


def test_branch_gives_only_what_differs(tmp_path: Path) -> None:
    path = branch_net(both=True).save(tmp_path / "m.mindir")
    x = np.array([[1, 2], [3, 4]], F)
    first, second = run(path, x)
    np.testing.assert_array_equal(first, x * 2)
    np.testing.assert_array_equal(second, x)
    (node,) = [n for n in convert(path).model.graph.node if n.op_type == "If"]
    assert len(node.output) == 1


def loop_net(inner: bool = False) -> Net:
    """Write ``while i < n: x = x @ w (+ 1 if its sum is below 0); i += 1``."""
    net = Net()
    w = net.weight("w", np.array([[0.5, 1], [-1, 0.5]], F))
    net.function("2_head")
    i, n = net.input("i", "int32", ()), net.input("n", "int32", ())
    x, weight = net.input("x", *STATED), net.input("w", *STATED)
    condition = net.op("Less", [i, n], BOOL)
    sides = [
        net.op("Partial", ["3_body", i, n, x, weight], None),
        net.op("Partial", ["4_out", x], None),
    ]
    net.output(net.call(net.op("Switch", [condition, *sides], None), [], STATED))
    net.function("3_body")
    i, n = net.input("i", "int32", ()), net.input("n", "int32", ())
    x, weight = net.input("x", *STATED), net.input("w", *STATED)
    product = net.op("MatMul", [x, weight], STATED, transpose_a=False, transpose_b=False)
    i = net.op("Add", [i, net.constant(np.array(1, "int32"))], ("int32", ()))
    if inner:
        total = net.op("ReduceSum", [product, net.constant(())], (F, ()))
        below = net.op("Less", [total, net.constant(scalar(0))], BOOL)
        sides = [
            net.op("Partial", [name, i, n, product, weight], None) for name in ("5_add", "2_head")
        ]
        net.output(net.call(net.op("Switch", [below, *sides], None), [], STATED))
        net.function("5_add")
        i, n = net.input("i", "int32", ()), net.input("n", "int32", ())
        x, weight = net.input("x", *STATED), net.input("w", *STATED)
        product = net.op("Add", [x, net.constant(scalar(1))], STATED)
    net.output(net.call("2_head", [i, n, product, weight], STATED))
    net.function("4_out")
    x = net.input("x", *STATED)
    net.output(net.op("Neg", [x], STATED))
    net.graph = net.model.graph
    x, n = net.input("x", *STATED), net.input("n", "int32", ())
    start = net.constant(np.array(0, "int32"))
    net.output(net.call("2_head", [start, n, x, w], STATED))
    return net


def looped(x: np.ndarray[Any, Any], n: int, inner: bool) -> np.ndarray[Any, Any]:
    w = np.array([[0.5, 1], [-1, 0.5]], F)
    for _ in range(n):
        x = x @ w
        if inner and x.sum() < 0:
            x = x + 1
    return -x


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("turns", [0, 1, 2, 7])
def test_loop_runs_as_often_as_the_data_say(tmp_path: Path, turns: int, inner: bool) -> None:
    path = loop_net(inner=inner).save(tmp_path / "m.mindir")
    x = np.array([[1, -2], [3, -4]], F)
    (y,) = run(path, x, np.array(turns, "int32"))
    np.testing.assert_allclose(y, looped(x, turns, inner), rtol=1e-6)


def test_loop_carries_only_what_changes(tmp_path: Path) -> None:
    model = convert(loop_net().save(tmp_path / "m.mindir")).model
    (node,) = [n for n in model.graph.node if n.op_type == "Loop"]
    body = onnx.helper.get_node_attr_value(node, "body")
    # The turn and the condition, then i and x; n and the weight are read from outside.
    assert len(body.input) == 4
    assert not any("w" in name for name in node.input)


def test_loop_left_from_its_middle_is_refused(tmp_path: Path) -> None:
    net = loop_net(inner=True)
    add = next(f for f in net.model.functions if f.name == "5_add")
    del add.output[:]
    add.output.add(name=f"{add.name}:x")
    with pytest.raises(LoadError, match="leaves a loop"):
        convert(net.save(tmp_path / "m.mindir"))


def test_recursion_that_is_no_loop_is_refused(tmp_path: Path) -> None:
    net = Net()
    net.function("2_self")
    x = net.input("x", *STATED)
    net.output(net.op("Neg", [net.call("2_self", [x], STATED)], STATED))
    net.graph = net.model.graph
    net.output(net.call("2_self", [net.input("x", *STATED)], STATED))
    with pytest.raises(LoadError, match="calls itself and is no loop"):
        convert(net.save(tmp_path / "m.mindir"))


def test_condition_that_is_constant_leaves_one_side(tmp_path: Path) -> None:
    net = branch_net()
    switch = next(n for n in net.model.graph.node if n.op_type.startswith("REF::Switch"))
    switch.input[0] = net.constant(False)
    # The constant was written behind the node that uses it, which is allowed.
    path = net.save(tmp_path / "m.mindir")
    assert [n.op_type for n in convert(path).model.graph.node] == ["Sub", "Identity"]
    x = np.array([[1, 2], [3, 4]], F)
    np.testing.assert_array_equal(run_net(net, tmp_path, x)[0], x - 1)


def branches_in_a_row(count: int) -> Net:
    """Write ``count`` times: ``x = x - 2 if max(x) > 1 else x + 1``, each followed by the next."""
    net = Net()
    for number in range(count):
        for side, operator in (("yes", "Sub"), ("no", "Add")):
            net.function(f"{side}_{number}")
            x = net.input("x", *STATED)
            changed = net.op(operator, [x, net.constant(scalar(2 if side == "yes" else 1))], STATED)
            net.output(net.call(f"after_{number}", [changed], STATED))
    for number in range(-1, count):
        net.graph = net.model.graph if number < 0 else net.function(f"after_{number}")
        x = net.input("x", *STATED)
        if number == count - 1:
            net.output(net.op("Neg", [x], STATED))
            continue
        corner = net.op("ReduceMax", [x, net.constant(())], (F, ()), keep_dims=False)
        above = net.op("Greater", [corner, net.constant(scalar(1))], BOOL)
        sides = [net.op("Partial", [f"{s}_{number + 1}", x], None) for s in ("yes", "no")]
        net.output(net.call(net.op("Switch", [above, *sides], None), [], STATED))
    return net


@pytest.mark.parametrize("count", [3, 300])
def test_what_follows_branches_in_a_row_is_converted_once(tmp_path: Path, count: int) -> None:
    path = branches_in_a_row(count).save(tmp_path / "m.mindir")
    x = np.array([[-9, -20], [-30, -11]], F)
    want = x
    for _ in range(count):
        want = want - 2 if want.max() > 1 else want + 1
    np.testing.assert_array_equal(run(path, x)[0], -want)
    assert [n.op_type for n in convert(path).model.graph.node].count("If") == count


def test_branches_in_a_row_within_a_loop_go_on_with_the_loop(tmp_path: Path) -> None:
    net = loop_net(inner=True)
    x = np.array([[1, -2], [3, -4]], F)
    (y,) = run(net.save(tmp_path / "m.mindir"), x, np.array(5, "int32"))
    np.testing.assert_allclose(y, looped(x, 5, inner=True), rtol=1e-6)


def test_if_within_if_meets_behind_both(tmp_path: Path) -> None:
    """Write ``if a: (if b: x * 2 else x - 1) then + 3; else x + 1``; then negate."""
    net = Net()
    for name, operator, number, follower in (
        ("inner_yes", "Mul", 2, "inner_after"), ("inner_no", "Sub", 1, "inner_after"),
        ("inner_after", "Add", 3, "outer_after"), ("outer_no", "Add", 1, "outer_after"),
    ):  # fmt: skip
        net.function(name)
        x = net.input("x", *STATED)
        changed = net.op(operator, [x, net.constant(scalar(number))], STATED)
        net.output(net.call(follower, [changed], STATED))
    net.function("outer_after")
    net.output(net.op("Neg", [net.input("x", *STATED)], STATED))
    for name, limit, yes, no in (
        ("outer_yes", 10, "inner_yes", "inner_no"), ("", 0, "outer_yes", "outer_no"),
    ):  # fmt: skip
        net.graph = net.function(name) if name else net.model.graph
        x = net.input("x", *STATED)
        most = net.op("ReduceMax", [x, net.constant(())], (F, ()), keep_dims=False)
        above = net.op("Greater", [most, net.constant(scalar(limit))], BOOL)
        sides = [net.op("Partial", [side, x], None) for side in (yes, no)]
        net.output(net.call(net.op("Switch", [above, *sides], None), [], STATED))
    path = net.save(tmp_path / "m.mindir")
    for most, want in (
        (20, lambda x: -(x * 2 + 3)),
        (5, lambda x: -(x + 2)),
        (-1, lambda x: -x - 1),
    ):
        x = np.array([[-3, -4], [most, -5]], F)
        np.testing.assert_array_equal(run(path, x)[0], want(x))
    operators = [n.op_type for n in convert(path).model.graph.node]
    assert operators.count("Neg") == 1


def test_branches_within_branches_are_bounded(tmp_path: Path) -> None:
    net = Net()
    for level in range(300):
        net.graph = net.function(f"yes_{level}") if level else net.model.graph
        x = net.input("x", *STATED)
        most = net.op("ReduceMax", [x, net.constant(())], (F, ()), keep_dims=False)
        above = net.op("Greater", [most, net.constant(scalar(level))], BOOL)
        sides = [net.op("Partial", [side, x], None) for side in (f"yes_{level + 1}", "out")]
        net.output(net.call(net.op("Switch", [above, *sides], None), [], STATED))
    for name in ("yes_300", "out"):
        net.function(name)
        net.output(net.op("Neg", [net.input("x", *STATED)], STATED))
    with pytest.raises(LoadError, match="deep"):
        convert(net.save(tmp_path / "m.mindir"))
