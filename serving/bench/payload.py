"""Requests as bytes, one form for each protocol, and what an answer in that form says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from serving.errors import ConfigError, ServingError
from serving.frontends import bytes_tensor, raw_tensor
from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from serving.frontends.rest import json_answer
from serving.request import Description
from serving.tensor import BY_NAME, BYTES, Array, DType, Tensor
from serving.v1.bearer import bearer

PROTOCOLS = ("predict", "v2-json", "v2-binary", "grpc")
GRPC_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_REFUSAL_CHARS = 300
_HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Payload:
    """One request; ``path`` and ``headers`` are for HTTP, ``rows`` is how many it carries."""

    body: bytes
    rows: int
    path: str = ""
    headers: Mapping[str, str] | None = None


def payload(protocol: str, known: Description, tensors: Sequence[Tensor]) -> Payload:
    """Return the request that carries ``tensors``. Raises ConfigError where JSON cannot."""
    rows = _rows(known, tensors)
    if protocol == "grpc":
        return Payload(_grpc(known, tensors), rows)
    infer = f"/v2/models/{known.servable}/infer"
    if protocol == "predict":
        document = {"servable": known.servable, "inputs": {t.name: _nested(t) for t in tensors}}
        return Payload(_dumps(document), rows, "/predict", _JSON)
    if protocol == "v2-json":
        inputs = [{**_head(t), "data": _flat(t)} for t in tensors]
        return Payload(_dumps({"inputs": inputs}), rows, infer, _JSON)
    raw = [bytes(raw_tensor.write(t)) for t in tensors]
    head = _dumps(
        {
            "inputs": [
                {**_head(t), "parameters": {"binary_data_size": len(data)}}
                for t, data in zip(tensors, raw, strict=True)
            ],
            "parameters": {"binary_data_output": True},
        }
    )
    headers = {"Content-Type": "application/octet-stream", _HEADER_LENGTH: str(len(head))}
    return Payload(head + b"".join(raw), rows, infer, headers)


def answer(protocol: str, body: bytes, headers: Mapping[bytes, bytes]) -> dict[str, Array]:
    """Return the outputs of an answer by name; raises ValueError for what is none."""
    try:
        if protocol == "grpc":
            return _grpc_outputs(body)
        if protocol == "predict":
            return {k: np.asarray(v) for k, v in orjson.loads(body)["outputs"].items()}
        split = int(headers.get(_HEADER_LENGTH.lower().encode(), len(body)))
        return _v2_outputs(orjson.loads(body[:split]), memoryview(body)[split:])
    except (KeyError, TypeError, AttributeError, LookupError) as error:
        raise ValueError(f"an answer that is none: {error!r}") from None


_JSON = {"Content-Type": "application/json"}


def _rows(known: Description, tensors: Sequence[Tensor]) -> int:
    if not known.batch.batched:
        return 1
    for tensor, axis in zip(tensors, known.batch.inputs, strict=True):
        if axis is not None and len(tensor.shape) > axis:
            return tensor.shape[axis]
    return 1


def _head(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.dtype.name, "shape": list(tensor.shape)}


def _dumps(document: Any) -> bytes:
    return json_answer.dumps(document)


def _flat(tensor: Tensor) -> Any:
    if tensor.array is None:
        return [_text(tensor.name, item) for item in tensor.items or ()]
    return json_answer.plain(json_answer.numbers(tensor).reshape(-1))


def _nested(tensor: Tensor) -> Any:
    if tensor.array is not None:
        return json_answer.plain(json_answer.numbers(tensor))
    texts = np.empty(len(tensor.items or ()), dtype=object)
    texts[:] = [_text(tensor.name, item) for item in tensor.items or ()]
    return texts.reshape(tensor.shape).tolist()


def _text(name: str, item: bytes) -> str:
    try:
        return item.decode()
    except UnicodeDecodeError:
        raise ConfigError(
            f"input {name!r} holds bytes that are not text, which JSON cannot carry",
            code="bad_input",
            fix="choose --protocol v2-binary or grpc",
        ) from None


def _grpc(known: Description, tensors: Sequence[Tensor]) -> bytes:
    request = pb.ModelInferRequest(model_name=known.servable)
    for tensor in tensors:
        request.inputs.add(name=tensor.name, datatype=tensor.dtype.name, shape=tensor.shape)
        request.raw_input_contents.append(bytes(raw_tensor.write(tensor)))
    data: bytes = request.SerializeToString()
    return data


def _grpc_outputs(body: bytes) -> dict[str, Array]:
    reply = pb.ModelInferResponse.FromString(body)
    return {
        output.name: _raw(memoryview(raw), BY_NAME[output.datatype], tuple(output.shape))
        for output, raw in zip(reply.outputs, reply.raw_output_contents, strict=True)
    }


def _v2_outputs(document: Any, tail: memoryview) -> dict[str, Array]:
    found: dict[str, Array] = {}
    at = 0
    for output in document["outputs"]:
        shape, dtype = tuple(output["shape"]), BY_NAME[output["datatype"]]
        if "data" in output:
            found[output["name"]] = np.asarray(output["data"]).reshape(shape)
            continue
        size = output["parameters"]["binary_data_size"]
        found[output["name"]] = _raw(tail[at : at + size], dtype, shape)
        at += size
    return found


def _raw(data: memoryview, dtype: DType, shape: tuple[int, ...]) -> Array:
    if dtype is BYTES or dtype.numpy is None:
        count = int(np.prod(shape, dtype=np.int64))
        texts = np.empty(count, dtype=object)
        texts[:] = bytes_tensor.unpack(data, count, "output")
        return texts.reshape(shape)
    return np.frombuffer(data, dtype.numpy).reshape(shape)


def http_request(request: Payload, host: str, token: str | None) -> bytes:
    """Return the whole HTTP/1.1 request: it never changes, so it is written once."""
    lines = [f"POST {request.path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in (request.headers or {}).items()]
    lines += [] if token is None else [f"Authorization: {bearer(token)}"]
    lines.append(f"Content-Length: {len(request.body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + request.body


def refusal(body: bytes) -> str:
    """Return what an error's body says, cut to one line."""
    try:
        document = json.loads(body)
        text = document.get("error") or _problem(document) or document
    except (ValueError, AttributeError):
        text = body.decode("utf-8", "replace")
    return " ".join(str(text).split())[:_REFUSAL_CHARS]


def _problem(document: Mapping[str, object]) -> str:
    """Return a problem document on one line: what was wrong, what differs, and the way out."""
    message = str(document.get("detail") or "")
    if not message:
        return ""
    where, expected, given, fix = (
        str(document.get(key) or "") for key in ("where", "expected", "given", "fix")
    )
    told = ServingError(message, expected=expected, given=given, fix=fix)
    return f"{where}: {told}" if where else str(told)
