"""Small graphs for the forms a tensor can take: every dtype, scalars, empty sizes, odd names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import helper

from serving.tensor import Dim
from tests.models.graph import Array, build, save, value

node = helper.make_node


def add(path: Path, shape: Sequence[Dim] = ("batch",), dtype: str = "FP32") -> Path:
    """Elementwise ``z = x + y``, both of ``shape``."""
    ends = [value("x", dtype, shape), value("y", dtype, shape)], [value("z", dtype, shape)]
    return save(build([node("Add", ["x", "y"], ["z"])], *ends), path)


def identity(path: Path, dtype: str = "FP32", shape: Sequence[Dim | None] = ("batch", 3)) -> Path:
    """``y = x`` for any V2 dtype, strings and BF16 included, and any shape, ``()`` included.

    onnxruntime's CPU engine runs it for all of them; it takes and gives BF16 only through an
    IOBinding with raw pointers (element type 16), not through numpy arrays.
    """
    ends = [value("x", dtype, shape)], [value("y", dtype, shape)]
    return save(build([node("Identity", ["x"], ["y"])], *ends), path)


def multi(path: Path) -> Path:
    """Two inputs and three outputs of different dtypes and ranks.

    ``left`` FP32 [batch,3], ``right`` INT64 [batch,2] -> ``total`` FP32 [batch] (sum of left),
    ``doubled`` INT64 [batch,2], ``positive`` BOOL [batch,3] (left > 0).
    """
    nodes = [
        node("ReduceSum", ["left", "axis1"], ["total"], keepdims=0),
        node("Mul", ["right", "two"], ["doubled"]),
        node("Greater", ["left", "zero"], ["positive"]),
    ]
    inputs = [value("left", "FP32", ["batch", 3]), value("right", "INT64", ["batch", 2])]
    outputs = [
        value("total", "FP32", ["batch"]),
        value("doubled", "INT64", ["batch", 2]),
        value("positive", "BOOL", ["batch", 3]),
    ]
    constants: dict[str, Array] = {
        "axis1": np.array([1], np.int64),
        "two": np.array(2, np.int64),
        "zero": np.array(0, np.float32),
    }
    return save(build(nodes, inputs, outputs, constants), path)


def scalar_input(path: Path) -> Path:
    """``x`` FP32 [batch,4] and ``scale`` FP32 [] (no axis at all) -> ``y = x * scale``."""
    inputs = [value("x", "FP32", ["batch", 4]), value("scale", "FP32", [])]
    nodes = [node("Mul", ["x", "scale"], ["y"])]
    return save(build(nodes, inputs, [value("y", "FP32", ["batch", 4])]), path)


def scalar_output(path: Path) -> Path:
    """``x`` FP32 [batch,4] -> ``total`` FP32 []: the sum of everything, so rows cannot share it."""
    nodes = [node("ReduceSum", ["x"], ["total"], keepdims=0)]
    ends = [value("x", "FP32", ["batch", 4])], [value("total", "FP32", [])]
    return save(build(nodes, *ends), path)


def empty_size(path: Path) -> Path:
    """``x`` FP32 [batch,0] -> ``y`` FP32 [batch,0]: rows that hold no element."""
    return identity(path, "FP32", ("batch", 0))


def variable_width(path: Path) -> Path:
    """``x`` FP32 [batch,width] -> ``y = 2x`` of the same shape, any width from 0 up."""
    shape = ["batch", "width"]
    ends = [value("x", "FP32", shape)], [value("y", "FP32", shape)]
    return save(build([node("Add", ["x", "x"], ["y"])], *ends), path)


def odd_names(path: Path) -> Path:
    """Names with ``:``, ``/``, digits only, and outputs not in alphabetical order.

    ``serving_default_input:0`` FP32 [batch,2] -> ``gpu_0/data_0`` (x + x), ``387`` (-x).
    """
    x = "serving_default_input:0"
    nodes = [node("Add", [x, x], ["gpu_0/data_0"]), node("Neg", [x], ["387"])]
    outputs = [value(name, "FP32", ["batch", 2]) for name in ("gpu_0/data_0", "387")]
    return save(build(nodes, [value(x, "FP32", ["batch", 2])], outputs), path)


def string_lookup(path: Path) -> Path:
    """``word`` BYTES [batch] -> ``number`` INT64 [batch]: zero, one, two, anything else -1."""
    words = node(
        "LabelEncoder",
        ["word"],
        ["number"],
        domain="ai.onnx.ml",
        keys_strings=["zero", "one", "two"],
        values_int64s=[0, 1, 2],
        default_int64=-1,
    )
    ends = [value("word", "BYTES", ["batch"])], [value("number", "INT64", ["batch"])]
    return save(build([words], *ends, domains={"ai.onnx.ml": 2}), path)
