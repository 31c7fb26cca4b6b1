"""Model folders laid out for Triton, served as they are and asked by Triton's own client.

The folders follow Triton's documentation: its quick-start models ``simple``, ``simple_string``
and ``simple_identity`` (with the results that its examples print), version policies, a shape that
varies, and folders that cannot be served here.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from tests import models
from tests.models.graph import Array, build, save, value
from tests.server import ServerProcess, serving

CALLS = Path(__file__).with_name("triton_repository_calls.py")
FLOAT, INT32, STRING = 1, 6, 8  # ONNX's numbers
PAIR = ("INPUT0", "INPUT1")

SIMPLE = """
name: "{name}"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [
  {{ name: "INPUT0" data_type: {dtype} dims: [ 16 ] }},
  {{ name: "INPUT1" data_type: {dtype} dims: [ 16 ] }}
]
output [
  {{ name: "OUTPUT0" data_type: {dtype} dims: [ 16 ] }},
  {{ name: "OUTPUT1" data_type: {dtype} dims: [ 16 ] }}
]
"""

IDENTITY = """
name: "simple_identity"
platform: "onnxruntime_onnx"
max_batch_size: 8
version_policy: { latest { num_versions: 1 } }
input [ { name: "INPUT0" data_type: TYPE_STRING dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_STRING dims: [ -1 ] } ]
instance_group [ { kind: KIND_CPU } ]
"""

DYNAMIC = """
max_batch_size: 16
input { name: "x" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ -1 ] }
dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 }
"""


def simple(folder: Path) -> None:
    nodes = [
        helper.make_node("Add", PAIR, ["OUTPUT0"]),
        helper.make_node("Sub", PAIR, ["OUTPUT1"]),
    ]
    ends = [
        [value(f"{side}{i}", "INT32", ["batch", 16]) for i in (0, 1)]
        for side in ("INPUT", "OUTPUT")
    ]
    save(build(nodes, *ends), folder / "1" / "model.onnx")
    configure(folder, SIMPLE.format(name="simple", dtype="TYPE_INT32"))


def simple_string(folder: Path) -> None:
    """The same sums and differences, of numerals."""
    nodes = [
        helper.make_node("Cast", ["INPUT0"], ["a"], to=INT32),
        helper.make_node("Cast", ["INPUT1"], ["b"], to=INT32),
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Sub", ["a", "b"], ["difference"]),
        helper.make_node("Cast", ["sum"], ["OUTPUT0"], to=STRING),
        helper.make_node("Cast", ["difference"], ["OUTPUT1"], to=STRING),
    ]
    ends = [
        [value(f"{side}{i}", "BYTES", ["batch", 16]) for i in (0, 1)]
        for side in ("INPUT", "OUTPUT")
    ]
    save(build(nodes, *ends), folder / "1" / "model.onnx")
    configure(folder, SIMPLE.format(name="simple_string", dtype="TYPE_STRING"))


def simple_identity(folder: Path) -> None:
    node = helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])
    ends = [value("INPUT0", "BYTES", ["b", "n"])], [value("OUTPUT0", "BYTES", ["b", "n"])]
    save(build([node], *ends), folder / "1" / "model.onnx")
    configure(folder, IDENTITY)


def times(folder: Path, config: str, *factors: int) -> None:
    """Versions 1, 2, ... that multiply ``x`` INT32 [n,1] by these factors."""
    for version, factor in enumerate(factors, 1):
        constants: dict[str, Array] = {"factor": np.array(factor, np.int32)}
        node = helper.make_node("Mul", ["x", "factor"], ["y"])
        ends = [value("x", "INT32", ["n", 1])], [value("y", "INT32", ["n", 1])]
        save(build([node], *ends, constants), folder / str(version) / "model.onnx")
    configure(folder, config)


def twice(folder: Path) -> None:
    """A model that batches although no rule of the axis walk shows it: each row, twice."""
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["both"]),
        helper.make_node("ConcatFromSequence", ["both"], ["y"], axis=1),
    ]
    ends = [value("x", "FP32", ["n", 3])], [value("y", "FP32", ["n", 6])]
    save(build(nodes, *ends), folder / "1" / "model.onnx")
    configure(folder, 'max_batch_size: 4 input { name: "x" data_type: TYPE_FP32 dims: [ 3 ] }')


def configure(folder: Path, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.pbtxt").write_text(text)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("triton") / "models"
    simple(root / "simple")
    simple_string(root / "simple_string")
    simple_identity(root / "simple_identity")
    twice(root / "asserted")
    models.variable_width(root / "dynamic/1/model.onnx")
    configure(root / "dynamic", DYNAMIC)
    models.variable_width(root / "narrow/1/model.onnx")
    configure(root / "narrow", 'max_batch_size: 4 input { name: "x" dims: [ 4 ] }')
    models.identity(root / "frozen/1/model.onnx", "FP32", (2, 3))
    configure(root / "frozen", 'max_batch_size: 8 input { name: "x" dims: [ 3 ] }')
    models.softmax_over_rows(root / "mixing/1/model.onnx")
    configure(root / "mixing", "max_batch_size: 8")
    models.mlp_external_data(root / "external/1/model.onnx/model.onnx")
    configure(root / "external", 'name: "external" max_batch_size: 8')
    models.identity(root / "labelled/1/model.onnx", "FP32", ("n", 3))
    configure(
        root / "labelled",
        'max_batch_size: 8 output { name: "y" dims: [ 3 ] label_filename: "names.txt" }',
    )
    (root / "labelled/names.txt").write_text("cat\nfür: dog\n")
    times(root / "all", "version_policy: { all { } }", 1, 2, 3)
    times(root / "specific", "version_policy { specific { versions: [ 1, 2, 7 ] } }", 1, 2, 3)
    times(root / "nowhere", "version_policy { specific { versions: [ 9 ] } }", 1)
    times(root / "fallen", "version_policy: { all { } }", 1, 2)
    (root / "fallen/2/model.onnx").write_bytes(b"no model at all")
    times(root / "latest", "version_policy { latest { num_versions: 2 } }", 1, 2, 3)
    times(root / "toml", "max_batch_size: 4 with mistakes", 5)
    (root / "toml/servable.toml").write_text("max_batch_size = 16\n")
    times(root / "pipeline", 'name: "pipeline" platform: "ensemble"', 1)
    times(root / "script", 'backend: "python"', 1)
    times(root / "typo", 'name: "typo"\nmax_batchsize: 8', 1)
    times(root / "mismatch", 'max_batch_size: 8 input { name: "x" dims: [ 2 ] }', 1)
    return root


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[ServerProcess]:
    with serving(repository, repository.parent / "scratch") as running:
        yield running


@pytest.fixture(scope="module")
def answers(server: ServerProcess) -> dict[str, Any]:
    command = [sys.executable, str(CALLS), f"127.0.0.1:{server.rest_port}", server.grpc]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(params=["http", "grpc"])
def told(answers: dict[str, Any], request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = answers[request.param]
    return found


def test_simple_adds_and_subtracts(told: dict[str, Any]) -> None:
    answer = told["simple"]
    assert answer["shapes"] == {"OUTPUT0": [1, 16], "OUTPUT1": [1, 16]}
    assert answer["OUTPUT0"] == [i + 1 for i in range(16)]
    assert answer["OUTPUT1"] == [i - 1 for i in range(16)]


def test_simple_answers_the_output_that_is_asked_for(told: dict[str, Any]) -> None:
    assert told["simple one output"]["shapes"] == {"OUTPUT1": [1, 16]}


def test_simple_splits_a_request_larger_than_its_batch(told: dict[str, Any]) -> None:
    """20 rows at max_batch_size 8, which Triton refuses."""
    answer = told["simple over the batch"]
    assert answer["OUTPUT0"] == [i + 2 for i in range(320)]
    assert answer["OUTPUT1"] == [i - 2 for i in range(320)]


def test_simple_string_adds_and_subtracts_numerals(told: dict[str, Any]) -> None:
    answer = told["simple_string"]
    assert answer["OUTPUT0"] == [str(i + 1) for i in range(16)]
    assert answer["OUTPUT1"] == [str(i - 1) for i in range(16)]


def test_simple_identity_gives_strings_back(told: dict[str, Any]) -> None:
    assert told["simple_identity"]["OUTPUT0"] == ["0", "1", "2", "3", "4", "5"]
    assert told["simple_identity"]["shapes"] == {"OUTPUT0": [2, 3]}


def test_classes_have_the_names_that_lie_beside_the_versions(told: dict[str, Any]) -> None:
    answer = told["labelled"]
    assert answer["shapes"] == {"y": [2, 2]}
    assert answer["y"] == [
        "3.000000:1:für: dog", "2.000000:2", "9.000000:0:cat", "8.000000:1:für: dog",
    ]  # fmt: skip
    assert "output 'OUTPUT0' holds strings, which have no largest" in told["labelled badly"]


def test_classes_over_json(server: ServerProcess) -> None:
    body = {
        "inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 3, 2]}],
        "outputs": [{"name": "y", "parameters": {"classification": 1}}],
    }
    for _ in range(2):  # the second time the body is known
        status, told = server.post("/v2/models/labelled/infer", body)
        (output,) = told["outputs"]
        assert (status, output) == (
            200,
            {"name": "y", "datatype": "BYTES", "shape": [1, 1], "data": ["3.000000:1:für: dog"]},
        )
    del body["outputs"]
    assert server.post("/v2/models/labelled/infer", body)[1]["outputs"][0]["data"] == [1, 3, 2]


def test_a_size_that_varies_takes_what_comes(told: dict[str, Any]) -> None:
    assert told["dynamic"]["shapes"] == {"y": [2, 5]}
    assert told["dynamic other"]["shapes"] == {"y": [3, 2]}
    assert set(told["dynamic"]["y"]) == {2.0}


def test_a_size_that_the_file_fixes_is_demanded(told: dict[str, Any]) -> None:
    assert told["narrow"]["shapes"] == {"y": [2, 4]}
    assert re.search(r"axis 1\b.*[^0-9]4\b.*given .*5", told["narrow refused"])


def test_version_policies_decide_what_is_served(told: dict[str, Any]) -> None:
    by_version = {key: told[key] for key in ("all", "all 1", "all 2", "specific", "latest 2")}
    assert {key: (int(a["version"]), a["y"]) for key, a in by_version.items()} == {
        "all": (3, [9]),
        "all 1": (1, [3]),
        "all 2": (2, [6]),
        "specific": (2, [6]),
        "latest 2": (2, [6]),
    }
    assert told["ready 3"] is True
    assert "has no version 3" in told["specific 3"]
    assert "has no version 1" in told["latest 1"]


def test_the_highest_version_that_is_ready_answers(server: ServerProcess) -> None:
    """Version 2 is wanted and cannot be loaded."""
    assert server.get("/v2/models/fallen/versions/2/ready")[0] == 503
    status, found = server.get("/v2/models/fallen")
    assert (status, found["versions"], found["properties"]["version"]) == (200, ["1"], "1")


def test_a_version_that_is_asked_for_and_not_there_is_named(server: ServerProcess) -> None:
    log = server.log().splitlines()
    absent = [line for line in log if "is asked for by versions" in line]
    assert sorted(re.findall(r"version (\d) is asked .*servable=(\w+)", "\n".join(absent))) == [
        ("7", "specific"),
        ("9", "nowhere"),
    ]
    status, refusal = server.get("/v2/models/nowhere")
    assert status == 503
    assert "no version is wanted by versions = {specific = [9]}" in str(refusal)


def test_servable_toml_wins(told: dict[str, Any], server: ServerProcess) -> None:
    assert told["toml"]["y"] == [15]
    assert "config.pbtxt is not read: servable.toml beside it wins" in server.log()


def test_folders_that_cannot_be_served_say_why(told: dict[str, Any], server: ServerProcess) -> None:
    assert told["ready"] == {
        "simple": True, "pipeline": False, "script": False, "typo": False, "mismatch": False,
    }  # fmt: skip
    assert "platform 'ensemble' is a pipeline of other models" in told["pipeline"]
    log = server.log()
    assert "script/config.pbtxt: backend 'python' is Python code" in log
    assert "line 2, column 1: 'max_batchsize' is not a field" in log
    assert "did you mean 'max_batch_size'?" in log
    assert "input 'x' has another shape in mismatch/config.pbtxt than in the model" in log


def test_what_is_not_honoured_is_in_the_log(server: ServerProcess) -> None:
    (line,) = (n for n in server.log().splitlines() if "preferred_batch_size" in n)
    assert "not honoured: dynamic_batching preferred_batch_size" in line
    assert "servable=dynamic" in line


def test_an_asserted_batch_axis_is_used_where_the_walk_has_no_rule(
    told: dict[str, Any], server: ServerProcess
) -> None:
    assert told["asserted"]["y"] == [0, 1, 2] * 2 + [3, 4, 5] * 2
    status, found = server.get("/v2/models/asserted")
    assert status == 200
    assert found["properties"]["batched"] == "true"
    assert found["properties"]["batch_reason"] == (
        "asserted by max_batch_size: 4 in asserted/config.pbtxt"
    )


def test_an_asserted_batch_axis_that_runs_contradict_is_not_used(server: ServerProcess) -> None:
    found = server.get("/v2/models/mixing")[1]
    assert found["properties"]["batched"] == "false"
    assert "trial runs contradict the batch axis" in found["properties"]["batch_reason"]


def test_a_model_frozen_to_two_rows_answers_any_number(server: ServerProcess) -> None:
    for rows in (1, 2, 5):
        data = [float(i) for i in range(3 * rows)]
        tensor = {"name": "x", "datatype": "FP32", "shape": [rows, 3], "data": data}
        status, answer = server.post("/v2/models/frozen/infer", {"inputs": [tensor]})
        assert status == 200, answer
        assert answer["outputs"][0]["shape"] == [rows, 3]
        assert answer["outputs"][0]["data"] == data


def test_a_model_in_a_folder_of_its_files_name_is_loaded_with_its_data(
    server: ServerProcess,
) -> None:
    assert server.get("/v2/models/external/ready")[0] == 200


def test_numerals_are_tried_so_that_strings_batch(server: ServerProcess) -> None:
    found = server.get("/v2/models/simple_string")[1]
    assert found["properties"]["batched"] == "true", found["properties"]["batch_reason"]


def test_metadata_is_as_triton_says_it(told: dict[str, Any]) -> None:
    simple, versions = told["metadata"]["simple"], told["metadata"]["all"]
    assert simple["platform"] == "onnxruntime_onnx"
    assert [t["name"] for t in simple["inputs"]] == ["INPUT0", "INPUT1"]
    assert {t["datatype"] for t in (*simple["inputs"], *simple["outputs"])} == {"INT32"}
    shapes = [[int(d) for d in t["shape"]] for t in (*simple["inputs"], *simple["outputs"])]
    assert shapes == [[-1, 16]] * 4
    assert versions["versions"] == ["1", "2", "3"]
    assert [int(d) for d in told["metadata"]["narrow"]["inputs"][0]["shape"]] == [-1, 4]


def test_config_is_as_triton_says_it(told: dict[str, Any]) -> None:
    simple, dynamic = told["config"]["simple"], told["config"]["dynamic"]
    assert simple["name"] == "simple"
    assert simple["platform"] == "onnxruntime_onnx"
    assert int(simple["max_batch_size"]) == 8
    assert [t["name"] for t in simple["input"]] == ["INPUT0", "INPUT1"]
    assert simple["input"][0]["data_type"] == "TYPE_INT32"
    assert [int(d) for d in simple["output"][1]["dims"]] == [16]
    assert [int(d) for d in dynamic["input"][0]["dims"]] == [-1]
    delay = dynamic["dynamic_batching"]["max_queue_delay_microseconds"]
    assert int(delay) == 100
    assert int(told["config"]["asserted"]["max_batch_size"]) == 4
    assert int(told["config"]["toml"]["max_batch_size"]) == 16


def test_config_over_rest_has_numbers_and_every_version(answers: dict[str, Any]) -> None:
    config = answers["http"]["config of a version"]
    assert config["version_policy"] == {"all": {}}
    assert config["input"] == [
        {
            "name": "x",
            "data_type": "TYPE_INT32",
            "format": "FORMAT_NONE",
            "dims": [1],
            "is_shape_tensor": False,
            "allow_ragged_batch": False,
            "optional": False,
            "is_non_linear_format_io": False,
        }
    ]


def test_serving_list_names_what_is_not_honoured(repository: Path) -> None:
    command = [sys.executable, "-m", "serving", "list", "--model-dir", str(repository)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "not honoured: dynamic_batching preferred_batch_size: a batch is what waits" in text
    assert "backend 'python' is Python code" in text
    assert "did you mean 'max_batch_size'?" in text
    assert "config.pbtxt is not read: servable.toml beside it wins" in text
