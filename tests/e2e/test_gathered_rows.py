"""Callers of one row and of several, at once and over every wire: each hears its own answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from serving.frontends.grpc.stubs import inference_v2_pb2 as v2
from tests.faults.client import rows_of
from tests.models import picky
from tests.server import ServerProcess, serving

IDS = 1000
BAD = IDS + 7  # the model refuses the whole run
ROWS = (1, 2, 2, 2, 2, 3, 3, 3, 8, 8, 8, 16, 16, 17, 33)
CALLS = 24
GAUGES = ("serving_requests_unfinished{", "serving_rows_waiting{", "serving_bytes_waiting{")
INFER = "/inference.GRPCInferenceService/ModelInfer"

Ids = NDArray[np.int64]
Ask = Callable[[Ids], Awaitable[NDArray[np.float32] | None]]
"""Sends ids; returns their vectors, None where the run failed."""


class _Http:
    """One connection, on which the JSON part is the same again and again."""

    def __init__(self, port: int, *, binary: bool) -> None:
        self._port = port
        self._binary = binary
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, ids: Ids) -> NDArray[np.float32] | None:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(self._request(ids))
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        body = await reader.readexactly(_field(head, b"content-length") or 0)
        if not head.startswith(b"http/1.1 200 "):
            assert b"out of data bounds" in body, body
            return None
        length = _field(head, b"inference-header-content-length")
        told = json.loads(body[:length])
        (output,) = told["outputs"]
        assert output["shape"] == [len(ids), 4]
        if self._binary:
            return np.frombuffer(body[length:], np.float32).reshape(len(ids), 4)
        return np.array(output["data"], np.float32).reshape(len(ids), 4)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()

    def _request(self, ids: Ids) -> bytes:
        given: dict[str, Any] = {"name": "word", "shape": [len(ids)], "datatype": "INT64"}
        fields = "POST /v2/models/picky/infer HTTP/1.1\r\nhost: h\r\n"
        if not self._binary:
            # All of one length, as clients that print so many digits write them.
            given["data"] = []
            text = ",".join([f"{number:4d}" for number in ids])
            body = json.dumps({"inputs": [given]}).replace("[]", f"[{text}]").encode()
            return f"{fields}content-length: {len(body)}\r\n\r\n".encode() + body
        given["parameters"] = {"binary_data_size": ids.nbytes}
        wanted = [{"name": "vector", "parameters": {"binary_data": True}}]
        head = json.dumps({"inputs": [given], "outputs": wanted}).encode()
        fields += f"inference-header-content-length: {len(head)}\r\n"
        size = len(head) + ids.nbytes
        return f"{fields}content-length: {size}\r\n\r\n".encode() + head + ids.tobytes()


def _field(head: bytes, name: bytes) -> int | None:
    _, found, rest = head.partition(b"\r\n" + name + b": ")
    return int(rest.split(b"\r\n")[0]) if found else None


def _grpc(channel: grpc.aio.Channel) -> Ask:
    infer = channel.unary_unary(
        INFER,
        request_serializer=v2.ModelInferRequest.SerializeToString,
        response_deserializer=v2.ModelInferResponse.FromString,
    )

    async def ask(ids: Ids) -> NDArray[np.float32] | None:
        message = v2.ModelInferRequest(model_name="picky", raw_input_contents=[ids.tobytes()])
        message.inputs.add(name="word", datatype="INT64", shape=[len(ids)])
        try:
            answer = await infer(message)
        except grpc.aio.AioRpcError as error:
            if "out of data bounds" not in (error.details() or ""):
                raise
            return None
        (output,) = answer.outputs
        assert list(output.shape) == [len(ids), 4]
        (raw,) = answer.raw_output_contents
        return np.frombuffer(raw, np.float32).reshape(len(ids), 4)

    return ask


class _Counts:
    """What the callers saw."""

    def __init__(self) -> None:
        self.answered = self.failed = self.rows = 0


async def _caller(
    ask: Ask,
    rows: int,
    seed: int,
    right: NDArray[np.float32],
    counts: _Counts,
    all_: asyncio.Barrier,
) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(CALLS):
        await all_.wait()  # so that turns of the server's loop bring many calls
        ids = rng.integers(0, IDS, rows)
        bad = rng.random() < 0.05
        if bad:
            ids[rng.integers(rows)] = BAD
        found = await ask(ids)
        assert (found is None) == bad
        if found is None:
            counts.failed += 1
        else:
            np.testing.assert_array_equal(found, right[ids])
            counts.answered += 1
            counts.rows += rows


async def _crowd(server: ServerProcess, right: NDArray[np.float32]) -> _Counts:
    counts = _Counts()
    https = [_Http(server.rest_port, binary=n % 2 == 1) for n in range(2 * len(ROWS))]
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        over_grpc = _grpc(channel)
        asks = [(http.ask, ROWS[n // 2]) for n, http in enumerate(https)]
        asks += [(over_grpc, rows) for rows in ROWS]
        all_ = asyncio.Barrier(len(asks))
        async with asyncio.timeout(120), asyncio.TaskGroup() as group:
            for seed, (ask, rows) in enumerate(asks):
                group.create_task(_caller(ask, rows, seed, right, counts, all_))
    for http in https:
        http.close()
    return counts


@pytest.mark.parametrize("frontends", [1, 2])
async def test_callers_of_any_number_of_rows_hear_their_own_answers(
    tmp_path: Path, frontends: int
) -> None:
    model = picky(tmp_path / "models" / "picky" / "1" / "model.onnx", IDS, name="word")
    right = rows_of(model, "word", np.arange(IDS))
    options = ("--frontends", str(frontends))
    with serving(tmp_path / "models", tmp_path / "run", *options) as server:
        counts = await _crowd(server, right)
        assert counts.failed, "nothing failed, so nothing was shown of that"
        _, told = await asyncio.to_thread(server.get, "/v2/models/picky/stats")
        (seen,) = told["model_stats"]
        assert seen["inference_stats"]["success"]["count"] == counts.answered
        assert seen["inference_stats"]["fail"]["count"] == counts.failed
        assert seen["inference_count"] == counts.rows
        assert seen["execution_count"] < counts.answered, "no run was shared"
        runs = seen["batch_stats"]
        assert sum(run["compute_infer"]["count"] for run in runs) == seen["execution_count"]
        _, text = await asyncio.to_thread(server.get, "/metrics")
        gauges = [line for line in text.splitlines() if line.startswith(GAUGES)]
        assert len(gauges) == len(GAUGES)
        assert all(float(line.split()[-1]) == 0 for line in gauges), gauges
        assert "Traceback" not in server.log()
