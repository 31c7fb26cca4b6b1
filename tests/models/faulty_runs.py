"""Models that load well and then fail, take long, grow or crash while they run."""

from __future__ import annotations

import functools
import statistics
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from tests.models.graph import Array, build, save, value, weights

node = helper.make_node

_SLOW_WIDTH = 1024


def picky(path: Path, vocabulary: int = 10, seed: int = 0, name: str = "id") -> Path:
    """Fails the whole run when any row holds an id outside [-10, 10).

    ``id`` (or ``name``) INT64 [batch] -> ``vector`` FP32 [batch,4], the id's row of a table. One
    bad row in a batch makes onnxruntime refuse all of it ("indices element out of data bounds").
    """
    constants = {"table": weights(np.random.default_rng(seed), vocabulary, 4)}
    nodes = [node("Gather", ["table", name], ["vector"], axis=0)]
    ends = [value(name, "INT64", ["batch"])], [value("vector", "FP32", ["batch", 4])]
    return save(build(nodes, *ends, constants), path)


def divider(path: Path) -> Path:
    """``x`` INT64 [batch] -> ``y`` = -2**63 / x: refuses 0 and crashes its process on -1.

    0 fails the run cleanly. -1 is an overflow that the processor traps (SIGFPE kills the process
    on x86-64; an Arm processor does not trap and gives an answer).
    """
    constants = {"lowest": np.array(-(2**63), np.int64)}
    nodes = [node("Div", ["lowest", "x"], ["y"])]
    ends = [value("x", "INT64", ["batch"])], [value("y", "INT64", ["batch"])]
    return save(build(nodes, *ends, constants), path)


def greedy(path: Path) -> Path:
    """Takes as much memory as it is asked to: ``mb`` INT64 [1] -> ``total`` FP32 [1].

    ``total`` is 262144 times ``mb``: the count of the float32 ones that were laid out.
    """
    constants = {
        "per_mb": np.array([2**18], np.int64),
        "one": np.array([1], np.int64),
        "flat": np.array([-1], np.int64),
    }
    ones = numpy_helper.from_array(np.array([1], np.float32))
    nodes = [
        node("Concat", ["mb", "per_mb"], ["shape"], axis=0),
        node("ConstantOfShape", ["shape"], ["ones"], value=ones),
        node("ReduceSum", ["ones"], ["sum"], keepdims=0),
        node("Reshape", ["sum", "flat"], ["total"]),
    ]
    ends = [value("mb", "INT64", [1])], [value("total", "FP32", [1])]
    return save(build(nodes, *ends, constants), path)


def spinning(path: Path) -> Path:
    """Runs as long as it is asked to: ``turns`` INT64 [1] -> ``y`` INT64 [1], equal to ``turns``.

    A Loop that adds one a turn, some microseconds each; 2**40 turns are a run that never ends
    (until onnxruntime's RunOptions.terminate is set: it is looked at between nodes).
    """
    body = helper.make_graph(
        [node("Identity", ["go"], ["on"]), node("Add", ["count", "one"], ["more"])],
        "turn",
        [value("turn", "INT64", []), value("go", "BOOL", []), value("count", "INT64", [1])],
        [value("on", "BOOL", []), value("more", "INT64", [1])],
    )
    constants: dict[str, Array] = {
        "one": np.array([1], np.int64),
        "zero": np.array([0], np.int64),
        "yes": np.array(True),
        "axis0": np.array([0], np.int64),
    }
    nodes = [
        node("Squeeze", ["turns", "axis0"], ["trips"]),
        node("Loop", ["trips", "yes", "zero"], ["y"], body=body),
    ]
    ends = [value("turns", "INT64", [1])], [value("y", "INT64", [1])]
    return save(build(nodes, *ends, constants), path)


def grinding(path: Path) -> Path:
    """Takes as long as the largest value of a batch asks for, and cannot be told to end.

    ``x`` INT64 [batch] -> ``y`` INT64 [batch], equal to ``x``: one product of matrices of
    [x+1, x+1], where onnxruntime does not look at RunOptions.terminate. 9000 are 1.5e12 operations
    and 650 MB. No walk can carry the batch axis through it: settings must assert it.
    """
    ones = numpy_helper.from_array(np.array([1], np.float32))
    constants: dict[str, Array] = {
        "one": np.array([1], np.int64),
        "corner": np.array([0, 0], np.int64),
    }
    nodes = [
        node("ReduceMax", ["x"], ["largest"], keepdims=1),
        node("Add", ["largest", "one"], ["size"]),
        node("Concat", ["size", "size"], ["shape"], axis=0),
        node("ConstantOfShape", ["shape"], ["matrix"], value=ones),
        node("MatMul", ["matrix", "matrix"], ["product"]),
        node("GatherND", ["product", "corner"], ["entry"]),
        node("Cast", ["entry"], ["sum"], to=onnx.TensorProto.INT64),
        node("Sub", ["sum", "size"], ["nothing"]),
        node("Add", ["x", "nothing"], ["y"]),
    ]
    ends = [value("x", "INT64", ["batch"])], [value("y", "INT64", ["batch"])]
    return save(build(nodes, *ends, constants), path)


def slow(path: Path, ms: float) -> Path:
    """Takes about ``ms`` milliseconds of one core a run: ``x`` FP32 [batch,4] -> ``y`` [batch,1].

    ``y`` is the mean of the row (to about 1e-4). The time is that of one row on this machine,
    measured once per process; a run of several rows takes somewhat longer. The file is small:
    the weights are folded from a shape at load (4 MB of memory).
    """
    steps = max(1, round(ms / _step_ms()))
    return save(_mean_chain(steps), path)


@functools.lru_cache(maxsize=1)
def _step_ms() -> float:
    """Measure one product of the chain here: the median over five runs of 50 of them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = _mean_chain(50).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    row = np.ones((1, 4), np.float32)
    session.run(None, {"x": row})
    times = []
    for _ in range(5):
        start = time.perf_counter()
        session.run(None, {"x": row})
        times.append((time.perf_counter() - start) * 1000 / 50)
    return statistics.median(times)


def _mean_chain(steps: int) -> onnx.ModelProto:
    """Multiply by a matrix of 1/width again and again: every product is the mean once more."""
    share = numpy_helper.from_array(np.array([1 / _SLOW_WIDTH], np.float32))
    quarter = numpy_helper.from_array(np.array([1 / 4], np.float32))
    constants = {
        "square": np.array([_SLOW_WIDTH] * 2, np.int64),
        "entry": np.array([4, _SLOW_WIDTH], np.int64),
    }
    nodes = [
        node("ConstantOfShape", ["square"], ["shares"], value=share),
        node("ConstantOfShape", ["entry"], ["quarters"], value=quarter),
        node("MatMul", ["x", "quarters"], ["mean_0"]),
    ]
    for i in range(steps):
        nodes.append(node("MatMul", [f"mean_{i}", "shares"], [f"mean_{i + 1}"]))
    nodes.append(node("ReduceMean", [f"mean_{steps}"], ["y"], axes=[1], keepdims=1))
    ends = [value("x", "FP32", ["batch", 4])], [value("y", "FP32", ["batch", 1])]
    return build(nodes, *ends, constants)
