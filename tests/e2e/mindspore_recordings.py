"""Recorded conversations with MindSpore Serving, made into calls of models that are served here.

A recording can be played back where it is about a model: ``add_common``, ``add_sub_only_model``,
``predict`` and ``predict_v`` are a model and nothing else, ``passthrough`` returns its input, and
``echo`` does with a Python function. Each becomes a servable of its own with the one method that
a model has here; names are exchanged in the request and in the answer that is expected. For
``passthrough`` and ``echo`` that is an Identity model of the type and shape of the value.
"""

from __future__ import annotations

import ast
import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serving.frontends.grpc.stubs import ms_service_pb2 as pb
from serving.frontends.mindspore import types

FOLDER = Path(__file__).resolve().parents[1] / "data" / "mindspore_serving"
METHODS = {
    ("add", "add_common"): "add",
    ("add_sub", "add_sub_only_model"): "add_sub",
    ("addb", "predict"): "addb",
    ("addb", "predict_v"): "addv",
}
ECHOES = ("echo", "passthrough")
NO_REQUEST = ("oversized_1.4MB_limit_1MB", "unparsable_request", "unknown_rpc", "noconn", "ctor")
NOWHERE = (("nope", "add_common"), ("nope", "m"), ("", "add_common"), ("add", "nope"), ("add", ""))
"""Asked for to be refused."""
_JSON_TYPES = {"fp16": "float16", "fp32": "float32", "fp64": "float64"}


@dataclass(frozen=True)
class Echo:
    """An Identity model: MindSpore's word for its type, and the shape of its one input."""

    word: str
    shape: tuple[int, ...]

    @property
    def servable(self) -> str:
        return "_".join(("echo", self.word, *map(str, self.shape)))


@dataclass(frozen=True)
class Replay:
    """A recording and the servable that stands for its own; ``echo`` if that is an Identity."""

    record: dict[str, Any]
    servable: str
    method: str
    echo: Echo | None = None

    @property
    def name(self) -> str:
        return str(self.record["name"])

    def renamed(self, text: str) -> str:
        """Return a text of the server with the names exchanged."""
        _, method = asked(self.record)
        if self.method == method:
            return text
        text = text.replace(f"method({method})", f"method({self.method})")
        return text.replace(f"method {method}", f"method {self.method}")


def load(kind: str) -> list[dict[str, Any]]:
    """Return the recordings of ``grpc``, ``rest`` or ``client``."""
    found: list[dict[str, Any]] = json.loads((FOLDER / f"{kind}.json").read_text())
    return found


def asked(record: dict[str, Any]) -> tuple[str, str]:
    """Return the servable and method that a recording asks for."""
    if "servable" in record:
        return record["servable"], record["method"]
    if "path" in record:
        place, _, method = record["path"].partition(":")
        return place.partition("/model/")[2].split("/")[0], method
    request = record.get("request")
    spec = request["servable_spec"] if isinstance(request, dict) else {}
    return spec.get("name", ""), spec.get("method_name", "")


def replay(record: dict[str, Any]) -> Replay | None:
    """Return how to play a recording back.

    None where it needs Python stages, has no request, or never reached the server.
    """
    if record["name"] in NO_REQUEST or ("servable" in record and "result" not in record):
        return None
    name, method = asked(record)
    if (name, method) in METHODS:
        return Replay(record, METHODS[name, method], "predict")
    if (name, method) in NOWHERE:
        return Replay(record, name, method)
    if name == "kinds" and method in ECHOES:
        word, shape = _value(record)
        if word in ("str", "bytes"):
            if method == "echo" and word == "bytes" and shape in ((), (1,)):
                return None  # the function is handed an array of uint8 and returns that
            echo = Echo("str", shape if (method, shape) == ("passthrough", (1,)) else ())
        else:
            echo = Echo(word, shape)
        return Replay(record, echo.servable, "predict", echo)
    return None


def request_message(found: Replay) -> pb.PredictRequest:
    """Return the recorded gRPC request, for the servable that stands for its own."""
    message = pb.PredictRequest.FromString(base64.b64decode(found.record["request_b64"]))
    message.servable_spec.name = found.servable
    message.servable_spec.method_name = found.method
    return message


def expected_message(found: Replay) -> pb.PredictReply:
    """Return the recorded gRPC reply, as it is expected here."""
    message = pb.PredictReply.FromString(base64.b64decode(found.record["response_b64"]))
    message.servable_spec.name = found.servable
    message.servable_spec.method_name = found.method
    for error in message.error_msg:
        error.error_msg = found.renamed(error.error_msg.decode()).encode()
    return message


def rest_path(found: Replay) -> str:
    """Return the recorded path, with the names exchanged."""
    path: str = found.record["path"]
    name, _ = asked(found.record)
    place, _, _ = path.partition(":")
    return place.replace(f"/model/{name}", f"/model/{found.servable}", 1) + f":{found.method}"


def client_request(found: Replay) -> pb.PredictRequest:
    """Return what the Python client of MindSpore Serving sends for a recorded call."""
    record = found.record
    spec = pb.ServableSpec(
        name=found.servable, method_name=found.method, version_number=record["version"]
    )
    message = pb.PredictRequest(servable_spec=spec)
    given = record["instances"]
    for instance in [given] if isinstance(given, dict) else given:
        items = message.instances.add().items
        for name, value in instance.items():
            items[name].CopyFrom(_client_tensor(value))
    return message


def client_result(reply: pb.PredictReply) -> Any:
    """Return what the Python client of MindSpore Serving makes of a reply, described."""
    errors = [{"error": e.error_msg.decode()} for e in reply.error_msg]
    if len(errors) == 1:
        return errors[0]
    rows = [
        {name: _described(tensor) for name, tensor in instance.items.items()}
        for instance in reply.instances
    ]
    for place, entry in enumerate(reply.error_msg):
        if entry.error_code:
            rows[place] = errors[place]
    return rows


def _value(record: dict[str, Any]) -> tuple[str, tuple[int, ...]]:
    """Return type and shape of the value that is echoed."""
    if "body" in record:
        return _json_value(json.loads(record["body"])["instances"][0]["x"])
    if "request_b64" in record:
        message = pb.PredictRequest.FromString(base64.b64decode(record["request_b64"]))
        tensor = message.instances[0].items["x"]
    else:
        tensor = _client_tensor(record["instances"]["x"])
    return types.BY_NUMBER[tensor.dtype].word, tuple(tensor.shape.dims)


def _json_value(value: Any) -> tuple[str, tuple[int, ...]]:
    if isinstance(value, dict):
        word = value.get("type", "bytes")
        return _JSON_TYPES.get(word, word), tuple(value.get("shape", ()))
    if isinstance(value, list):
        word, shape = _json_value(value[0])
        return word, (len(value), *shape)
    if isinstance(value, int) and not isinstance(value, bool):
        return ("int64" if value > 2**31 else "int32"), ()
    return {bool: "bool", float: "float32", str: "str"}[type(value)], ()


def _client_tensor(value: Any) -> pb.Tensor:
    """Return the tensor that the client sends for a recorded Python value.

    A plain Python number or string becomes a tensor of shape [1], a numpy value keeps its own.
    """
    if isinstance(value, dict) and "bytes_b64" in value:
        data = base64.b64decode(value["bytes_b64"])
        return pb.Tensor(shape=pb.TensorShape(dims=[1]), dtype=pb.MS_BYTES, bytes_val=[data])
    if isinstance(value, str):
        shape = pb.TensorShape(dims=[1])
        return pb.Tensor(shape=shape, dtype=pb.MS_STRING, bytes_val=[value.encode()])
    if isinstance(value, dict):
        dtype = value.get("ndarray", value.get("np"))
        array = np.array(ast.literal_eval(value["value"]), dtype)
    else:
        array = np.array([value])
    return tensor_of(array)


def tensor_of(value: Any) -> pb.Tensor:
    """Return a numpy array or scalar as a tensor."""
    array = np.asarray(value)
    number = types.BY_WORD[array.dtype.name].number
    shape = pb.TensorShape(dims=array.shape)
    return pb.Tensor(shape=shape, dtype=pb.DataType.Name(number), data=array.tobytes())


def _described(tensor: pb.Tensor) -> Any:
    kind = types.BY_NUMBER[tensor.dtype]
    if kind is types.STRING:
        return tensor.bytes_val[0].decode()
    if kind is types.RAW:
        return {"bytes_b64": base64.b64encode(tensor.bytes_val[0]).decode()}
    array = np.frombuffer(tensor.data, kind.dtype.numpy).reshape(tuple(tensor.shape.dims))
    return {"ndarray": kind.word, "shape": list(array.shape), "value": str(array.tolist())}
