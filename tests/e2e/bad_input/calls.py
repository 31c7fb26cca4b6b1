"""Ways to send a request that ought to be refused, and what is expected of every refusal."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
import numpy as np

from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from tests.server import ServerProcess

LEFT, RIGHT = [1.0, 2.0, 3.0], [4, 5]
GOOD = {"servable": "multi", "inputs": {"left": [LEFT], "right": [RIGHT]}}
CALLERS_FAULT = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
_SECRET = re.compile(r"/tmp/|/home/|/root/|\.py\b|Traceback|memfd|site-packages|<class|object at")


class Refusal(NamedTuple):
    """``status`` is HTTP's number or gRPC's code."""

    status: Any
    text: str


Send = Callable[[ServerProcess], Refusal]


def post(path: str, body: bytes | Any, method: str = "POST", **headers: str) -> Send:
    """Make one HTTP call; what is not bytes is sent as JSON. ``_`` in header names is ``-``."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"content-type": "application/json"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}

    def send(server: ServerProcess) -> Refusal:
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
        try:
            connection.request(method, path, data, fields)
            answer = connection.getresponse()
            return Refusal(answer.status, answer.read().decode())
        finally:
            connection.close()

    return send


def wire(*pieces: bytes, hang_up: bool = True) -> Send:
    """Send bytes as they are and hang up; the answer's head and body are one text.

    Without ``hang_up`` the server has to close: the request asks it to.
    """

    def send(server: ServerProcess) -> Refusal:
        answer = b""
        with socket.create_connection(("127.0.0.1", server.rest_port), timeout=30) as link:
            for piece in pieces:
                link.sendall(piece)
            if hang_up:
                with contextlib.suppress(OSError):  # the server may have hung up by now
                    link.shutdown(socket.SHUT_WR)
            while data := link.recv(65536):
                answer += data
        text = answer.decode()
        return Refusal(int(text.split(" ", 2)[1]), text)

    return send


def head(path: str, *fields: str) -> bytes:
    """Return the head of a POST with these header lines."""
    lines = [f"POST {path} HTTP/1.1", "host: localhost", *fields, "", ""]
    return "\r\n".join(lines).encode()


def predict(*, drop: str = "", **changes: Any) -> Send:
    """Send the good body of /predict with keys changed or dropped."""
    body = {key: value for key, value in {**GOOD, **changes}.items() if key != drop}
    return post("/predict", body)


def inputs(**changes: Any) -> Send:
    """Send the good inputs to /predict with some changed; None leaves one out."""
    changed = {**GOOD["inputs"], **changes}  # type: ignore[dict-item]
    return predict(inputs={name: value for name, value in changed.items() if value is not None})


def infer(message: pb.ModelInferRequest | bytes) -> Send:
    """Make a ModelInfer call with a message, or with bytes as they are."""
    data = message if isinstance(message, bytes) else message.SerializeToString()

    def send(server: ServerProcess) -> Refusal:
        with grpc.insecure_channel(server.grpc) as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            try:
                call(data, timeout=30)
            except grpc.RpcError as error:
                return Refusal(error.code(), error.details())
        return Refusal(grpc.StatusCode.OK, "")

    return send


def message(**changes: Any) -> pb.ModelInferRequest:
    """Return the good message with fields changed."""
    tensor = pb.ModelInferRequest.InferInputTensor
    fields: dict[str, Any] = {
        "model_name": "multi",
        "inputs": [
            tensor(name="left", datatype="FP32", shape=[1, 3]),
            tensor(name="right", datatype="INT64", shape=[1, 2]),
        ],
        "raw_input_contents": [
            np.array(LEFT, "<f4").tobytes(),
            np.array(RIGHT, "<i8").tobytes(),
        ],
    }
    return pb.ModelInferRequest(**{**fields, **changes})


def check(server: ServerProcess, send: Send, status: Any, *words: str) -> None:
    """Expect a refusal that names the fault, tells no secrets, and leaves the server whole."""
    refusal = send(server)
    assert refusal.status == status, refusal
    for word in words:
        assert word in refusal.text, refusal.text
    assert not _SECRET.search(refusal.text), refusal.text
    assert len(refusal.text) < 4000, "an error is for reading"
    status, answer = server.predict(GOOD)
    assert (status, answer["outputs"]["total"]) == (200, [6.0])
