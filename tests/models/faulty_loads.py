"""Files that cannot be loaded, or that hurt the process that loads them.

Each was tried with onnxruntime 1.31.1 on x86-64 alone, under ``ulimit -v`` and ``timeout``:

| function | what loading it does |
| --- | --- |
| ``crash_at_load`` | the process dies of SIGFPE within milliseconds |
| ``hang_at_load`` | one core is busy, about a second a step; other Python threads go on |
| ``exhaust_memory_at_load`` | the process grows by ``mb``; under RLIMIT_AS, up to the limit |
| ``oversized`` | the process grows by twice ``mb``; under RLIMIT_AS: an exception |
| ``expand_at_load`` | time and memory double and more with each level (16: 8 s, 100 MB) |
| ``unsupported_opset``, ``unsupported_ir``, ``unknown_operator`` | an exception that says so |
| ``missing_external_data``, ``truncated``, ``garbage``, ``empty_file`` | an exception |
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.models.graph import Array, build, save, value
from tests.models.nets import mlp, mlp_external_data

node = helper.make_node


def crash_at_load(path: Path) -> Path:
    """Kills the loading process by a signal: constant folding divides -2**63 by -1.

    The quotient does not fit in 64 bits and an x86-64 processor traps (SIGFPE); Arm does not
    trap, so there the model loads. ``x`` INT64 [batch] -> ``y`` [batch].
    """
    constants: dict[str, Array] = {
        "lowest": np.array([-(2**63)], np.int64),
        "minus_one": np.array([-1], np.int64),
    }
    nodes = [node("Div", ["lowest", "minus_one"], ["q"]), node("Add", ["x", "q"], ["y"])]
    ends = [value("x", "INT64", ["batch"])], [value("y", "INT64", ["batch"])]
    return save(build(nodes, *ends, constants), path)


def hang_at_load(path: Path, steps: int = 100_000, width: int = 4096) -> Path:
    """Keeps one core busy with constant folding: ``steps`` products of [4096,4096] matrices.

    Each takes about a second of one core; memory stays near 200 MB. ``steps=1, width=64`` is the
    same graph that loads at once. ``x`` FP32 [batch] -> ``y`` = x + width.
    """
    share = numpy_helper.from_array(np.array([1 / width], np.float32))
    nodes = [node("ConstantOfShape", ["shape"], ["m0"], value=share)]
    nodes += [node("MatMul", [f"m{i}", "m0"], [f"m{i + 1}"]) for i in range(steps)]
    nodes += [
        node("ReduceSum", [f"m{steps}"], ["sum"], keepdims=0),
        node("Add", ["x", "sum"], ["y"]),
    ]
    constants = {"shape": np.array([width, width], np.int64)}
    ends = [value("x", "FP32", ["batch"])], [value("y", "FP32", ["batch"])]
    return save(build(nodes, *ends, constants), path)


def exhaust_memory_at_load(path: Path, mb: int = 65_536, block_mb: int = 64) -> Path:
    """A file of some KB that takes ``mb`` MiB to load: constants folded from their shapes.

    Where the process has a limit (RLIMIT_AS), loading goes on up to it: a constant that cannot be
    folded is left for the run, which then fails. Where it has none, the kernel's out-of-memory
    killer ends it, so give ``mb`` well below the machine's memory or set a limit.
    ``x`` INT64 [batch] (positions) -> ``y`` FP32 [batch] (1 + 2 + ... + number of blocks).
    """
    nodes, names = [], []
    for i in range(max(1, mb // block_mb)):
        filler = numpy_helper.from_array(np.array([i + 1], np.float32))
        nodes.append(node("ConstantOfShape", ["shape"], [f"block_{i}"], value=filler))
        nodes.append(node("Gather", [f"block_{i}", "x"], [f"picked_{i}"]))
        names.append(f"picked_{i}")
    nodes.append(node("Sum", names, ["y"]))
    constants = {"shape": np.array([block_mb * 2**18], np.int64)}
    ends = [value("x", "INT64", ["batch"])], [value("y", "FP32", ["batch"])]
    return save(build(nodes, *ends, constants), path)


def oversized(path: Path, mb: int = 65_536) -> Path:
    """A net with ``mb`` MiB of weights, all zero, in a sparse file that takes no disk.

    onnxruntime packs the weights of a product anew at load; where the memory is not there, it
    raises. ``x`` FP32 [batch,256 * mb] -> ``y`` FP32 [batch,1024], zeros.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.data")
    with beside.open("wb") as file:
        file.truncate(mb * 2**20)
    stored = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[256 * mb, 1024])
    stored.data_location = TensorProto.EXTERNAL
    for key, text in {"location": beside.name, "offset": "0", "length": str(mb * 2**20)}.items():
        stored.external_data.add(key=key, value=text)
    ends = [value("x", "FP32", ["batch", 256 * mb])], [value("y", "FP32", ["batch", 1024])]
    model = build([node("MatMul", ["x", "w"], ["y"])], *ends)
    model.graph.initializer.append(stored)
    return save(model, path)


def expand_at_load(path: Path, levels: int = 24) -> Path:
    """A file of 2 KB that is 2**levels nodes once its functions are written out.

    Function k calls function k-1 twice. 12 levels load in 0.1 s, 16 in 8 s, 24 do not end and
    take all memory. ``x`` FP32 [batch] -> ``y`` [batch], the sine applied 2**(levels-1) times.
    """
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    functions = []
    for level in range(levels):
        if level == 0:
            nodes = [node("Sin", ["p"], ["q"])]
        else:
            inner = f"F{level - 1}"
            nodes = [
                node(inner, ["p"], ["r"], domain="local"),
                node(inner, ["r"], ["q"], domain="local"),
            ]
        functions.append(
            helper.make_function("local", f"F{level}", ["p"], ["q"], nodes, opset_imports=opsets)
        )
    call = [node(f"F{levels - 1}", ["x"], ["y"], domain="local")]
    ends = [value("x", "FP32", ["batch"])], [value("y", "FP32", ["batch"])]
    return save(build(call, *ends, domains={"local": 1}, functions=functions), path)


def unsupported_opset(path: Path, opset: int = 99) -> Path:
    """A good graph that asks for an operator set nobody has: ``x`` FP32 [batch] -> ``y``."""
    ends = [value("x", "FP32", ["batch"])], [value("y", "FP32", ["batch"])]
    return save(build([node("Relu", ["x"], ["y"])], *ends, opset=opset), path)


def unsupported_ir(path: Path, ir_version: int = 99) -> Path:
    """A good graph in a file format version nobody has: ``x`` FP32 [batch] -> ``y``."""
    ends = [value("x", "FP32", ["batch"])], [value("y", "FP32", ["batch"])]
    return save(build([node("Relu", ["x"], ["y"])], *ends, ir_version=ir_version), path)


def unknown_operator(path: Path) -> Path:
    """Uses the operator ``Frobnicate`` of the domain ``com.example``, which no engine has."""
    nodes = [node("Frobnicate", ["x"], ["y"], domain="com.example")]
    ends = [value("x", "FP32", ["batch"])], [value("y", "FP32", ["batch"])]
    return save(build(nodes, *ends, domains={"com.example": 1}), path)


def missing_external_data(path: Path) -> Path:
    """A net whose weights' file is not there: ``x`` FP32 [batch,16] -> ``y`` FP32 [batch,4]."""
    mlp_external_data(path)
    path.with_name(f"{path.name}.data").unlink()
    return path


def truncated(path: Path) -> Path:
    """The first half of a good file, as an interrupted copy leaves it."""
    whole = mlp(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def garbage(path: Path, size: int = 4096) -> Path:
    """Random bytes (from a fixed seed) that are no model of any kind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.random.default_rng(0).bytes(size))
    return path


def empty_file(path: Path) -> Path:
    """A file of no bytes, which protobuf takes for a model with everything left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path
