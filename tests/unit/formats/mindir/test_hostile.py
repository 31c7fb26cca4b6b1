"""Damaged and hostile files give a typed error or a valid model, in little memory and time."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from serving.errors import LoadError
from serving.formats.mindir.convert import convert
from tests.unit.formats.mindir.mindir_files import Net, run_net, tensor

CASES = 300
REPOSITORY = Path(__file__).resolve().parents[4]


def test_damaged_files_are_converted_or_refused_by_type(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}: python -m tests.unit.formats.mindir.hostile {seed} 0 {CASES} FOLDER")
    order = [sys.executable, "-m", "tests.unit.formats.mindir.hostile"]
    done = subprocess.run(
        [*order, str(seed), "0", str(CASES), str(tmp_path)],
        cwd=REPOSITORY,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"stopped at: {lines[-1:]} {done.stderr[-2000:]}"
    assert len(lines) == CASES
    assert [line for line in lines if " BAD " in line] == []
    # Were all refused, or none, the damage would not be what it is meant to be.
    assert CASES * 0.05 < sum(line.endswith(" converted") for line in lines) < CASES * 0.8


def test_join_of_nothing_is_refused(tmp_path: Path) -> None:
    net = Net()
    empty = net.op("MakeTuple", [], None)
    net.output(net.op("Concat", [empty], ("float32", (2,)), axis=0))
    with pytest.raises(LoadError) as caught:
        run_net(net, tmp_path)
    assert caught.value.code == "unsupported_operator"


def test_shape_of_a_constant_that_is_huge_takes_no_memory(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", "float32", (1,))
    net.output(net.op("BroadcastTo", [x], ("float32", (2**40, 2**20)), shape=(2**40, 2**20)))
    made = convert(net.save(tmp_path / "huge.mindir"))
    assert sum(len(i.data) for i in made.initializers) < 1000


def test_loop_that_changes_nothing_is_refused(tmp_path: Path) -> None:
    net = Net()
    stated = ("float32", (2,))
    given = [net.input("x", *stated), net.input("go", "bool", ())]
    main = net.graph
    header, body, end = (net.function(name) for name in ("header", "body", "end"))
    for graph in (header, body, end):
        graph.input.add(name=f"{graph.name}:v").tensor.append(tensor(stated))
        graph.input.add(name=f"{graph.name}:go").tensor.append(tensor(("bool", ())))
    net.graph = header
    choice = net.op("Switch", ["header:go", "body", "end"], None)
    net.output(net.call(choice, ["header:v", "header:go"], stated))
    net.graph = body
    net.output(net.call("header", ["body:v", "body:go"], stated))
    net.graph = end
    net.output(net.op("ReLU", ["end:v"], stated))
    net.graph = main
    net.output(net.call("header", given, stated))
    with pytest.raises(LoadError, match="changes nothing from turn to turn"):
        convert(net.save(tmp_path / "still.mindir"))


def test_mask_beyond_float16_becomes_infinite_without_a_warning(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", "float16", (2,))
    net.output(net.op("Mul", [x, net.constant(-1e9)], ("float16", (2,))))
    (y,) = run_net(net, tmp_path, np.array([1, -2], np.float16))
    np.testing.assert_array_equal(y, np.array([-np.inf, np.inf], np.float16))
