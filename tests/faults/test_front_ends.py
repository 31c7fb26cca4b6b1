"""A front-end process that is lost costs its own connections, and nothing else."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil

from tests.faults.client import Answer, Client, Refused, rows_of
from tests.models import identity, mlp, slow
from tests.server import ServerProcess, serving, until

_CLIENTS = 12
_SHAPE = (3, 64, 64)
"""48 KB: more than travels in a message between processes, so that memory is lent for it."""
_BACK_S = 20.0
"""It takes one second on an idle machine; the tests have company."""


class _Loop:
    """A client that sends tensors of its own and checks what comes back."""

    def __init__(self, server: ServerProcess, number: int) -> None:
        self.answered = 0
        self.lost = 0
        self.front_end = 0
        self._server = server
        self._values = np.full((1, *_SHAPE), number, np.float32)
        self._number = number
        head = {
            "inputs": [
                {
                    "name": "x", "datatype": "FP32", "shape": list(self._values.shape),
                    "parameters": {"binary_data_size": self._values.nbytes},
                }
            ],
            "parameters": {"binary_data_output": True},
        }  # fmt: skip
        self._head = json.dumps(head).encode()

    def run(self, over: threading.Event) -> None:
        while not over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self._server.rest_port, timeout=20)
            try:
                connection.connect()
                self.front_end = self._whose(connection.sock.getsockname()[1])
                while not over.is_set():
                    self._call(connection)
            except (ConnectionError, http.client.RemoteDisconnected, http.client.IncompleteRead):
                self.lost += 1
            finally:
                connection.close()

    def _whose(self, port: int) -> int:
        """Return the process that has the connection, once some process has taken it."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for process in self._server.front_ends():
                with suppress(psutil.Error):
                    if any(c.raddr and c.raddr.port == port for c in process.net_connections()):
                        return process.pid
            time.sleep(0.01)
        raise AssertionError("nobody takes the connection")

    def _call(self, connection: http.client.HTTPConnection) -> None:
        fields = {"Inference-Header-Content-Length": str(len(self._head))}
        body = self._head + self._values.tobytes()
        connection.request("POST", "/v2/models/same/infer", body, fields)
        answer = connection.getresponse()
        data = answer.read()
        assert answer.status == 200, data[:300]
        length = int(answer.headers["Inference-Header-Content-Length"])
        assert data[length:] == self._values.tobytes(), "the answer to somebody else"
        self.answered += 1


class _Crowd:
    """Clients under way against a server with two front ends."""

    def __init__(self, server: ServerProcess) -> None:
        self.loops = [_Loop(server, number) for number in range(_CLIENTS)]
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(_CLIENTS)
        self._running = [self._pool.submit(loop.run, self._over) for loop in self.loops]

    def end(self) -> None:
        self._over.set()
        for running in self._running:
            running.result()
        self._pool.shutdown()

    def all_answered(self, more: int) -> Callable[[], bool]:
        """Return whether each client has had so many answers more than now."""
        before = [loop.answered for loop in self.loops]
        return lambda: all(
            loop.answered >= was + more for loop, was in zip(self.loops, before, strict=True)
        )


def _lent_bytes(server: ServerProcess) -> float:
    text = server.get("/metrics")[1]
    name = "serving_tensor_memory_lent_bytes"
    return float(next(x for x in text.splitlines() if x.startswith(name)).split()[1])


def _ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # between the two questions
        return True


def _lose_one(server: ServerProcess, number: signal.Signals, crowd: _Crowd) -> float:
    """Send a signal to a front end with clients; return when there were two again, in seconds."""
    victim = next(p for p in server.front_ends() if p.pid == crowd.loops[0].front_end)
    bystanders = [loop for loop in crowd.loops if loop.front_end != victim.pid]
    assert bystanders, "all clients came to one front end"
    began = time.monotonic()
    victim.send_signal(number)
    until(lambda: _ended(victim), 20, "its end")
    until(lambda: _names_up(server) == {"front-0", "front-1"}, 20, "two front ends again")
    back_s = time.monotonic() - began
    until(crowd.all_answered(3), 30, "answers for every client")
    assert [loop.lost for loop in bystanders] == [0] * len(bystanders)
    return back_s


def _names_up(server: ServerProcess) -> set[str]:
    with suppress(OSError, http.client.HTTPException):
        lines = server.get("/metrics")[1].splitlines()
        return {
            line.split('"')[1]
            for line in lines
            if line.startswith('serving_worker_up{worker="front-') and line.endswith(" 1")
        }
    return set()


def test_killed_front_end_costs_its_own_connections_only(tmp_path: Path) -> None:
    identity(tmp_path / "models" / "same" / "1" / "model.onnx", shape=("batch", *_SHAPE))
    with serving(tmp_path / "models", tmp_path / "run", "--frontends", "2") as server:
        crowd = _Crowd(server)
        try:
            until(crowd.all_answered(3), 30, "answers for every client")
            descriptors = psutil.Process(server.pid).num_fds()
            back_s = _lose_one(server, signal.SIGKILL, crowd)
        finally:
            crowd.end()
        print(f"back {back_s:.2f} s after a kill -9")
        assert back_s <= _BACK_S
        assert sum(loop.lost for loop in crowd.loops) >= 1
        until(lambda: _lent_bytes(server) == 0, 10, "the memory of lost requests")
        # Segments are descriptors: nothing of what the lost one held is left.
        until(
            lambda: psutil.Process(server.pid).num_fds() <= descriptors + 4,
            20, "the descriptors of lost memory",
        )  # fmt: skip
        assert server.stop() == 0


class _Small:
    """Many clients on one loop, so that front ends gather what they send; each has its own row."""

    def __init__(self, server: ServerProcess, model: Path, clients: int) -> None:
        self._server = server
        self._rows = np.random.default_rng(2).standard_normal((clients, 16)).astype(np.float32)
        self._right = rows_of(model, "x", self._rows)
        self.answered = [0] * clients
        self.lost = [0] * clients
        self.ports = [0] * clients

    async def run(self, number: int) -> None:
        body = {"servable": "mlp", "instances": [{"x": self._rows[number].tolist()}]}
        data = json.dumps(body).encode()
        head = b"POST /predict HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n" % len(data)
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._server.rest_port)
            self.ports[number] = writer.get_extra_info("sockname")[1]
            try:
                while True:
                    writer.write(head + data)
                    told = await reader.readuntil(b"\r\n\r\n")
                    length = int(told.lower().partition(b"content-length: ")[2].split()[0])
                    self._judge(number, told, await reader.readexactly(length))
            except (ConnectionError, asyncio.IncompleteReadError):
                self.lost[number] += 1
            finally:
                writer.close()

    def _judge(self, number: int, head: bytes, body: bytes) -> None:
        assert head.startswith(b"HTTP/1.1 200 "), body
        given = np.array(json.loads(body)["instances"][0]["y"], np.float32)
        np.testing.assert_allclose(given, self._right[number], rtol=1e-4, atol=1e-5)
        self.answered[number] += 1

    def of(self, process: psutil.Process) -> set[int]:
        """Return the clients whose connections a process has."""
        theirs = {c.raddr.port for c in process.net_connections() if c.raddr}
        return {number for number, port in enumerate(self.ports) if port in theirs}


async def test_killed_front_end_mixes_up_no_gathered_requests(tmp_path: Path) -> None:
    model = mlp(tmp_path / "models" / "mlp" / "1" / "model.onnx")
    with serving(tmp_path / "models", tmp_path / "run", "--frontends", "2") as server:
        small = _Small(server, model, 40)
        clients = [asyncio.create_task(small.run(number)) for number in range(40)]

        async def all_answered(more: int) -> None:
            before = list(small.answered)
            async with asyncio.timeout(40):
                while any(n < was + more for n, was in zip(small.answered, before, strict=True)):
                    for client in clients:
                        if client.done():
                            client.result()
                    await asyncio.sleep(0.01)

        await all_answered(5)
        victim, other = server.front_ends()
        spared = small.of(other)
        assert spared
        assert small.of(victim)
        victim.kill()
        await all_answered(5)
        assert all(small.lost[number] == 0 for number in spared)
        assert sum(small.lost) >= 1
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        async with asyncio.timeout(20):
            while await asyncio.to_thread(_lent_bytes, server):
                await asyncio.sleep(0.05)
        assert await asyncio.to_thread(server.stop) == 0


def test_front_end_that_hangs_is_replaced(tmp_path: Path) -> None:
    identity(tmp_path / "models" / "same" / "1" / "model.onnx", shape=("batch", *_SHAPE))
    options = ("--frontends", "2", "--heartbeat-timeout-s", "1")
    with serving(tmp_path / "models", tmp_path / "run", *options) as server:
        crowd = _Crowd(server)
        try:
            until(crowd.all_answered(3), 30, "answers for every client")
            _lose_one(server, signal.SIGSTOP, crowd)
        finally:
            crowd.end()
        assert "no sign of life" in server.log()
        assert server.stop() == 0


def test_stop_answers_what_every_front_end_has_accepted(tmp_path: Path) -> None:
    slow(tmp_path / "models" / "slow" / "1" / "model.onnx", ms=300)
    answers: list[Answer | Refused] = []
    with serving(tmp_path / "models", tmp_path / "run", "--frontends", "2") as server:
        clients = [Client(server.rest_port, "slow") for _ in range(6)]
        for client in clients:
            client.connect()

        def call(client: Client) -> None:
            answers.append(client.send(x=[0.5] * 4))

        with ThreadPoolExecutor(len(clients)) as pool:
            for client in clients:
                pool.submit(call, client)

            def unfinished() -> int:
                rows = server.get("/metrics")[1].splitlines()
                name = "serving_requests_unfinished"
                return sum(int(float(x.split()[-1])) for x in rows if x.startswith(name))

            until(lambda: unfinished() + len(answers) == len(clients), 10, "all to be taken in")
            assert server.stop() == 0
        for client in clients:
            client.close()
    assert [answer.status for answer in answers if isinstance(answer, Answer)] == [200] * 6


def test_front_ends_end_with_a_master_that_is_killed(tmp_path: Path) -> None:
    mlp(tmp_path / "models" / "m" / "1" / "model.onnx")
    with serving(tmp_path / "models", tmp_path / "run", "--frontends", "2") as server:
        processes = server.front_ends()
        assert len(processes) == 2
        server.process.kill()
        server.process.wait()
        until(
            lambda: all(_ended(process) for process in processes), 10, "the end of the front ends"
        )
