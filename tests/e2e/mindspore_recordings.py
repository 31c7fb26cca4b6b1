"""Recorded conversations with MindSpore Serving: what was asked, and what was answered."""

from __future__ import annotations

import ast
import base64
import json
from pathlib import Path
from typing import Any

import numpy as np

from serving.frontends.grpc.stubs import ms_service_pb2 as pb
from serving.frontends.mindspore import types

FOLDER = Path(__file__).resolve().parents[1] / "data" / "mindspore_serving"
PREDICT = "/mindspore.serving.proto.MSService/Predict"

Record = dict[str, Any]


def load(kind: str) -> list[Record]:
    """Return the recordings of ``grpc``, ``rest`` or ``client``."""
    found: list[Record] = json.loads((FOLDER / f"{kind}.json").read_text())
    return found


def one(kind: str, name: str) -> Record:
    """Return the recording of that name."""
    (found,) = [record for record in load(kind) if record["name"] == name]
    return found


def grpc_request(record: Record) -> bytes:
    """Return the recorded bytes of a message; of one over the limit, as many of no meaning."""
    if "request_b64" in record:
        return base64.b64decode(record["request_b64"])
    message = pb.PredictRequest()
    tensor = message.instances.add().items["x"]
    tensor.data = bytes(record["request_len"] - 100)
    tensor.data += bytes(record["request_len"] - message.ByteSize())
    return message.SerializeToString()


def grpc_reply(record: Record) -> pb.PredictReply:
    """Return the recorded reply."""
    return pb.PredictReply.FromString(base64.b64decode(record["response_b64"]))


def rest_body(record: Record) -> bytes:
    """Return the recorded body; of one over the limit, as many spaces."""
    if record["body_len"] and "body_b64" not in record:
        return b" " * record["body_len"]
    return base64.b64decode(record.get("body_b64", ""))


def client_value(value: Any) -> Any:
    """Return a recorded Python value that somebody gave to the client."""
    if isinstance(value, dict) and "bytes_b64" in value:
        return base64.b64decode(value["bytes_b64"])
    if isinstance(value, dict) and "np" in value:
        return np.dtype(value["np"]).type(ast.literal_eval(value["value"]))
    if isinstance(value, dict):
        return np.array(ast.literal_eval(value["value"]), value["ndarray"])
    return value


REFUSED = {
    "{'x': True}": {"x": np.bool_(True)},
    "{'x': [1, 2]}": {"x": [1, 2]},
    "{'x': None}": {"x": None},
    "{'x': array(['a'], dtype='<U1')}": {"x": np.array(["a"])},
    "{'x': array([0.+1.j])}": {"x": np.array([1j])},
    "[1]": [1],
}
"""What the client does not send, by the text that it was recorded with."""


def client_instances(record: Record) -> Any:
    """Return what somebody gave to the client."""
    given = record["instances"]
    if isinstance(given, str):
        return REFUSED[given]
    if isinstance(given, dict):
        return {name: client_value(value) for name, value in given.items()}
    return [{name: client_value(value) for name, value in row.items()} for row in given]


def client_result(answer: Any) -> Any:
    """Return what the client answered as it was recorded."""
    if isinstance(answer, dict):
        return {name: _described(value) for name, value in answer.items()}
    return [client_result(row) for row in answer]


def tensor_of(value: Any) -> pb.Tensor:
    """Return a numpy array or scalar as a tensor."""
    array = np.asarray(value)
    number = types.BY_WORD[array.dtype.name].number
    shape = pb.TensorShape(dims=array.shape)
    return pb.Tensor(shape=shape, dtype=pb.DataType.Name(number), data=array.tobytes())


def _described(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return {"bytes_b64": base64.b64encode(value).decode()}
    return {
        "ndarray": value.dtype.name, "shape": list(value.shape), "value": str(value.tolist()),
    }  # fmt: skip
