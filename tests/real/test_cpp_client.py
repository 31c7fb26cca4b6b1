"""A client over libgrpc++, compiled here from the protocols: what gRPC's C++ users have.

It takes a quarter of a minute to compile, and a compiler with gRPC's headers (Debian:
``apt-get install g++ pkg-config libgrpc++-dev libprotobuf-dev protobuf-compiler-grpc``). So it runs
where SERVING_TEST_CPP asks for it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from serving.tensor import UINT8
from tests.certificates import Authority
from tests.doubles.plane import StubClaim, StubPlane
from tests.unit.frontends.grpc.running import front_end
from tests.unit.frontends.grpc.served import echo

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).with_name("grpc_client.cpp")
TOOLS = ("c++", "pkg-config", "protoc", "grpc_cpp_plugin")
LIBRARIES = ("grpc++", "protobuf")
TRIES = (
    "sizes", "gzip", "deflate", "metadata", "refused", "deadline", "cancelled", "together",
    "mindspore", "kept alive",
)  # fmt: skip


def missing() -> str:
    """Return why there is no client, nothing where there can be one."""
    if not os.environ.get("SERVING_TEST_CPP"):
        return "SERVING_TEST_CPP does not ask for it"
    absent = [tool for tool in TOOLS if not shutil.which(tool)]
    if not absent:
        absent = [
            library
            for library in LIBRARIES
            if subprocess.run(["pkg-config", "--exists", library], check=False).returncode
        ]
    return f"not installed: {', '.join(absent)}" if absent else ""


WHY_NOT = missing()

pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "there")]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("client")
    plugin = shutil.which("grpc_cpp_plugin")
    run(
        "protoc", "-I", str(ROOT / "protos"), f"--cpp_out={folder}", f"--grpc_out={folder}",
        f"--plugin=protoc-gen-grpc={plugin}", "inference_v2.proto", "ms_service.proto",
    )  # fmt: skip
    made = sorted(str(file) for file in folder.glob("*.cc"))
    flags = run("pkg-config", "--cflags", "--libs", *LIBRARIES).split()
    program = folder / "grpc_client"
    run("c++", "-std=c++17", "-w", f"-I{folder}", str(SOURCE), *made, "-o", str(program), *flags)
    return program


def run(*command: str) -> str:
    told = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert told.returncode == 0, told.stderr
    return told.stdout


class Plane(StubPlane):
    """Answers calls of ``m`` with their input, and those of ``held`` never."""

    def commit(self, claim: StubClaim) -> None:
        if claim.request.servable != "held":
            super().commit(claim)


# The lane takes 1,024 at a time, and the client lets the others wait. grpcio has no such limit: of
# 3,000 begun at once it ended 600 with CANCELLED.
@pytest.mark.parametrize(("engine", "calls"), [("lane", 3000), ("grpcio", 500)])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_cpp_client_gets_what_it_asks_for(
    client: Path, tmp_path: Path, engine: str, calls: int, tls: bool
) -> None:
    authority = Authority(tmp_path)
    own = authority.sign("own")
    files = {"tls_cert": own.certificate, "tls_key": own.key} if tls else {}
    plane = Plane(echo("m", UINT8), echo("held", UINT8))
    async with front_end(plane, grpc_engine=engine, **files) as front:
        trusted = (str(authority.certificate),) if tls else ()
        address = f"localhost:{front.port}" if tls else f"127.0.0.1:{front.port}"
        process = await asyncio.create_subprocess_exec(
            client, address, str(calls), *trusted, stdout=asyncio.subprocess.PIPE
        )
        try:
            told, _ = await asyncio.wait_for(process.communicate(), 60)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert told.decode().splitlines() == [f"{name} ok" for name in TRIES]
    assert plane.abandoned == 3  # those that wait for a servable that does not answer
    assert plane.released == len(plane.requests) - 3 > calls
