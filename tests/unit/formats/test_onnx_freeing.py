"""An ONNX file whose first axis is fixed is freed in a copy, where asked for and proved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from serving.artifact import Artifact
from serving.formats import inspect, onnx_freeing
from serving.formats.conversion_cache import MODEL
from serving.inspection import Question
from serving.tensor import Dim

N = helper.make_node
TENSOR = helper.make_tensor_value_info
WEIGHTS = np.random.default_rng(5).standard_normal((3, 2000)).astype(np.float32)
"""Larger than what is kept of constants while a graph is looked at."""


def save(
    path: Path, *nodes: onnx.NodeProto, rows: Dim = 2, inputs: int = 1, external: bool = False
) -> Path:
    names = [f"x{i}" for i in range(inputs)]
    graph = helper.make_graph(
        list(nodes),
        "net",
        [TENSOR(name, TensorProto.FLOAT, [rows, 3]) for name in names],
        [TENSOR("y", TensorProto.FLOAT, [rows, None])],
        [
            numpy_helper.from_array(WEIGHTS, "w"),
            numpy_helper.from_array(np.array([2, 3, 1]), "to"),
        ],
    )
    graph.value_info.append(TENSOR("b", TensorProto.FLOAT, [rows, 3]))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = {"save_as_external_data": True, "size_threshold": 0} if external else {}
    onnx.save(made, path, **options)
    return path


def look(path: Path, cache: Path, *, free: bool = True) -> Artifact:
    helper = inspect.Helper()
    try:
        return helper.inspect(Question(path, cache_dir=str(cache), cache_bytes=1 << 30, free=free))
    finally:
        helper._release()


def run(path: Path | str, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    (found,) = ort.InferenceSession(str(path), options).run(None, {"x0": rows})
    return np.asarray(found)


def test_copy_answers_as_the_file_does_and_takes_any_number_of_rows(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", N("MatMul", ["x0", "w"], ["y"]))
    found = look(path, tmp_path / "cache")
    assert (found.batch.batched, found.exported_rows) == (True, 2)
    assert found.signature is not None
    assert [spec.shape for spec in found.signature.inputs] == [("batch", 3)]
    assert found.conversion is not None
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    together = run(found.conversion.path, rows)
    assert together.tobytes() == run(path, rows[:2]).tobytes() + run(path, rows[2:]).tobytes()


def test_length_within_the_graph_is_freed_too(tmp_path: Path) -> None:
    nodes = [
        N("Reshape", ["x0", "to"], ["a"]),
        N("Flatten", ["a"], ["b"]),
        N("MatMul", ["b", "w"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", *nodes)
    found = look(path, tmp_path / "cache")
    assert found.exported_rows == 2
    assert found.conversion is not None
    rows = np.arange(18, dtype=np.float32).reshape(6, 3)
    assert run(found.conversion.path, rows)[2:4].tobytes() == run(path, rows[2:4]).tobytes()


def test_constant_that_is_listed_among_the_inputs_is_none(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", N("Reshape", ["x0", "to"], ["a"]), N("Flatten", ["a"], ["y"]))
    made = onnx.load(path)
    made.graph.input.append(TENSOR("to", TensorProto.INT64, [3]))
    made.ir_version = 3
    made.opset_import[0].version = 8
    for constant in made.graph.initializer[:1]:
        made.graph.input.append(TENSOR(constant.name, TensorProto.FLOAT, constant.dims))
    onnx.save(made, path)
    found = look(path, tmp_path / "cache")
    assert found.exported_rows == 2, found.batch.reason
    assert found.signature is not None
    assert [spec.name for spec in found.signature.inputs] == ["x0"]
    assert found.conversion is not None
    rows = np.arange(18, dtype=np.float32).reshape(6, 3)
    np.testing.assert_array_equal(run(found.conversion.path, rows), rows)


def test_file_is_served_as_it_is_where_nobody_asks(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", N("MatMul", ["x0", "w"], ["y"]))
    found = look(path, tmp_path / "cache", free=False)
    assert (found.batch.batched, found.exported_rows, found.conversion) == (False, 0, None)
    assert not (tmp_path / "cache").exists()


def test_copy_is_found_again_and_goes_with_the_content(tmp_path: Path) -> None:
    path, cache = save(tmp_path / "m.onnx", N("MatMul", ["x0", "w"], ["y"])), tmp_path / "cache"
    first, second = look(path, cache), look(path, cache)
    assert first.conversion is not None
    assert second.conversion is not None
    assert (first.conversion.cached, second.conversion.cached) == (False, True)
    assert first.conversion.path == second.conversion.path
    assert second.exported_rows == 2
    other = look(save(path, N("MatMul", ["x0", "w"], ["y"]), rows=1), cache)
    assert other.conversion is not None
    assert other.conversion.path != first.conversion.path
    assert other.exported_rows == 1


@pytest.mark.parametrize(
    ("nodes", "more", "why"),
    [
        ([N("ReduceSum", ["x0"], ["y"], keepdims=1)], {}, "cannot be freed: "),
        ([N("Softmax", ["x0"], ["y"], axis=0)], {}, "cannot be freed: "),
        (
            [N("MatMul", ["x0", "w"], ["y"])],
            {"external": True},
            "weights lie in files of their own",
        ),
    ],
    ids=["sum of rows", "rows that touch", "external weights"],
)
def test_file_stays_as_it_is_and_says_why(
    nodes: list[onnx.NodeProto], more: dict[str, Any], why: str, tmp_path: Path
) -> None:
    found = look(save(tmp_path / "m.onnx", *nodes, **more), tmp_path / "cache")
    assert (found.batch.batched, found.exported_rows, found.conversion) == (False, 0, None)
    assert found.signature is not None
    assert found.signature.inputs[0].shape == (2, 3)
    assert why in found.batch.reason


def test_axis_that_is_free_already_is_left_alone(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", N("MatMul", ["x0", "w"], ["y"]), rows="n")
    found = look(path, tmp_path / "cache")
    assert (found.batch.batched, found.exported_rows, found.conversion) == (True, 0, None)


def test_cache_that_cannot_be_written_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", N("MatMul", ["x0", "w"], ["y"]))
    (tmp_path / "cache").write_text("a file")
    found = look(path, tmp_path / "cache")
    assert (found.batch.batched, found.conversion) == (False, None)
    assert "the cache folder cannot be used" in found.batch.reason
    assert found.backend == "onnxruntime"


def test_fault_while_freeing_leaves_the_file_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
        raise KeyError("inner matters")

    monkeypatch.setattr(onnx_freeing, "proved_free", broken)
    found = look(save(tmp_path / "m.onnx", N("MatMul", ["x0", "w"], ["y"])), tmp_path / "cache")
    assert (found.backend, found.conversion) == ("onnxruntime", None)
    assert found.batch.reason.endswith("and cannot be freed: trying to failed (KeyError)")
    assert "inner matters" in capsys.readouterr().err


def test_file_that_changes_meanwhile_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "m.onnx", N("MatMul", ["x0", "w"], ["y"]))
    proved = onnx_freeing.proved_free

    def changed(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
        os.utime(path, (1, 1))
        return proved(model)

    monkeypatch.setattr(onnx_freeing, "proved_free", changed)
    found = look(path, tmp_path / "cache")
    assert not found.backend
    assert "changed while it was being looked into" in found.reason
    assert not [*(tmp_path / "cache").glob(f"*/{MODEL}")]
