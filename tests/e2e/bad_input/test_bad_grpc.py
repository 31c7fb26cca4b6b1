"""Wrong ModelInfer calls over gRPC."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc import StatusCode

from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from tests.e2e.bad_input.calls import CALLERS_FAULT, Send, check, infer, message
from tests.e2e.bad_input.conftest import unharmed
from tests.server import ServerProcess

BAD, GONE = StatusCode.INVALID_ARGUMENT, StatusCode.NOT_FOUND
Tensor = pb.ModelInferRequest.InferInputTensor
Output = pb.ModelInferRequest.InferRequestedOutputTensor
Contents = pb.InferTensorContents
RIGHT = Tensor(name="right", datatype="INT64", shape=[1, 2])
RAW = message().raw_input_contents


@pytest.fixture(scope="module", params=["lane", "grpcio"])
def server(
    request: pytest.FixtureRequest,
    server: ServerProcess,
    repository: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ServerProcess]:
    """Yield the server of all tables, which is on the lane, and then one on grpcio."""
    if request.param == "lane":
        yield server
        return
    with unharmed(repository, tmp_path_factory.mktemp("scratch"), request.param) as running:
        yield running


def left(**changes: object) -> Send:
    """Send the good message with the first input changed."""
    given = {"name": "left", "datatype": "FP32", "shape": [1, 3], **changes}
    return infer(message(inputs=[Tensor(**given), RIGHT]))  # type: ignore[arg-type]


def words(data: bytes) -> Send:
    """Send strings as raw bytes."""
    given = Tensor(name="word", datatype="BYTES", shape=[1])
    return infer(
        pb.ModelInferRequest(model_name="words", inputs=[given], raw_input_contents=[data])
    )


def parameter(name: str, value: pb.InferParameter) -> Send:
    """Send the good message with a parameter."""
    return infer(message(parameters={name: value}))


CASES: dict[str, tuple[Send, StatusCode, tuple[str, ...]]] = {
    "garbage": (infer(b"\xff\xff\xff"), BAD, ("protobuf",)),
    "cut short": (infer(message().SerializeToString()[:-3]), BAD, ("protobuf",)),
    "nothing": (infer(b""), GONE, ("multi",)),
    "unknown model": (infer(message(model_name="mutli")), GONE, ("mutli", "multi")),
    "unknown version": (infer(message(model_version="9")), GONE, ("9",)),
    "version that is no number": (infer(message(model_version="v1")), GONE, ("v1",)),
    "unknown input": (left(name="lefd"), BAD, ("lefd", "left")),
    "missing input": (infer(message(inputs=[RIGHT], raw_input_contents=RAW[1:])), BAD, ("left",)),
    "input given twice": (
        infer(message(inputs=[RIGHT, RIGHT], raw_input_contents=[RAW[1]] * 2)), BAD, ("right",),
    ),
    "wrong datatype": (left(datatype="FP64"), BAD, ("left", "FP32", "FP64")),
    "no datatype of the protocol": (left(datatype="float"), BAD, ("left", "float")),
    "negative shape": (left(shape=[-1, 3]), BAD, ("shape", "-1")),
    "overflowing shape": (left(shape=[2**62, 2**62]), BAD, ("shape",)),
    "wrong rank": (left(shape=[3]), BAD, ("left", "[3]")),
    "wrong axis": (
        infer(message(inputs=[Tensor(name="left", datatype="FP32", shape=[1, 2]), RIGHT],
                      raw_input_contents=[RAW[0][:8], RAW[1]])),
        BAD, ("left", "[1,2]"),
    ),
    "no rows": (
        infer(message(inputs=[Tensor(name="left", datatype="FP32", shape=[0, 3]),
                              Tensor(name="right", datatype="INT64", shape=[0, 2])],
                      raw_input_contents=[b"", b""])),
        BAD, ("rows",),
    ),
    "too few raw contents": (infer(message(raw_input_contents=RAW[:1])), BAD, ("2", "1")),
    "raw bytes too few": (
        infer(message(raw_input_contents=[RAW[0][:-1], RAW[1]])), BAD, ("left", "12", "11"),
    ),
    "raw and typed contents": (
        left(contents=Contents(fp32_contents=[1, 2, 3])), BAD, ("left",),
    ),
    "typed contents in the wrong list": (
        infer(message(raw_input_contents=[], inputs=[
            Tensor(name="left", datatype="FP32", shape=[1, 3],
                   contents=Contents(fp64_contents=[1, 2, 3])), RIGHT])),
        BAD, ("left", "fp32_contents"),
    ),
    "typed contents too few": (
        infer(message(raw_input_contents=[], inputs=[
            Tensor(name="left", datatype="FP32", shape=[1, 3],
                   contents=Contents(fp32_contents=[1])), RIGHT])),
        BAD, ("left", "3"),
    ),
    "no contents at all": (infer(message(raw_input_contents=[])), BAD, ("left",)),
    "unknown output": (infer(message(outputs=[Output(name="totla")])), BAD, ("totla", "total")),
    "output asked for twice": (
        infer(message(outputs=[Output(name="total")] * 2)), BAD, ("total",),
    ),
    "string longer than its bytes": (words(struct.pack("<I", 9) + b"zero"), BAD, ("word",)),
    "string length of 4 GiB": (words(struct.pack("<I", 2**32 - 1)), BAD, ("word",)),
    "negative timeout": (
        parameter("timeout", pb.InferParameter(int64_param=-1)), BAD, ("timeout",),
    ),
    "timeout as text": (
        parameter("timeout", pb.InferParameter(string_param="soon")), BAD, ("timeout",),
    ),
    "parameter of the other wire": (
        parameter("binary_data_size", pb.InferParameter(int64_param=12)), BAD,
        ("binary_data_size",),
    ),
    "shared memory": (
        left(parameters={"shared_memory_region": pb.InferParameter(string_param="r")}),
        StatusCode.UNIMPLEMENTED,
        ("shared_memory_region",),
    ),
    "oversize": (infer(b"\x0a" + b"\x80" * (5 << 20)), StatusCode.RESOURCE_EXHAUSTED, ()),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_grpc_refuses(server: ServerProcess, case: str) -> None:
    send, code, said = CASES[case]
    assert code in CALLERS_FAULT
    check(server, send, code, *said)
