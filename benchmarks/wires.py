"""The request bodies that are sent, and how an answer to them is read and checked."""

from __future__ import annotations

import json
import struct
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import numpy as np
import orjson

from benchmarks.workloads import Array, Case
from serving.frontends.grpc.stubs import inference_v2_pb2 as v2
from serving.tensor import BY_NAME, Tensor

INFER = "/inference.GRPCInferenceService/ModelInfer"
MAX_MESSAGE_BYTES = 64 * 2**20


class WrongAnswer(Exception):
    """A server answered something else than the engine does."""


class Known(Protocol):
    """Something to ask for whose answer is known, such as a ``Case``."""

    @property
    def name(self) -> str:
        """What texts call it."""
        ...

    @property
    def expected(self) -> Array:
        """The right answer."""
        ...


@dataclass(frozen=True)
class Wire:
    """One wire format as the load generators need it: a path, headers and a body, all fixed.

    ``read`` takes (body, headers in lower case) of the answer and returns the output's array.
    """

    name: str
    path: str
    headers: dict[str, str]
    body: bytes
    read: Callable[[bytes, dict[str, str]], Array]

    @property
    def grpc(self) -> bool:
        """True when the body is a gRPC message, to be sent over HTTP/2."""
        return self.name == "grpc"


def wires(case: Case) -> tuple[Wire, ...]:
    """Return the four wire formats for one row of ``case``."""
    return (_rest(case), _v2_json(case), _v2_binary(case), _v2_grpc(case))


def _json(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def _rest(case: Case) -> Wire:
    instance = {case.input_name: case.row[0]}
    body = _json({"servable": case.workload.name, "instances": [instance]})

    def read(answer: bytes, _headers: dict[str, str]) -> Array:
        (first,) = orjson.loads(answer)["instances"]
        return np.array([first[case.output_name]])

    return Wire("rest-json", "/predict", {"Content-Type": "application/json"}, body, read)


def _v2_tensor(case: Case) -> dict[str, Any]:
    datatype = Tensor.of(case.input_name, case.row).dtype.name
    return {"name": case.input_name, "shape": list(case.row.shape), "datatype": datatype}


def _v2_path(case: Case) -> str:
    return f"/v2/models/{case.workload.name}/infer"


def _v2_json(case: Case) -> Wire:
    body = _json({"inputs": [{**_v2_tensor(case), "data": case.row.ravel()}]})

    def read(answer: bytes, _headers: dict[str, str]) -> Array:
        found = {o["name"]: o for o in orjson.loads(answer)["outputs"]}[case.output_name]
        return np.array(found["data"]).reshape(found["shape"])

    return Wire("v2-json", _v2_path(case), {"Content-Type": "application/json"}, body, read)


def _v2_binary(case: Case) -> Wire:
    raw = case.row.tobytes()
    described = {**_v2_tensor(case), "parameters": {"binary_data_size": len(raw)}}
    head = _json({"inputs": [described], "parameters": {"binary_data_output": True}})
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }

    def read(answer: bytes, headers: dict[str, str]) -> Array:
        split = int(headers["inference-header-content-length"])
        at = split
        for output in orjson.loads(answer[:split])["outputs"]:
            size = output["parameters"]["binary_data_size"]
            if output["name"] == case.output_name:
                kind = BY_NAME[output["datatype"]].numpy
                return np.frombuffer(answer[at : at + size], kind).reshape(output["shape"])
            at += size
        raise WrongAnswer(f"no output {case.output_name!r}")

    return Wire("v2-binary", _v2_path(case), headers, head + raw, read)


def _v2_grpc(case: Case) -> Wire:
    described = _v2_tensor(case)
    request = v2.ModelInferRequest(
        model_name=case.workload.name,
        inputs=[v2.ModelInferRequest.InferInputTensor(**described)],
        raw_input_contents=[case.row.tobytes()],
    )

    def read(answer: bytes, _headers: dict[str, str]) -> Array:
        response = v2.ModelInferResponse.FromString(answer)
        for index, output in enumerate(response.outputs):
            if output.name == case.output_name:
                raw = response.raw_output_contents[index]
                return np.frombuffer(raw, BY_NAME[output.datatype].numpy).reshape(*output.shape)
        raise WrongAnswer(f"no output {case.output_name!r}")

    return Wire("grpc", INFER, {}, request.SerializeToString(), read)


def framed(message: bytes) -> bytes:
    """Return a gRPC message with its 5-byte prefix: not compressed, length big-endian."""
    return struct.pack(">BI", 0, len(message)) + message


def http_request(wire: Wire, port: int) -> bytes:
    """Return the whole HTTP/1.1 request, head and body."""
    lines = [f"POST {wire.path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    lines += [f"{name}: {value}" for name, value in wire.headers.items()]
    lines.append(f"Content-Length: {len(wire.body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + wire.body


def call(wire: Wire, host: str, port: int, timeout_s: float = 60) -> tuple[bytes, dict[str, str]]:
    """Send one request with an ordinary client; return the answer's body and headers."""
    if wire.grpc:
        sizes = ("grpc.max_receive_message_length", "grpc.max_send_message_length")
        options = [(name, MAX_MESSAGE_BYTES) for name in sizes]
        with grpc.insecure_channel(f"{host}:{port}", options=options) as channel:
            answer: bytes = channel.unary_unary(wire.path)(wire.body, timeout=timeout_s)
            return answer, {}
    request = urllib.request.Request(
        f"http://{host}:{port}{wire.path}", wire.body, wire.headers, method="POST"
    )
    with urllib.request.urlopen(request, timeout=timeout_s) as reply:
        return reply.read(), {k.lower(): v for k, v in reply.headers.items()}


def check(wire: Wire, case: Known, host: str, port: int) -> int:
    """Compare one answer with the engine's; return its size in bytes. Raises ``WrongAnswer``."""
    what = f"{case.name} by {wire.name}"
    try:
        answer, headers = call(wire, host, port)
    except urllib.error.HTTPError as error:
        text = error.read(500).decode(errors="replace")
        raise WrongAnswer(f"{what}: HTTP status {error.code}: {text}") from error
    except grpc.RpcError as error:
        raise WrongAnswer(f"{what}: {error.code()}: {error.details()}") from error
    except OSError as error:
        raise WrongAnswer(f"{what}: {error}") from error
    try:
        given = wire.read(answer, headers)
    except (KeyError, ValueError, IndexError) as error:
        shown = answer[:300].decode(errors="replace")
        raise WrongAnswer(f"{what}: unreadable answer ({error!r}): {shown}") from error
    if given.shape != case.expected.shape:
        raise WrongAnswer(f"{what}: shape {given.shape}, the engine gives {case.expected.shape}")
    if not np.allclose(given, case.expected, rtol=1e-4, atol=1e-5):
        worst = float(np.abs(given - case.expected).max())
        raise WrongAnswer(f"{what}: off by up to {worst:g}")
    return len(answer)


def check_echo(wire: Wire, host: str, port: int) -> int:
    """Check that an echo returns the body; return its size in bytes."""
    answer, _ = call(wire, host, port)
    if answer != wire.body:
        raise WrongAnswer(f"the echo changed the body of {wire.name}")
    return len(answer)


def lua(wire: Wire, body_file: str, paths: Sequence[str] = ()) -> str:
    """Return a wrk script that posts the body and prints one line of JSON when it is done.

    ``paths`` are asked in turns in place of the wire's own.
    """
    headers = "\n".join(
        f"wrk.headers[{json.dumps(k)}] = {json.dumps(v)}" for k, v in wire.headers.items()
    )
    return f"""
wrk.method = "POST"
wrk.path = {json.dumps(wire.path)}
local file = assert(io.open({json.dumps(body_file)}, "rb"))
wrk.body = file:read("*a")
file:close()
{headers}
{_in_turns(paths) if paths else ""}
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'RESULT {{"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"errors":%d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def _in_turns(paths: Sequence[str]) -> str:
    # Written once: to format a request costs more than to send it.
    return f"""
local paths, written, at = {{{", ".join(map(json.dumps, paths))}}}, {{}}, 0
function init(args)
  for i, path in ipairs(paths) do written[i] = wrk.format(nil, path) end
end
function request()
  at = at % #written + 1
  return written[at]
end"""
