"""Models of every form, served from one folder without settings, over every wire.

Each answer is compared bit for bit with the bare engine on the same input.
"""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime as ort
import pytest

from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from tests import models
from tests.server import ServerProcess, serving

_RANDOM = np.random.default_rng(7)


def _floats(*shape: int) -> np.ndarray[Any, Any]:
    return _RANDOM.uniform(-1, 1, shape).astype(np.float32)


INPUTS: dict[str, dict[str, np.ndarray[Any, Any]]] = {
    "add": {"x": _floats(3), "y": _floats(3)},
    "attention_over_rows": {"x": _floats(5, 8)},
    "empty_size": {"x": np.empty((2, 0), np.float32)},
    "graph_convolution": {"adjacency": _floats(4, 4), "features": _floats(4, 5)},
    "lenet": {"image": _floats(2, 1, 32, 32)},
    "lstm_over_rows": {"x": _floats(7, 6)},
    "mlp": {"x": _floats(5, 16)},
    "mlp_external_data": {"x": _floats(1, 16)},
    "mlp_fp16": {"x": _floats(2, 16).astype(np.float16)},
    "mlp_int8_dynamic": {"x": _floats(3, 16)},
    "mlp_int8_static": {"x": _floats(3, 16)},
    "multi": {"left": _floats(2, 3), "right": np.array([[1, 2**53 + 1], [-4, 5]], np.int64)},
    "non_max_suppression": {
        "boxes": np.array([[[0, 0, 1, 1], [0, 0, 1, 0.9], [2, 2, 3, 3]]], np.float32),
        "scores": np.array([[[0.9, 0.8, 0.7]]], np.float32),
    },
    "non_zero": {"x": np.array([0, 1, 0, 2, 3], np.float32)},
    "odd_names": {"serving_default_input:0": _floats(2, 2)},
    "recurrent_state": {"x": _floats(1, 6), "state": _floats(1, 1, 8)},
    "scalar_input": {"x": _floats(2, 4), "scale": np.array(2.5, np.float32)},
    "scalar_output": {"x": _floats(2, 4)},
    "softmax_over_rows": {"x": _floats(3, 4)},
    "transformer": {"ids": _RANDOM.integers(0, 50, (2, 64))},
    "variable_width": {"x": _floats(2, 9)},
}
_V2 = {
    "float32": "FP32", "float16": "FP16", "float64": "FP64", "int64": "INT64", "int32": "INT32",
    "bool": "BOOL", "uint8": "UINT8", "int8": "INT8",
}  # fmt: skip
_NUMPY = {v2: np.dtype(name) for name, v2 in _V2.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    for name in [*INPUTS, "string_lookup", "zip_map", "sequence"]:
        path = root / name / "1" / "model.onnx"
        path.parent.mkdir(parents=True)
        getattr(models, name)(path)
    return root


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving(folder, tmp_path_factory.mktemp("server")) as running:
        yield running


def _engine(folder: Path, name: str) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    path = str(folder / name / "1" / "model.onnx")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _expected(folder: Path, name: str) -> dict[str, np.ndarray[Any, Any]]:
    session = _engine(folder, name)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, INPUTS[name]), strict=True))


def _check(got: dict[str, np.ndarray[Any, Any]], expected: dict[str, np.ndarray[Any, Any]]) -> None:
    assert list(got) == list(expected)
    for name, value in expected.items():
        assert got[name].shape == value.shape
        assert got[name].dtype == value.dtype
        np.testing.assert_array_equal(got[name], value)


@pytest.mark.parametrize("name", sorted(INPUTS))
def test_model_over_rest_json_equals_the_engine(
    server: ServerProcess, folder: Path, name: str
) -> None:
    inputs = {key: value.tolist() for key, value in INPUTS[name].items()}
    status, answer = server.predict({"servable": name, "inputs": inputs})
    assert status == 200, answer
    expected = _expected(folder, name)
    got = {
        key: np.array(answer["outputs"][key], value.dtype).reshape(value.shape)
        for key, value in expected.items()
    }
    assert sorted(answer["outputs"]) == sorted(expected)
    _check(got, expected)


@pytest.mark.parametrize("name", sorted(INPUTS))
def test_model_over_v2_binary_equals_the_engine(
    server: ServerProcess, folder: Path, name: str
) -> None:
    head: dict[str, Any] = {"id": "42", "inputs": [], "parameters": {"binary_data_output": True}}
    tail = b""
    for key, value in INPUTS[name].items():
        head["inputs"].append(
            {
                "name": key,
                "shape": list(value.shape),
                "datatype": _V2[value.dtype.name],
                "parameters": {"binary_data_size": value.nbytes},
            }
        )
        tail += value.tobytes()
    text = json.dumps(head).encode()
    request = urllib.request.Request(
        f"{server.base}/v2/models/{name}/infer",
        text + tail,
        {"Inference-Header-Content-Length": str(len(text))},
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        length = int(reply.headers["Inference-Header-Content-Length"])
        body = reply.read()
    told = json.loads(body[:length])
    assert (told["id"], told["model_name"]) == ("42", name)
    got = {}
    at = length
    for output in told["outputs"]:
        size = output["parameters"]["binary_data_size"]
        array = np.frombuffer(body[at : at + size], _NUMPY[output["datatype"]])
        got[output["name"]] = array.reshape(output["shape"])
        at += size
    _check(got, _expected(folder, name))


@pytest.mark.parametrize("name", sorted(INPUTS))
def test_model_over_grpc_equals_the_engine(server: ServerProcess, folder: Path, name: str) -> None:
    request = pb.ModelInferRequest(model_name=name, id="7")
    for key, value in INPUTS[name].items():
        tensor = request.inputs.add()
        tensor.name, tensor.datatype = key, _V2[value.dtype.name]
        tensor.shape.extend(value.shape)
        request.raw_input_contents.append(value.tobytes())
    with grpc.insecure_channel(server.grpc) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        reply = infer(request, timeout=30)
    got = {
        output.name: np.frombuffer(raw, _NUMPY[output.datatype]).reshape(list(output.shape))
        for output, raw in zip(reply.outputs, reply.raw_output_contents, strict=True)
    }
    _check(got, _expected(folder, name))


def test_strings_are_looked_up_row_by_row(server: ServerProcess, folder: Path) -> None:
    words = ["zero", "two", "no such word", "ünï\0code"]
    expected = _engine(folder, "string_lookup").run(None, {"word": np.array(words, object)})[0]
    instances = [{"word": word} for word in words]
    status, answer = server.predict({"servable": "string_lookup", "instances": instances})
    assert status == 200, answer
    assert [row["number"] for row in answer["instances"]] == expected.tolist()


def test_model_with_strings_is_not_said_to_change_its_shapes(server: ServerProcess) -> None:
    many = {"servable": "string_lookup", "inputs": {"word": ["one"] * 100}}
    for _ in range(2):
        assert server.predict(many)[0] == 200
    assert "other shapes" not in server.log()


def test_strings_given_as_base64_are_the_same_strings(server: ServerProcess) -> None:
    plain = {"servable": "string_lookup", "instances": [{"word": "two"}]}
    coded = {"b64": base64.b64encode(b"two").decode()}
    told = {"servable": "string_lookup", "instances": [{"word": coded}]}
    assert server.predict(plain) == server.predict(told)


def test_maps_are_answered_as_json_objects(server: ServerProcess, folder: Path) -> None:
    features = _floats(3, 4)
    labels, maps = _engine(folder, "zip_map").run(None, {"features": features})
    instances = [{"features": row.tolist()} for row in features]
    status, answer = server.predict({"servable": "zip_map", "instances": instances})
    assert status == 200, answer
    for row, label, table in zip(answer["instances"], labels, maps, strict=True):
        assert row["label"] == label
        assert row["probabilities"] == pytest.approx({str(k): v for k, v in table.items()})


def test_sequences_are_answered_as_json_documents(server: ServerProcess, folder: Path) -> None:
    x = _floats(3, 4)
    parts = _engine(folder, "sequence").run(None, {"x": x})[0]
    status, answer = server.predict({"servable": "sequence", "inputs": {"x": x.tolist()}})
    assert status == 200, answer
    assert len(answer["outputs"]["parts"]) == len(parts)
    np.testing.assert_allclose(answer["outputs"]["parts"][0], parts[0], rtol=1e-6)


def test_metadata_tells_inputs_outputs_and_json_outputs(server: ServerProcess) -> None:
    status, told = server.get("/v2/models/zip_map")
    assert status == 200
    assert told["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, 4]}]
    assert [output["datatype"] for output in told["outputs"]] == ["BYTES", "BYTES"]
