"""A converted model held against known answers: what agrees, what differs, what cannot be told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from serving.tensor import BF16, FP16, FP32, INT64, DType, Tensor, TensorSpec
from serving.worker.compare import difference, main


def model(path: Path) -> Path:
    """Write ``double = x + x`` and ``count = n + n``."""
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["x", "x"], ["double"]),
            helper.make_node("Add", ["n", "n"], ["count"]),
        ],
        "net",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("n", TensorProto.INT64, ["batch"]),
        ],
        [
            helper.make_tensor_value_info("double", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("count", TensorProto.INT64, ["batch"]),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, path)
    return path


X, N = np.array([[1, 2], [3, 4]], np.float32), np.array([5, 6])


def held(folder: Path, inputs: dict[str, Any], outputs: dict[str, Any], *more: str) -> Any:
    np.savez(folder / "inputs.npz", **inputs)
    np.savez(folder / "outputs.npz", **outputs)
    files = [str(model(folder / "m.onnx")), str(folder / "inputs.npz"), str(folder / "outputs.npz")]
    return main(["onnxruntime", *files, *more])


@pytest.mark.parametrize("names", [("double", "count"), ("arr_0", "arr_1")])
def test_outputs_are_matched_by_name_or_in_order(tmp_path: Path, names: tuple[str, str]) -> None:
    found = held(tmp_path, {"n": N, "x": X}, dict(zip(names, (2 * X, 2 * N), strict=True)))
    assert [one["agrees"] for one in found["outputs"]] == [True, True]
    assert found["outputs"][0]["largest"] == 8
    assert found["outputs"][0]["error"] == 0


def test_outputs_that_differ_are_told_by_how_much(tmp_path: Path) -> None:
    found = held(tmp_path, {"x": X, "n": N}, {"double": 2 * X + 0.5, "count": 2 * N + 1})
    double, count = found["outputs"]
    assert (double["error"], double["agrees"]) == (0.5, False)
    assert (count["error"], count["allowed"], count["agrees"]) == (1, 0, False)
    found = held(tmp_path, {"x": X, "n": N}, {"double": 2 * X + 0.5, "count": 2 * N}, "0.1")
    assert [one["agrees"] for one in found["outputs"]] == [True, True]


@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [
        ({"x": X}, {"double": X, "count": N}, "2 inputs and the file 1 arrays"),
        ({"x": X, "n": N}, {"double": X}, "2 outputs and the file 1 arrays"),
        ({"x": X.astype(np.float64), "n": N}, {"a": X, "b": N}, "is FP32, the array float64"),
        ({"x": X[:, :1], "n": N}, {"a": X, "b": N}, "FP32[batch,2], the array [2, 1]"),
    ],
)
def test_arrays_that_do_not_fit_are_a_problem(
    tmp_path: Path, inputs: dict[str, Any], outputs: dict[str, Any], said: str
) -> None:
    assert said in held(tmp_path, inputs, outputs)["problem"]


def test_file_that_is_none_is_a_problem_and_the_process_ends_well(tmp_path: Path) -> None:
    (tmp_path / "inputs.npz").write_bytes(b"nothing")
    arguments = [
        "onnxruntime",
        str(model(tmp_path / "m.onnx")),
        *[str(tmp_path / "inputs.npz")] * 2,
    ]
    done = subprocess.run(
        [sys.executable, "-m", "serving.worker.compare", *arguments],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "inputs.npz cannot be read" in json.loads(done.stdout)["problem"]


def one(dtype: DType, found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> dict[str, Any]:
    spec = TensorSpec("y", dtype, ("n",))
    return difference(spec, Tensor("y", dtype, found.shape, found), wanted, None)


@pytest.mark.parametrize(
    ("dtype", "found", "wanted", "agrees"),
    [
        (FP32, np.float32([np.nan, np.inf, 1]), np.float32([np.nan, np.inf, 1]), True),
        (FP32, np.float32([np.nan, 1]), np.float32([0, 1]), False),
        (FP32, np.float32([0, 1]), np.float32([np.nan, 1]), False),
        (FP32, np.float32([np.inf, 1]), np.float32([-np.inf, 1]), False),
        (FP32, np.float32([1.00009]), np.float32([1]), True),
        (FP32, np.float32([1.0002]), np.float32([1]), False),
        (FP16, np.float16([1.005]), np.float16([1]), True),
        (INT64, np.array([1]), np.array([2]), False),
        (FP32, np.float32([[1]]), np.float32([1]), False),
        (BF16, np.uint16([0x3F80]), np.float32([1]), True),
        (BF16, np.uint16([0x3F80]), np.uint16([0x3F80]), True),
        (BF16, np.uint16([0x3F80]), np.float32([2]), False),
        (FP32, np.float32([]), np.float32([]), True),
    ],
)
def test_difference_is_judged_by_type(
    dtype: DType, found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any], agrees: bool
) -> None:
    assert one(dtype, found, wanted)["agrees"] is agrees
