"""Methods of a real server by every front end: what a function sees, and what comes back of it."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from serving.client import AsyncClient, Client
from serving.errors import ExecutionFailed, InvalidRequest, NotFound
from serving.frontends.grpc.stubs import inference_v2_pb2 as v2
from serving.frontends.grpc.stubs import ms_service_pb2 as ms
from tests import servables
from tests.e2e.mindspore_recordings import PREDICT, tensor_of
from tests.e2e.test_pipeline_examples import write_guide
from tests.server import ServerProcess, serving

RAW = b"\x00\xff"
B64 = {"b64": base64.b64encode(RAW).decode()}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("methods")
    names = ("add", "addb", "kinds", "digits_images")
    models = servables.lay_out(folder / "models", names, import_line=servables.OWN_IMPORT)
    write_guide(models / "tongue")
    (models / "addb" / "servable.toml").write_text("[methods]\nhidden = true\n")
    with serving(models, folder / "run") as found:
        yield found


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.grpc) as opened:
        yield opened


def outputs_of(server: ServerProcess, method: str, *instances: Any) -> Any:
    body = {"servable": "kinds", "method": method, "instances": list(instances)}
    status, answer = server.predict(body)
    assert status == 200, answer
    return [instance["y"] for instance in answer["instances"]]


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (5, "ndarray:int32:[]:5"),
        (2**40, "ndarray:int64:[]:1099511627776"),
        (1.5, "ndarray:float32:[]:1.5"),
        ([1, 2.5], "ndarray:float32:[2]:[1.0, 2.5]"),
        ([[True]], "ndarray:bool:[1, 1]:[[True]]"),
        ("é", "str:'é'"),
        (["é"], "str:'é'"),
        (B64, "ndarray:uint8:[2]:[0, 255]"),
        ({"b64": "AAABAAIA", "dtype": "UINT16", "shape": [3]}, "ndarray:uint16:[3]:[0, 1, 2]"),
    ],
)
def test_a_function_sees_what_predict_was_sent(
    server: ServerProcess, value: Any, seen: str
) -> None:
    assert outputs_of(server, "describe", value) == [seen]


def test_predict_gives_back_what_a_method_returns(server: ServerProcess) -> None:
    values = [1, "a", [1.5, 2.5], [[True, False]], B64]
    assert outputs_of(server, "passthrough", *values) == values


def test_predict_names_the_instance_whose_function_failed(server: ServerProcess) -> None:
    body = {"servable": "kinds", "method": "fail_odd", "instances": [2, 3, 4]}
    status, problem = server.predict(body)
    assert (status, problem["code"], problem["where"]) == (400, "stage_failed", "instances[1]")
    assert problem["detail"].endswith("error msg: odd value 3")


def test_predict_of_models_only_takes_numbers_as_the_model_does(server: ServerProcess) -> None:
    rows = [{"x1": [i, 1], "x2": [0.5, 2]} for i in range(9)]
    status, answer = server.predict({"servable": "addb", "instances": rows})
    assert (status, answer["method"]) == (200, "predict")
    assert answer["instances"] == [{"y": [i + 0.5, 3.0]} for i in range(9)]
    status, problem = server.predict({"servable": "addb", "instances": [rows[0], {"x1": [1, 2]}]})
    assert (status, problem["code"], problem["where"]) == (400, "missing_input", "instances[1]")


def infer(server: ServerProcess, model: str, body: Any) -> Any:
    status, answer = server.post(f"/v2/models/{model}/infer", body)
    assert status == 200, answer
    return answer


def tensor(datatype: str, shape: list[int], data: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": datatype, "shape": shape, "data": data}]}


def test_v2_runs_several_instances_of_a_method(server: ServerProcess) -> None:
    answer = infer(server, "kinds:describe", tensor("INT16", [2, 1], [7, 8]))
    assert answer["model_name"] == "kinds:describe"
    texts = ["ndarray:int16:[1]:[7]", "ndarray:int16:[1]:[8]"]
    expected = {"name": "y", "datatype": "BYTES", "shape": [2], "data": texts}
    assert answer["outputs"] == [expected]
    text = infer(server, "kinds:describe", tensor("BYTES", [1], ["a"]))["outputs"][0]
    assert text["data"] == ["str:'a'"]


def test_v2_metadata_say_what_is_known_of_each_method(server: ServerProcess) -> None:
    _, whole = server.get("/v2/models/add")
    assert [method["name"] for method in whole["methods"]] == ["add_common", "add_cast"]
    pair = {"datatype": "FP32", "shape": [-1, 2, 2]}
    assert whole["methods"][0]["inputs"] == [{"name": n, **pair} for n in ("x1", "x2")]
    _, cast = server.get("/v2/models/add:add_cast")
    assert cast["inputs"][0] == {"name": "x1", "datatype": "ANY", "shape": [-1]}
    assert cast["outputs"] == [{"name": "y", **pair}]
    assert server.get("/v2/models/add/ready")[0] == 200
    assert server.get("/v2/models/add:nope/ready")[0] == 404
    assert server.get("/v2/models/addb:predict/config")[0] == 200


def test_v2_over_grpc_tells_text_from_bytes(server: ServerProcess) -> None:
    message = v2.ModelInferRequest(model_name="kinds:describe", raw_input_contents=[b"\1\0\0\0a"])
    given = message.inputs.add(name="x", datatype="BYTES", shape=[1])
    with grpc.insecure_channel(server.grpc) as opened:
        call = opened.unary_unary("/inference.GRPCInferenceService/ModelInfer")

        def told() -> bytes:
            data = call(message.SerializeToString(), timeout=30)
            answer = v2.ModelInferResponse.FromString(data)
            return bytes(answer.raw_output_contents[0][4:])

        assert told() == b"ndarray:uint8:[1]:[97]"
        given.parameters["content_type"].string_param = "str"
        assert told() == b"str:'a'"


def test_bf16_is_fp32_to_a_function_and_itself_to_none(server: ServerProcess) -> None:
    one = b"\x80\x3f"
    with grpc.insecure_channel(server.grpc) as opened:
        call = opened.unary_unary("/inference.GRPCInferenceService/ModelInfer")

        def given_back(method: str) -> tuple[str, bytes]:
            message = v2.ModelInferRequest(model_name=f"kinds:{method}", raw_input_contents=[one])
            message.inputs.add(name="x", datatype="BF16", shape=[1])
            answer = v2.ModelInferResponse.FromString(call(message.SerializeToString(), timeout=30))
            return answer.outputs[0].datatype, answer.raw_output_contents[0]

        assert given_back("passthrough") == ("BF16", one)
        assert given_back("echo") == ("FP32", np.float32(1).tobytes())
        assert given_back("describe")[1][4:] == b"ndarray:float32:[]:1.0"


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (5, "ndarray:int64:[]:5"),
        (np.float32(2), "ndarray:float32:[]:2.0"),
        (np.zeros((1, 2), np.uint8), "ndarray:uint8:[1, 2]:[[0, 0]]"),
        ("é", "str:'é'"),
        (RAW, "ndarray:uint8:[2]:[0, 255]"),
    ],
)
def test_the_client_sends_rows_of_any_type(client: Client, value: Any, seen: str) -> None:
    (row,) = client.predict_rows("kinds", [value], method="describe")
    assert row["y"] == seen


def test_the_client_gets_each_row_as_the_method_gave_it(client: Client) -> None:
    values = [np.float32([1, 2]), "text", RAW, np.int8(3)]
    rows = client.predict_rows("kinds", values, method="passthrough")
    for row, value in zip(rows, values, strict=True):
        assert np.array_equal(row["y"], value)
    assert [type(rows[i]["y"]) for i in (1, 2)] == [str, bytes]


def test_the_client_describes_methods_and_learns_of_their_errors(client: Client) -> None:
    known = client.describe("add", method="add_cast")
    assert (known.method, known.methods) == ("add_cast", ("add_common", "add_cast"))
    pairs = {"x1": np.ones((3, 2, 2), np.int64), "x2": np.full((3, 2, 2), 0.5)}
    answer = client.predict("add", pairs, method="add_cast")
    assert np.array_equal(answer["y"], np.full((3, 2, 2), 1.5, np.float32))
    with pytest.raises(NotFound) as refused:
        client.describe("add")
    assert "add_common" in str(refused.value)
    with pytest.raises(ExecutionFailed) as failed:
        client.predict_rows("kinds", [1], method="fail_odd")
    assert failed.value.code == "stage_failed"
    with pytest.raises(InvalidRequest):
        client.predict("add", {"x1": [[1.0]], "x2": [[1.0]]}, method="add_common")


def test_the_client_for_asyncio_names_methods_too(server: ServerProcess) -> None:
    async def ask() -> Any:
        async with AsyncClient(server.grpc) as opened:
            known = await opened.describe("kinds", method="echo")
            rows = await opened.predict_rows("kinds", ["a", "b"], method="echo")
            return known.method, [row["y"] for row in rows]

    assert asyncio.run(ask()) == ("echo", ["a", "b"])


def command(server: ServerProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "serving", "predict", *arguments, "--url", server.grpc]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_asks_a_method(server: ServerProcess, tmp_path: Path) -> None:
    done = command(server, "kinds", "--method", "describe", "-i", "x=5", "-o", "json")
    assert json.loads(done.stdout)["instances"] == [{"y": "ndarray:int32:[]:5"}], done.stderr
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"method": "describe", "instances": [[1.5], "a", B64]}))
    done = command(server, "kinds", str(body), "--method", "describe", "-o", "json")
    assert [row["y"] for row in json.loads(done.stdout)["instances"]] == [
        "ndarray:float32:[1]:[1.5]", "str:'a'", "ndarray:uint8:[2]:[0, 255]",
    ]  # fmt: skip
    refused = command(server, "kinds", str(body), "--method", "echo")
    assert "add --method describe" in refused.stderr
    lost = command(server, "kinds", "-i", "x=5")
    assert lost.returncode != 0
    assert "several methods" in lost.stderr


def test_the_command_sends_a_picture_file_as_its_bytes(
    server: ServerProcess, tmp_path: Path
) -> None:
    picture = tmp_path / "digit.png"
    Image.new("L", (16, 16), 255).save(picture)
    done = command(server, "digits_images", str(picture), "--method", "classify_top1", "-v")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("digits_images version 1 method classify_top1: image ANY[...]")
    assert done.stdout.split()[:3] == ["row", "label", "0"]


HIDDEN = "@call_add_b4.mindir_0"


def test_hidden_methods_are_called_where_they_are_allowed_and_listed_nowhere(
    server: ServerProcess,
) -> None:
    pair = {"x0": [1.0, 2.0], "x1": [3.0, 4.0]}
    status, answer = server.post(f"/model/addb:{HIDDEN}", {"instances": [pair]})
    assert (status, answer) == (200, {"instances": [{"y0": [4.0, 6.0]}]})
    status, answer = server.get(f"/v2/models/addb:{HIDDEN}")
    assert (status, [tensor["name"] for tensor in answer["inputs"]]) == (200, ["x0", "x1"])
    _, whole = server.get("/v2/models/addb")
    assert HIDDEN not in [method["name"] for method in whole["methods"]]
    refused = server.post("/model/add:@call_tensor_add.mindir_0", {"instances": [pair]})[1]
    assert refused["error_msg"].endswith(", method is not available")


def test_methods_are_counted_one_by_one(server: ServerProcess) -> None:
    assert outputs_of(server, "echo", 1, 2, 3) == [1, 2, 3]
    _, one = server.get("/v2/models/kinds:echo/stats")
    (counted,) = one["model_stats"]
    assert counted["name"] == "kinds:echo"
    assert counted["inference_stats"]["success"]["count"] >= 3
    _, every = server.get("/v2/models/addb/stats")
    assert {"addb:predict", "addb:add_b4.mindir"} <= {m["name"] for m in every["model_stats"]}
    assert server.get("/v2/models/kinds:nope/stats")[0] == 404


def test_the_page_s_example_of_a_method_works_when_pasted(server: ServerProcess) -> None:
    with urllib.request.urlopen(server.base + "/") as answer:
        page = answer.read().decode()
    assert "<h3>add_cast</h3>" in page
    zeros = {"x1": 0, "x2": 0}
    shown = json.dumps({"servable": "add", "method": "add_cast", "instances": [zeros]})
    assert shown.replace('"', "&quot;") in page
    typed = json.dumps({"servable": "addb", "method": "predict",
                        "instances": [{"x1": [0.5, 0.5], "x2": [0.5, 0.5]}]})  # fmt: skip
    assert typed.replace('"', "&quot;") in page
    assert server.predict(json.loads(typed))[0] == 200


GUIDE = (servables.ROOT / "docs" / "methods.md").read_text()


@pytest.mark.parametrize(
    ("path", "expected"), [("/predict", ["German"]), (":detect/infer", ["German", "Spanish"])]
)
def test_the_guide_s_calls_by_curl_are_answered(
    server: ServerProcess, path: str, expected: list[str]
) -> None:
    (call,) = re.findall(rf"^curl localhost:1500(\S*{path}) -d '(.*)'$", GUIDE, re.MULTILINE)
    status, answer = server.post(call[0], json.loads(call[1]))
    assert status == 200
    if path == "/predict":
        assert [row["language"] for row in answer["instances"]] == expected
    else:
        assert answer["outputs"][0]["data"] == expected


def test_the_guide_s_command_is_answered(server: ServerProcess) -> None:
    (line,) = re.findall("^serving predict (.*)$", GUIDE, re.MULTILINE)
    assert command(server, *shlex.split(line)).stdout.split()[:5] == [
        "row", "language", "probability", "0", "English",
    ]  # fmt: skip


def test_the_guide_s_python_prints_what_its_comments_say(server: ServerProcess) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", program.replace("localhost:5500", server.grpc)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    promised = re.findall(r"^ *print\(.*\)  # (.*)$", program, re.MULTILINE)
    assert done.stdout.splitlines() == promised, done.stderr


def test_many_instances_of_a_method_go_as_many_requests(server: ServerProcess) -> None:
    message = ms.PredictRequest(servable_spec=ms.ServableSpec(name="addb", method_name="predict"))
    for i in range(300):
        items = message.instances.add().items
        items["x1"].CopyFrom(tensor_of(np.full(2, i, "f4")))
        items["x2"].CopyFrom(tensor_of(np.ones(2, "f4")))
    with grpc.insecure_channel(server.grpc) as opened:
        data = opened.unary_unary(PREDICT)(message.SerializeToString(), timeout=60)
    reply = ms.PredictReply.FromString(data)
    assert not reply.error_msg
    sums = [np.frombuffer(instance.items["y"].data, "<f4") for instance in reply.instances]
    assert np.array_equal(sums, [[i + 1, i + 1] for i in range(300)])
