"""Every way into the server, over real workers that run stub models: what reaches them is counted.

Front ends, data plane, scheduler and clients share the test's loop; workers are processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc

from serving.artifact import Artifact, Format
from serving.channel.messages import Load
from serving.config import ServerSettings
from serving.frontends.grpc.server import GrpcFrontEnd
from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from serving.frontends.rest.server import RestFrontEnd
from serving.lifecycle.gate import Gate
from serving.lifecycle.version import Version
from serving.master.plane import MasterPlane
from serving.repository.observation import Source
from serving.repository.settings import ServableSettings
from serving.repository.snapshot import Print
from serving.scheduling.crowd import Crowd, CrowdLimits
from serving.scheduling.line import Line
from serving.tensor import FP32, BatchAxes, Signature, TensorSpec
from tests.e2e.fleet import Fleet

GRPC = ("grpc", "grpcio")
WIRES = ("lane", "asgi", *GRPC)
_SPECS = (TensorSpec("x", FP32, ("n",)),)


class Stub:
    """A stub model that is served; ``told`` are the events that it wrote down, in order."""

    def __init__(self, name: str, line: Line, tally: Path) -> None:
        self.name = name
        self.line = line
        self._tally = tally

    @property
    def told(self) -> list[str]:
        return self._tally.read_text().split("\n")[:-1] if self._tally.exists() else []


class Call:
    """One call under way; ``leave`` is the client's going away."""

    def __init__(self, wire: str, work: Any, writer: asyncio.StreamWriter | None) -> None:
        self._wire = wire
        self._work = work
        self._writer = writer

    async def answer(self) -> tuple[Any, Any]:
        """Return (200, values), or (HTTP status or gRPC code's name, the error's text)."""
        async with asyncio.timeout(30):
            if self._wire in GRPC:
                try:
                    told = await self._work
                except grpc.aio.AioRpcError as error:
                    return error.code().name, error.details()
                return 200, told.raw_output_contents[0]
            status, body = await self._work
        assert self._writer is not None
        self._writer.close()
        return status, body

    async def leave(self) -> None:
        self._work.cancel()
        if self._writer is not None:
            self._writer.transport.abort()
        with contextlib.suppress(asyncio.CancelledError):
            await self._work


class Fronts:
    """REST with its lane and without, gRPC by its own engine and by grpcio; over one data plane."""

    def __init__(self, fleet: Fleet, folder: Path, crowd: CrowdLimits, max_request_mb: int) -> None:
        self.fleet = fleet
        self._folder = folder
        self.crowd = Crowd(crowd)
        self.plane = MasterPlane(
            fleet.scheduler, fleet.arena, lambda: (), Gate("poll"), strict_readiness=False,
            crowd=self.crowd,
        )  # fmt: skip
        settings = ServerSettings(folder, rest_port=0, grpc_port=0, max_request_mb=max_request_mb)
        self.lane = RestFrontEnd(self.plane, settings, lane=True)
        self.asgi = RestFrontEnd(self.plane, settings, lane=False)
        self.grpc = GrpcFrontEnd(self.plane, settings)
        self.grpcio = GrpcFrontEnd(self.plane, replace(settings, grpc_engine="grpcio"))
        self._channels: dict[str, Any] = {}

    async def start(self) -> None:
        doors = (self.lane, self.asgi, self.grpc, self.grpcio)
        await asyncio.gather(*[door.start() for door in doors])
        for wire in GRPC:
            port = getattr(self, wire).port
            self._channels[wire] = grpc.aio.insecure_channel(f"127.0.0.1:{port}")

    async def stop(self) -> None:
        await asyncio.gather(*[opened.close() for opened in self._channels.values()])
        doors = (self.lane, self.asgi, self.grpc, self.grpcio)
        await asyncio.gather(*[door.stop() for door in doors])

    async def serve(self, name: str, do: dict[str, Any], **settings: Any) -> Stub:
        """Load a stub into the workers and publish it; it counts its runs."""
        fleet, path = self.fleet, self._folder / f"{name}.json"
        tally = path.with_suffix(".tally")
        signature, axes = Signature(_SPECS, _SPECS), BatchAxes(True, "asserted", (0,), (0,))
        path.write_text(json.dumps({**signature.to_json(), "do": {**do, "tally": str(tally)}}))
        fleet._models += 1
        number, known = fleet._models, ServableSettings(**settings)
        order = Load(
            number, name, str(path), "stub", axes.to_json(), True, known.max_batch_size, 1, False
        )
        await fleet.supervisor.load(order, 60, lambda _phase: None)
        tally.unlink(missing_ok=True)  # what warming ran does not count
        version = Version(number, name, 1, Source(path, path.parent, Print(), known), known)
        (member,) = version.members
        member.artifact = Artifact(Format.ONNX, "stub", signature=signature)
        member.batch = axes
        self.plane.publish(version)
        return Stub(name, self.plane._open[number], tally)

    async def call(
        self,
        wire: str,
        stub: Stub,
        values: Sequence[float],
        *,
        timeout_s: float | None = None,
        parameters: dict[str, int] | None = None,
    ) -> Call:
        """Send a V2 request; ``timeout_s`` is the wire's own deadline (header, gRPC's)."""
        if wire in GRPC:
            return Call(wire, self._grpc(wire, stub, values, timeout_s, parameters or {}), None)
        port = (self.lane if wire == "lane" else self.asgi).port
        body = json.dumps(
            {
                "inputs": [
                    {"name": "x", "datatype": "FP32", "shape": [len(values)], "data": list(values)}
                ],
                "parameters": parameters or {},
            }
        )
        limit = "" if timeout_s is None else f"x-request-timeout-ms: {round(timeout_s * 1e3)}\r\n"
        head = (
            f"POST /v2/models/{stub.name}/infer HTTP/1.1\r\nhost: x\r\n{limit}"
            f"content-length: {len(body)}\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write((head + body).encode())
        return Call(wire, asyncio.ensure_future(_reply(reader)), writer)

    def _grpc(
        self,
        wire: str,
        stub: Stub,
        values: Sequence[float],
        timeout_s: float | None,
        parameters: dict[str, int],
    ) -> Any:
        message = pb.ModelInferRequest(model_name=stub.name)
        tensor = message.inputs.add(name="x", datatype="FP32", shape=[len(values)])
        tensor.contents.fp32_contents.extend(values)
        for key, value in parameters.items():
            message.parameters[key].int64_param = value
        method = self._channels[wire].unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        return method(message, timeout=timeout_s)


async def _reply(reader: asyncio.StreamReader) -> tuple[int, Any]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.split("content-length:")[1].split("\r\n")[0])
    body = json.loads(await reader.readexactly(length))
    status = int(head.split()[1])
    return status, body["outputs"][0]["data"] if status == 200 else {**body, "head": head}


async def eventually(there: Any, what: str) -> None:
    """Wait until something is so; fails after 20 s."""
    loop = asyncio.get_running_loop()
    limit = loop.time() + 20
    while not there():
        assert loop.time() < limit, f"waited 20 s for {what}"
        await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def fronts(
    fleet: Fleet, folder: Path, crowd: CrowdLimits | None = None, max_request_mb: int = 100
) -> AsyncIterator[Fronts]:
    """Open all front ends; afterwards no line has anybody in it."""
    opened = Fronts(fleet, folder, CrowdLimits() if crowd is None else crowd, max_request_mb)
    await opened.start()
    try:
        yield opened
        for line in list(opened.plane._open.values()):
            await eventually(lambda line=line: line.outstanding == 0, "an empty line")
        await eventually(lambda: fleet.scheduler.running == 0, "the workers to be at rest")
        assert (opened.crowd.waiting, opened.crowd.waiting_bytes) == (0, 0)
    finally:
        await opened.stop()
        for line in list(opened.plane._open.values()):
            await fleet.scheduler.remove_line(line, 0)
