"""Instances of a fixed ONNX file share runs where a declaration hides its first axis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.server import ServerProcess, serving

CONFIG = """
from serving import register

net = register.declare_model(model_file="net.onnx", model_format="ONNX", with_batch_dim={rows})

@register.register_method(output_names=["y"])
def predict(x):
    return register.add_stage(net, x, outputs_count=1)
"""
WEIGHTS = np.random.default_rng(7).standard_normal((3, 4)).astype(np.float32)


def lay_out(folder: Path, *nodes: onnx.NodeProto, rows: bool = False) -> None:
    """Write a servable of a model from x [2,3] to y; an instance is a row, or the whole."""
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(WEIGHTS, "w"), numpy_helper.from_array(np.array(0), "axis")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "1").mkdir(parents=True)
    onnx.save(made, folder / "1" / "net.onnx")
    (folder / "servable_config.py").write_text(CONFIG.format(rows=rows))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("whole")
    node = helper.make_node
    lay_out(folder / "models" / "linear", node("MatMul", ["x", "w"], ["y"]))
    lay_out(folder / "models" / "sums", node("CumSum", ["x", "axis"], ["y"]))
    lay_out(folder / "models" / "rows", node("MatMul", ["x", "w"], ["y"]), rows=True)
    with serving(folder / "models", folder / "run") as found:
        yield found


def ask(server: ServerProcess, servable: str, *values: Any) -> list[Any]:
    """Ask for instances in one request: those that can share a run do."""
    instances = [{"x": value.tolist()} for value in values]
    status, answer = server.predict({"servable": servable, "instances": instances})
    assert status == 200, answer
    return [np.array(instance["y"], np.float32) for instance in answer["instances"]]


def sizes(server: ServerProcess, servable: str) -> list[int]:
    """Return the sizes of runs, in instances, that have been seen."""
    _, told = server.get(f"/v2/models/{servable}/stats")
    (model,) = [found for found in told["model_stats"] if found["name"].endswith(".onnx")]
    return [found["batch_size"] for found in model["batch_stats"]]


def check(server: ServerProcess, servable: str) -> None:
    """Ask for many instances, and hold each answer against numpy's and that of it alone."""
    shape = (40, 3) if servable == "rows" else (40, 2, 3)
    values = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    for value, answer in zip(values, ask(server, servable, *values), strict=True):
        expected = np.cumsum(value, axis=0) if servable == "sums" else value @ WEIGHTS
        np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(answer, ask(server, servable, value)[0])


def test_instances_of_independent_rows_share_runs_and_nobody_can_tell(
    server: ServerProcess,
) -> None:
    check(server, "linear")
    assert 16 in sizes(server, "linear")  # of two rows each, 32 at most


def test_instances_whose_rows_depend_on_each_other_run_alone(server: ServerProcess) -> None:
    check(server, "sums")
    assert sizes(server, "sums") == [1]
    said = "net.onnx: not batched: declared with_batch_dim=False: an instance is a whole run: "
    why = "input 'x' is fixed at 2, and cannot be freed: the CumSum node that makes 'y' adds up"
    assert f"{said}the first axis of {why}" in server.log()


def test_rows_of_a_file_that_fixes_their_number_share_runs_of_any_size(
    server: ServerProcess,
) -> None:
    check(server, "rows")
    assert {1, 32} <= set(sizes(server, "rows"))  # not 2, as the file has it


def test_instance_keeps_the_sizes_of_the_file(server: ServerProcess) -> None:
    _, found = server.get("/v2/models/linear")
    assert [entry["shape"] for entry in found["inputs"]] == [[-1, 2, 3]]
    status, _ = server.predict({"servable": "linear", "instances": [{"x": [[1.0, 2.0, 3.0]]}]})
    assert status == 400
