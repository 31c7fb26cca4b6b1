"""BF16 end to end: numpy has no such type, so its 16 bits must pass every layer as they are.

Raw bits over V2 in binary and over gRPC; over JSON they are the numbers they mean.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto, helper

from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from tests import models
from tests.models.graph import build, save, value
from tests.server import ServerProcess, serving

Bits = npt.NDArray[np.uint16]
COUNTS = (1, 2, 3, 1, 5, 1, 1, 4)
"""Rows that the clients send, each its own."""
EVERY_PATTERN = np.arange(1 << 16, dtype=np.uint16).reshape(-1, 4)


def triple(path: Path) -> Path:
    """``x`` BF16 [batch,4] -> ``y`` BF16 [batch,4]: 3x, computed as FP32 and rounded."""
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["wide", "three"], ["product"]),
        helper.make_node("Cast", ["product"], ["y"], to=TensorProto.BFLOAT16),
    ]
    ends = [value("x", "BF16", ["batch", 4])], [value("y", "BF16", ["batch", 4])]
    return save(build(nodes, *ends, {"three": np.array(3, np.float32)}), path)


def tripled(bits: Bits) -> Bits:
    """Say what ``triple`` must give, by another implementation of BF16 than the server's."""
    wide = bits.view(ml_dtypes.bfloat16).astype(np.float32) * np.float32(3)
    return wide.astype(ml_dtypes.bfloat16).view(np.uint16)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("repository")
    models.identity(root / "same" / "1" / "model.onnx", "BF16", ("batch", 4))
    triple(root / "triple" / "1" / "model.onnx")
    # Long enough for all clients to come together, and cut short by the last row.
    settings = f"max_batch_size = {sum(COUNTS)}\nmax_queue_delay_ms = 3000\n"
    triple(root / "together" / "1" / "model.onnx")
    (root / "together" / "servable.toml").write_text(settings)
    options = ("--log-level", "debug")
    with serving(root, tmp_path_factory.mktemp("server"), *options) as running:
        yield running


def binary(server: ServerProcess, name: str, bits: Bits) -> Bits:
    """Call over V2 with binary tensors both ways."""
    head = {
        "inputs": [
            {
                "name": "x", "shape": list(bits.shape), "datatype": "BF16",
                "parameters": {"binary_data_size": bits.nbytes},
            }
        ],
        "parameters": {"binary_data_output": True},
    }  # fmt: skip
    text = json.dumps(head).encode()
    request = urllib.request.Request(
        f"{server.base}/v2/models/{name}/infer",
        text + bits.tobytes(),
        {"Inference-Header-Content-Length": str(len(text))},
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        length = int(reply.headers["Inference-Header-Content-Length"])
        body = reply.read()
    (output,) = json.loads(body[:length])["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("y", "BF16", [*bits.shape])
    assert output["parameters"]["binary_data_size"] == len(body) - length
    return np.frombuffer(body[length:], np.uint16).reshape(bits.shape)


def over_grpc(server: ServerProcess, name: str, bits: Bits) -> Bits:
    """Call over gRPC with raw contents, the only ones that BF16 has."""
    request = pb.ModelInferRequest(model_name=name, raw_input_contents=[bits.tobytes()])
    tensor = request.inputs.add()
    tensor.name, tensor.datatype = "x", "BF16"
    tensor.shape.extend(bits.shape)
    with grpc.insecure_channel(server.grpc) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        reply = infer(request, timeout=30)
    (output,) = reply.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("y", "BF16", [*bits.shape])
    return np.frombuffer(reply.raw_output_contents[0], np.uint16).reshape(bits.shape)


WIRES = pytest.mark.parametrize("call", [binary, over_grpc], ids=["V2 binary", "gRPC"])


@WIRES
def test_bf16_of_every_pattern_comes_back_bit_for_bit(server: ServerProcess, call: Any) -> None:
    """NaN of every kind, infinities, subnormals; more rows than a batch holds."""
    assert np.array_equal(call(server, "same", EVERY_PATTERN), EVERY_PATTERN)


@WIRES
def test_bf16_of_many_clients_is_computed_in_one_batch(server: ServerProcess, call: Any) -> None:
    before = server.log().count(f"ran {sum(COUNTS)} rows")
    random = np.random.default_rng(5)
    rows = [random.normal(size=(n, 4)).astype(ml_dtypes.bfloat16).view(np.uint16) for n in COUNTS]
    with ThreadPoolExecutor(len(rows)) as pool:
        answers = list(pool.map(lambda bits: call(server, "together", bits), rows))
    for bits, answer in zip(rows, answers, strict=True):
        assert np.array_equal(answer, tripled(bits))
        assert not np.array_equal(answer, bits)
    assert server.log().count(f"ran {sum(COUNTS)} rows") == before + 1


def test_bf16_over_json_is_the_numbers_that_it_means(server: ServerProcess) -> None:
    """1.005 is no BF16: it is rounded to 1.0078125, the nearest; three times that to 3.03125."""
    told = {"name": "x", "datatype": "BF16", "shape": [1, 4], "data": [1.005, -2, 0.5, 0]}
    status, answer = server.post("/v2/models/triple/infer", {"inputs": [told]})
    assert status == 200, answer
    (output,) = answer["outputs"]
    assert (output["datatype"], output["shape"]) == ("BF16", [1, 4])
    assert output["data"] == [3.03125, -6, 1.5, 0]
    status, answer = server.predict(
        {"servable": "triple", "instances": [{"x": [1.005, -2, 0.5, 0]}]}
    )
    assert status == 200, answer
    assert answer["instances"] == [{"y": [3.03125, -6, 1.5, 0]}]


@pytest.mark.parametrize("number", [1e39, -3.4e38], ids=str)
def test_bf16_over_json_refuses_a_number_that_it_cannot_hold(
    server: ServerProcess, number: float
) -> None:
    """The largest BF16 is 0x7F7F: (2 - 2**-7) * 2**127, or 3.38953e38."""
    told = {"name": "x", "datatype": "BF16", "shape": [1, 4], "data": [number, 0, 0, 0]}
    status, answer = server.post("/v2/models/triple/infer", {"inputs": [told]})
    assert status == 400, answer
    assert "inputs.x.data[0]" in answer["error"]
    assert "out of range for BF16; expected at most 3.38953e+38 in size" in answer["error"]


def test_bf16_is_named_in_the_metadata(server: ServerProcess) -> None:
    status, told = server.get("/v2/models/triple")
    assert status == 200
    assert told["inputs"] == [{"name": "x", "datatype": "BF16", "shape": [-1, 4]}]
    assert told["outputs"] == [{"name": "y", "datatype": "BF16", "shape": [-1, 4]}]
