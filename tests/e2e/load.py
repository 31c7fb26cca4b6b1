"""Clients that ask one servable all the time, without a pause, and look at every answer.

The servable is ``models.tagged``: each row of an answer says twice which model computed it. Most
clients use REST, every eighth gRPC, and none of them tries anything again.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from serving.client import AsyncClient
from serving.errors import ServingError
from tests.server import ServerProcess


@dataclass
class Answers:
    """What the clients were told: by (version, tag), and whatever was no proper answer."""

    proper: Counter[tuple[int, float]] = field(default_factory=Counter)
    wrong: list[Any] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.proper.values())


async def under_load(
    server: ServerProcess,
    servable: str,
    clients: int,
    during: Callable[[Answers], Awaitable[None]],
) -> Answers:
    """Run ``during`` while clients ask; returns all answers."""
    answers = Answers()
    stop = asyncio.Event()
    asking = [
        asyncio.create_task((_rest if index % 8 else _grpc)(server, servable, index, answers, stop))
        for index in range(clients)
    ]
    try:
        await during(answers)
    finally:
        stop.set()
        await asyncio.gather(*asking)
    return answers


async def _grpc(
    server: ServerProcess, servable: str, index: int, answers: Answers, stop: asyncio.Event
) -> None:
    async with AsyncClient(server.grpc, retries=0) as client:
        x = np.array([index, 0.5, -2.0], np.float32)
        while not stop.is_set():
            try:
                told = await client.predict(servable, {"x": x})
            except ServingError as error:
                answers.wrong.append(error)
                continue
            rows = [
                {"tag": float(tag), "sum": float(total)}
                for tag, total in zip(told["tag"], told["sum"], strict=True)
            ]
            _judge(answers, x.tolist(), 200, {"version": told.version, "instances": rows})


async def _rest(
    server: ServerProcess, servable: str, index: int, answers: Answers, stop: asyncio.Event
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.rest_port)
    try:
        while not stop.is_set():
            rows = [float(index), 0.5, -2.0]
            body = json.dumps({"servable": servable, "instances": [{"x": x} for x in rows]})
            head = f"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write((head + body).encode())
            status, told = await _answer(reader)
            _judge(answers, rows, status, told)
    finally:
        writer.close()
        await writer.wait_closed()


def _judge(answers: Answers, rows: list[float], status: int, told: Any) -> None:
    if status != 200:
        answers.wrong.append((status, told))
        return
    given = told["instances"]
    tags = {row["tag"] for row in given}
    fits = [row["sum"] == x + row["tag"] for x, row in zip(rows, given, strict=True)]
    if len(tags) != 1 or not all(fits):
        answers.wrong.append(told)
        return
    answers.proper[told["version"], tags.pop()] += 1


async def _answer(reader: asyncio.StreamReader) -> tuple[int, Any]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.split("content-length:")[1].split("\r\n")[0])
    return int(head.split()[1]), json.loads(await reader.readexactly(length))
