"""Programs that speak HTTP/2 and know nothing of gRPC, where they are installed."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from serving.tensor import FP32
from tests.contract.grpc.conftest import Serving
from tests.doubles.plane import StubPlane
from tests.unit.frontends.grpc.served import echo, raw_request

ARRAY = np.arange(500, dtype=np.float32)
INFER = "/inference.GRPCInferenceService/ModelInfer"
HEADERS = ("-H", "content-type: application/grpc", "-H", "te: trailers")


async def run(*command: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), 30)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, printed
    return printed


def framed(tmp_path: Path) -> Path:
    """Write a request as it goes over the wire, behind its prefix."""
    message = raw_request("m", ("FP32", ARRAY)).SerializeToString()
    file = tmp_path / "request"
    file.write_bytes(b"\0" + len(message).to_bytes(4) + message)
    return file


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_gets_answer_and_status(serving: Serving, tmp_path: Path) -> None:
    body, head = tmp_path / "body", tmp_path / "head"
    async with serving(StubPlane(echo("m", FP32))) as front:
        await run(
            "curl", "-sS", "--http2-prior-knowledge", "--data-binary", f"@{framed(tmp_path)}",
            *HEADERS, "-o", str(body), "-D", str(head), f"http://127.0.0.1:{front.port}{INFER}",
        )  # fmt: skip
    told = head.read_text()
    assert told.startswith("HTTP/2 200")
    assert re.search(r"^grpc-status: 0\s*$", told, re.MULTILINE)
    answer = pb.ModelInferResponse.FromString(body.read_bytes()[5:])
    assert answer.raw_output_contents[0] == ARRAY.tobytes()


@pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load is not installed")
@pytest.mark.parametrize(("connections", "streams"), [(1, 1), (4, 16), (1, 200)])
async def test_h2load_gets_all_its_answers(
    serving: Serving, tmp_path: Path, connections: int, streams: int
) -> None:
    count = 400
    plane = StubPlane(echo("m", FP32))
    async with serving(plane) as front:
        printed = await run(
            "h2load", f"-n{count}", f"-c{connections}", f"-m{streams}", "-d",
            str(framed(tmp_path)), *HEADERS, f"http://127.0.0.1:{front.port}{INFER}",
        )  # fmt: skip
    assert f"{count} succeeded, 0 failed, 0 errored, 0 timeout".encode() in printed, printed
    assert plane.released == len(plane.requests) == count
    assert plane.errors == []
