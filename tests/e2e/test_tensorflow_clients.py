"""TensorFlow Serving's clients, by hand: both ports, both engines, one and two front ends.

Answers are worked out here; the packages that people have are in ``tests/real``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from serving.frontends.grpc.stubs import tensorflow_pb2 as tf
from serving.frontends.grpc.stubs import tensorflow_serving_pb2 as pb
from tests import models
from tests.server import ServerProcess, call, serving

ROOT = Path(__file__).parents[2]
KINDS = {
    "lane": (), "grpcio": ("--grpc-engine", "grpcio"), "two": ("--frontends", "2"),
}  # fmt: skip
DTYPES = {
    "FP16": (19, "<f2", "half_val"), "FP32": (1, "<f4", "float_val"),
    "FP64": (2, "<f8", "double_val"), "INT8": (6, "<i1", "int_val"),
    "UINT16": (17, "<u2", "int_val"), "INT64": (9, "<i8", "int64_val"),
    "UINT32": (22, "<u4", "uint32_val"), "UINT64": (23, "<u8", "uint64_val"),
    "BOOL": (10, "bool", "bool_val"),
}  # fmt: skip
METHODS = """
from serving import register

def twice(x):
    return x * 2

def word(value):
    return type(value).__name__

def shift(x, by):
    return x + by

@register.register_method(output_names=["y"])
def predict(x):
    return register.add_stage(twice, x, outputs_count=1)

@register.register_method(output_names=["word"])
def kind(value):
    return register.add_stage(word, value, outputs_count=1)

@register.register_method(output_names=["y"])
def shifted(x, by):
    return register.add_stage(shift, x, by, outputs_count=1)
"""
SAVED_MODEL = b"\x08\x01\x12\x08\x0a\x06\x12\x04serv"


def lay_out(folder: Path) -> Path:
    models.multi(folder / "multi.onnx")
    for number in (1, 2):
        models.tagged(folder / "net" / str(number) / "model.onnx", number)
    labels = 'versions = "all"\n[labels]\nstable = 1\n'
    (folder / "net" / "servable.toml").write_text(labels)
    models.string_lookup(folder / "words.onnx")
    models.softmax_over_rows(folder / "together.onnx")
    for name in DTYPES:
        models.identity(folder / f"same_{name}.onnx", name)
    (folder / "scale" / "1").mkdir(parents=True)
    (folder / "scale" / "servable_config.py").write_text(METHODS)
    saved = folder / "legacy" / "3"
    (saved / "variables").mkdir(parents=True)
    for name in ("saved_model.pb", "fingerprint.pb"):
        (saved / name).write_bytes(SAVED_MODEL)
    (saved / "variables" / "variables.index").write_bytes(b"x")
    return folder


@pytest.fixture(scope="module", params=KINDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    home = tmp_path_factory.mktemp("tensorflow")
    options = ("--max-request-mb", "1", *KINDS[request.param])
    with serving(lay_out(home / "models"), home / "run", *options) as found:
        yield found


@pytest.fixture
def channel(server: ServerProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc) as opened:
        yield opened


def post(server: ServerProcess, path: str, body: Any) -> tuple[int, Any]:
    return call("POST", f"{server.base}/v1/models/{path}:predict", body)


def tensor(number: int, *shape: int, **fields: Any) -> tf.TensorProto:
    dims = [tf.TensorShapeProto.Dim(size=size) for size in shape]
    return tf.TensorProto(dtype=number, tensor_shape=tf.TensorShapeProto(dim=dims), **fields)


def predict(channel: grpc.Channel, message: pb.PredictRequest) -> pb.PredictResponse:
    stub = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    return pb.PredictResponse.FromString(stub(message.SerializeToString(), timeout=60))


def request(name: str, **inputs: tf.TensorProto) -> pb.PredictRequest:
    return pb.PredictRequest(model_spec=pb.ModelSpec(name=name), inputs=inputs)


def failure(channel: grpc.Channel, message: pb.PredictRequest) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as failed:
        predict(channel, message)
    error: Any = failed.value
    return error.code().name, error.details()


def test_rest_answers_rows_and_columns(server: ServerProcess) -> None:
    rows = [{"left": [1, -2, 3.5], "right": [4, 5]}, {"left": [0, 0, 1], "right": [-6, 7]}]
    assert post(server, "multi", {"instances": rows}) == (
        200,
        {
            "predictions": [
                {"total": 2.5, "doubled": [8, 10], "positive": [True, False, True]},
                {"total": 1.0, "doubled": [-12, 14], "positive": [False, False, True]},
            ]
        },
    )
    columns = {"left": [[1, -2, 3.5]], "right": [[4, 5]]}
    assert post(server, "multi", {"inputs": columns}) == (
        200,
        {"outputs": {"total": [2.5], "doubled": [[8, 10]], "positive": [[True, False, True]]}},
    )
    words = {"instances": ["two", {"b64": "b25l"}, {"word": "ten"}]}
    assert post(server, "words", words) == (200, {"predictions": [2, 1, -1]})


def test_rest_finds_versions_and_labels(server: ServerProcess) -> None:
    for place, tag in (("net", 2), ("net/versions/1", 1), ("net/labels/stable", 1)):
        status, found = post(server, place, {"instances": [0.5]})
        assert (status, found) == (200, {"predictions": [{"tag": tag, "sum": tag + 0.5}]})
    for place in ("net/versions/3", "net/labels/canary", "nett"):
        assert post(server, place, {"instances": [0.5]})[0] == 404


def test_rest_stacks_instances_of_a_model_whose_rows_depend_on_each_other(
    server: ServerProcess,
) -> None:
    rows = np.float64([[0, 1, 2, 3], [3, 2, 1, 0]])
    status, found = post(server, "together", {"instances": rows.tolist()})
    expected = np.exp(rows) / np.exp(rows).sum(axis=0)
    assert status == 200
    assert np.allclose(found["predictions"], expected, atol=1e-6)


def test_rest_names_what_is_wrong(server: ServerProcess) -> None:
    row = {"left": [1, 2, 3], "right": [4, 5]}
    for change, status, text in (
        ({"instances": [{**row, "left": [1, 2]}]}, 400, "axis 0 of the tensor has the wrong size"),
        ({"instances": [{**row, "right": [1.5, 2]}]}, 400, "does not fit INT64"),
        ({"instances": [{**row, "mid": 1}]}, 400, "unknown input 'mid'"),
        ({"instances": [{"left": [1, 2, 3]}]}, 400, "input 'right' is missing"),
        ({"inputs": {"left": [[1, 2, 3]], "right": [[4, 5]] * 2}}, 400, "right"),
        ({"instances": [row], "signature_name": "other"}, 404, "expected 'serving_default'"),
        ({"instances": []}, 400, "no instances"),
        ({"instances": [row] * 40_000}, 413, "--max-request-mb"),
    ):
        found, body = post(server, "multi", change)
        assert (found, list(body)) == (status, ["error"])
        assert text in body["error"]


def test_signatures_are_methods(server: ServerProcess, channel: grpc.Channel) -> None:
    body = {"signature_name": "shifted", "instances": [{"x": 1.5, "by": 2.0}, {"x": 3, "by": 4}]}
    assert post(server, "scale", body) == (200, {"predictions": [3.5, 7]})
    assert post(server, "scale", {"instances": [{"x": 1.5}]}) == (200, {"predictions": [3.0]})
    message = request("scale", x=tensor(2, 2, double_val=[1.5, 2]))
    assert list(predict(channel, message).outputs["y"].double_val) == [3, 4]
    message.model_spec.signature_name = "shiftd"
    code, details = failure(channel, message)
    assert (code, "did you mean 'shifted'?" in details) == ("NOT_FOUND", True)
    found = server.get("/v1/models/scale/metadata")[1]["metadata"]["signature_def"]
    assert set(found["signature_def"]) == {"predict", "kind", "shifted", "serving_default"}


def test_strings_are_text_to_a_method_where_they_can_be(
    server: ServerProcess, channel: grpc.Channel
) -> None:
    message = request("scale", value=tensor(7, 2, string_val=["Gruß".encode()]))
    message.model_spec.signature_name = "kind"
    assert list(predict(channel, message).outputs["word"].string_val) == [b"str", b"str"]
    message.inputs["value"].string_val[0] = b"\xff\xd8"
    assert list(predict(channel, message).outputs["word"].string_val) == [b"ndarray", b"ndarray"]
    rows = ["Gruß", {"b64": "/9g="}]
    body = {"signature_name": "kind", "instances": rows}
    assert post(server, "scale", body) == (200, {"predictions": ["str", "ndarray"]})


def test_grpc_answers_in_the_types_of_the_model(channel: grpc.Channel) -> None:
    for name, (number, kind, field) in DTYPES.items():
        array = np.array([[0, 1, 1], [1, 0, 1]], kind)
        message = request(f"same_{name}", x=tensor(number, 2, 3, tensor_content=array.tobytes()))
        answer = predict(channel, message)
        found = np.array(getattr(answer.outputs["y"], field))
        if field == "half_val":
            found = found.astype(np.uint16).view("<f2")
        assert np.array_equal(found, array.reshape(-1)), name
        assert [d.size for d in answer.outputs["y"].tensor_shape.dim] == [2, 3]
    words = request("words", word=tensor(7, 3, string_val=[b"two", b"one"]))
    assert list(predict(channel, words).outputs["number"].int64_val) == [2, 1, 1]


def test_grpc_finds_versions_labels_and_outputs(channel: grpc.Channel) -> None:
    message = request("net", x=tensor(1, 1, float_val=[0.5]))
    assert predict(channel, message).outputs["sum"].float_val == [2.5]
    message.model_spec.version.value = 1
    assert predict(channel, message).model_spec.version.value == 1
    message.model_spec.version_label = "stable"
    message.output_filter.append("tag")
    answer = predict(channel, message)
    assert {name: list(t.float_val) for name, t in answer.outputs.items()} == {"tag": [1]}
    message.model_spec.version_label = "canary"
    assert failure(channel, message)[0] == "NOT_FOUND"


def test_grpc_names_what_is_wrong(channel: grpc.Channel) -> None:
    left, right = tensor(1, 1, 3, float_val=[1]), tensor(9, 1, 2, int64_val=[4])
    for inputs, code, text in (
        ({"left": left}, "INVALID_ARGUMENT", "needs input 'right'"),
        ({"left": left, "right": right, "mid": left}, "INVALID_ARGUMENT", "'mid'"),
        ({"left": left, "rigt": right}, "INVALID_ARGUMENT", "did you mean 'right'?"),
        ({"left": tensor(1, 1, 4), "right": right}, "INVALID_ARGUMENT", "left"),
        ({"left": tensor(2, 1, 3), "right": right}, "INVALID_ARGUMENT", "FP64"),
        ({"left": tensor(1, 2, 3), "right": right}, "INVALID_ARGUMENT", "right"),
        ({"left": tensor(1, 1 << 20, 3), "right": right}, "RESOURCE_EXHAUSTED", "1048576"),
    ):
        found, details = failure(channel, request("multi", **inputs))
        assert found == code, details
        assert text in details
    assert failure(channel, request("none", left=left))[0] == "NOT_FOUND"


def test_a_folder_of_a_saved_model_is_listed_with_the_way_out(
    server: ServerProcess, channel: grpc.Channel
) -> None:
    status, found = server.get("/v1/models/legacy")
    (version,) = found["model_version_status"]
    assert (status, found["ready"], version["version"], version["state"]) == (
        200,
        False,
        "3",
        "END",
    )
    assert "tf2onnx.convert --saved-model" in version["status"]["error_message"]
    stub = channel.unary_unary("/tensorflow.serving.ModelService/GetModelStatus")
    message = pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name="legacy"))
    told = pb.GetModelStatusResponse.FromString(stub(message.SerializeToString(), timeout=60))
    assert "tf2onnx" in told.model_version_status[0].status.error_message
    assert post(server, "legacy", {"instances": [1]})[0] in (404, 503)
    ready = server.get("/v1/models/net")[1]
    assert [v["state"] for v in ready["model_version_status"]] == ["AVAILABLE"] * 2


def test_the_guide_s_call_is_answered_as_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    guide = (ROOT / "docs" / "tensorflow-serving-clients.md").read_text()
    first, *_ = re.findall(r"^```python\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(ROOT)
    with serving(ROOT / "servables", tmp_path) as server:
        exec(first.replace("http://localhost:1500", server.base), {})
    (shown,) = re.findall(r"# (\d+)$", first, re.MULTILINE)
    assert capsys.readouterr().out == f"{shown}\n"


def test_calls_are_counted_and_described(server: ServerProcess) -> None:
    assert post(server, "net", {"instances": [0.5]})[0] == 200
    status, text = server.get("/metrics")
    assert status == 200
    (line,) = [
        line for line in text.splitlines()
        if line.startswith("nv_inference_request_success{") and 'model="net",version="2"' in line
    ]  # fmt: skip
    assert float(line.split()[-1]) >= 1
    schema = server.get("/openapi.json")[1]
    assert "/v1/models/{name}/labels/{label}:predict" in schema["paths"]
