"""Clients of the four ways to ask, each as plain as its protocol allows.

All take inputs as numpy arrays (object arrays of ``str`` or ``bytes`` for BYTES, ``ml_dtypes``
bfloat16 for BF16) and return outputs in the order in which the server gave them.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grpc
import numpy as np

from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from serving.tensor import BY_NAME, Array
from tests.real.engine import Output

_TIMEOUT_S = 60.0
_SPECIAL = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}


class Refused(Exception):
    """The server answered with an error: its status and its text."""


def predict_json(
    base: str, servable: str, inputs: Mapping[str, Array], like: Sequence[Output]
) -> list[Output]:
    """POST /predict with whole tensors; that format names no types, so ``like`` gives them."""
    body = {"servable": servable, "inputs": {name: _plain(x) for name, x in inputs.items()}}
    outputs = json.loads(_post(f"{base}/predict", json.dumps(body).encode(), {})[1])["outputs"]
    shapes = {output.name: output for output in like}
    return [_from_json(shapes[name], value) for name, value in outputs.items()]


def v2_json(base: str, servable: str, inputs: Mapping[str, Array]) -> list[Output]:
    """POST /v2/models/{model}/infer in JSON alone."""
    body = {"inputs": [{**_head(name, x), "data": _plain(x)} for name, x in inputs.items()]}
    url = f"{base}/v2/models/{servable}/infer"
    answer = json.loads(_post(url, json.dumps(body).encode(), {})[1])
    found = []
    for told in answer["outputs"]:
        kind = Output(told["name"], told["datatype"], tuple(told["shape"]))
        found.append(_from_json(kind, told["data"]))
    return found


def v2_binary(base: str, servable: str, inputs: Mapping[str, Array]) -> list[Output]:
    """POST the same with the elements as raw bytes behind the JSON, both ways."""
    raws = {name: _raw(x) for name, x in inputs.items()}
    heads = [
        {**_head(name, x), "parameters": {"binary_data_size": len(raws[name])}}
        for name, x in inputs.items()
    ]
    head = json.dumps({"inputs": heads, "parameters": {"binary_data_output": True}}).encode()
    headers, body = _post(
        f"{base}/v2/models/{servable}/infer",
        head + b"".join(raws.values()),
        {"Inference-Header-Content-Length": str(len(head))},
    )
    at = int(headers["Inference-Header-Content-Length"])
    found = []
    for told in json.loads(body[:at])["outputs"]:
        size = told["parameters"]["binary_data_size"]
        found.append(_from_raw(told["name"], told["datatype"], told["shape"], body[at : at + size]))
        at += size
    assert at == len(body)
    return found


class GrpcClient:
    """V2 over gRPC, with the stubs of this package and a bare channel."""

    def __init__(self, address: str) -> None:
        limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(address, options=limits)
        self._infer = self._channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )

    def __enter__(self) -> GrpcClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def infer(self, servable: str, inputs: Mapping[str, Array]) -> list[Output]:
        """Call ModelInfer with raw contents."""
        request = pb.ModelInferRequest(model_name=servable)
        for name, x in inputs.items():
            request.inputs.add(name=name, datatype=datatype(x), shape=x.shape)
            request.raw_input_contents.append(_raw(x))
        try:
            answer = self._infer(request, timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise Refused(f"{error.code().name}: {error.details()}") from error
        assert len(answer.outputs) == len(answer.raw_output_contents)
        return [
            _from_raw(told.name, told.datatype, told.shape, raw)
            for told, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
        ]


def datatype(x: Array) -> str:
    """Return the V2 name of an array's type."""
    if x.dtype.kind in "OSU":
        return "BYTES"
    if x.dtype.name == "bfloat16":
        return "BF16"
    return next(d.name for d in BY_NAME.values() if d.numpy == x.dtype and d.name != "BF16")


def _post(url: str, body: bytes, headers: dict[str, str]) -> tuple[Any, bytes]:
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, body, headers), timeout=_TIMEOUT_S
        ) as reply:
            return reply.headers, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            told = error.read().decode(errors="replace")
        raise Refused(f"{error.code}: {told}") from None


def _head(name: str, x: Array) -> dict[str, Any]:
    return {"name": name, "shape": list(x.shape), "datatype": datatype(x)}


def _plain(x: Array) -> Any:
    return x.tolist()


def _encoded(x: Array) -> list[bytes]:
    return [item.encode() if isinstance(item, str) else item for item in x.reshape(-1).tolist()]


def _raw(x: Array) -> bytes:
    if x.dtype.kind in "OSU":
        return b"".join(len(item).to_bytes(4, "little") + item for item in _encoded(x))
    return x.tobytes()


def _from_raw(name: str, kind: str, shape: Sequence[int], raw: bytes) -> Output:
    if kind != "BYTES":
        return Output(name, kind, tuple(shape), bytes(raw))
    return Output(name, kind, tuple(shape), items=tuple(_strings(raw)))


def _strings(raw: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4], "little")
        yield bytes(raw[at + 4 : at + 4 + size])
        at += 4 + size


def _from_json(kind: Output, value: Any) -> Output:
    dtype = BY_NAME[kind.datatype]
    if kind.value is not None:  # /predict says documents as JSON within its own JSON
        return Output(kind.name, "BYTES", (), items=tuple(json.dumps(x).encode() for x in value))
    flat = list(_leaves(value))
    if dtype.numpy is None:
        return Output(kind.name, "BYTES", kind.shape, items=tuple(text.encode() for text in flat))
    numbers = [_SPECIAL.get(x, x) if isinstance(x, str) else x for x in flat]
    array = np.array(numbers, dtype.numpy).reshape(kind.shape)
    return Output(kind.name, kind.datatype, kind.shape, array.tobytes())


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value
