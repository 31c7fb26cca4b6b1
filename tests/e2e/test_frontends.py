"""Two front-end processes before one master: clients see one server, whichever they reach."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.client import Client as OwnClient
from serving.frontends.grpc.stubs import inference_v2_pb2 as v2
from tests.models import add, identity, mlp, string_lookup
from tests.server import ServerProcess, serving, until
from tests.shared_objects import shared_objects

FRONTENDS = 2
REGIONS = "/v2/systemsharedmemory"
LARGE = (1, 3, 224, 224)
"""602 KB: more than travels in a message between processes."""


class Caller:
    """A keep-alive connection to REST, and which front end it came to."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
        self._connection.connect()
        self.port = self._connection.sock.getsockname()[1]

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @property
    def front_end(self) -> int:
        """The process that has this connection."""
        for process in self._server.front_ends():
            for seen in process.net_connections("tcp"):
                if seen.raddr and seen.raddr.port == self.port:
                    return process.pid
        raise AssertionError("no front end has this connection")

    def call(
        self, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        fields = {name.replace("_", "-"): text for name, text in headers.items()}
        self._connection.request("POST" if body is not None else "GET", path, body, fields)
        answer = self._connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()

    def json(self, path: str, body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        status, _, text = self.call(path, data, content_type="application/json")
        return status, json.loads(text) if text else None


@contextlib.contextmanager
def on_each(server: ServerProcess) -> Iterator[list[Caller]]:
    """Open a connection to each front end."""
    found: dict[int, Caller] = {}
    with contextlib.ExitStack() as stack:
        deadline = time.monotonic() + 20
        while len(found) < FRONTENDS:
            assert time.monotonic() < deadline, "all connections came to the same front end"
            caller = stack.enter_context(Caller(server))
            assert caller.json("/v2/health/live")[0] == 200
            found.setdefault(caller.front_end, caller)
        yield list(found.values())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("frontends")
    models = folder / "models"
    mlp(models / "mlp" / "1" / "model.onnx")
    identity(models / "same" / "1" / "model.onnx", shape=("batch", *LARGE[1:]))
    add(models / "add" / "1" / "model.onnx")
    string_lookup(models / "lookup" / "1" / "model.onnx")
    with serving(models, folder / "run", "--frontends", str(FRONTENDS)) as running:
        yield running


def infer_binary(caller: Caller, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Send a tensor to ``same`` in V2's binary form and return the answer."""
    tensor = {
        "name": "x", "datatype": "FP32", "shape": list(values.shape),
        "parameters": {"binary_data_size": values.nbytes},
    }  # fmt: skip
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    status, headers, body = caller.call(
        "/v2/models/same/infer",
        head + values.tobytes(),
        Inference_Header_Content_Length=str(len(head)),
    )
    assert status == 200, body[:300]
    length = next(int(v) for k, v in headers.items() if k.lower().startswith("inference-header"))
    return np.frombuffer(body[length:], np.float32).reshape(values.shape)


def test_connections_are_shared_out_evenly(server: ServerProcess) -> None:
    callers = [Caller(server) for _ in range(12)]
    try:
        for caller in callers:
            assert caller.json("/v2/health/live")[0] == 200
        held = [caller.front_end for caller in callers]
    finally:
        for caller in callers:
            caller.__exit__()
    # One that the machine holds up for longer than the others wait gets fewer.
    assert all(held.count(process.pid) >= 4 for process in server.front_ends()), held


def test_every_front_end_answers_every_rest_form(server: ServerProcess) -> None:
    with on_each(server) as callers:
        for caller in callers:
            body = {"servable": "mlp", "instances": [{"x": [0.5] * 16}]}
            status, told = caller.json("/predict", body)
            assert (status, len(told["instances"])) == (200, 1)
            tensor = {"name": "x", "datatype": "FP32", "shape": [1, 16], "data": [0.5] * 16}
            status, answered = caller.json("/v2/models/mlp/infer", {"inputs": [tensor]})
            assert status == 200
            np.testing.assert_allclose(
                answered["outputs"][0]["data"], told["instances"][0]["y"], rtol=1e-6
            )
            assert caller.json("/v2/models/mlp")[1]["versions"] == ["1"]
            assert caller.json("/v2/health/ready")[0] == 200


def test_large_tensors_come_back_as_they_were_sent(server: ServerProcess) -> None:
    rng = np.random.default_rng(3)
    with on_each(server) as callers:
        for caller in callers:
            for _ in range(12):  # the first of them find no memory to be received into
                values = rng.standard_normal(LARGE).astype(np.float32)
                np.testing.assert_array_equal(infer_binary(caller, values), values)


def test_strings_pass_in_any_size(server: ServerProcess) -> None:
    words = ["zero", "two", "unknown"]
    with on_each(server) as callers:
        for caller in callers:
            short = [{"word": word} for word in words]
            status, told = caller.json("/predict", {"servable": "lookup", "instances": short})
            assert (status, [row["number"] for row in told["instances"]]) == (200, [0, 2, -1])
            many = short * 2000
            status, all_told = caller.json("/predict", {"servable": "lookup", "instances": many})
            assert status == 200, all_told
            assert all_told["instances"] == told["instances"] * 2000


def test_grpc_is_answered_by_every_front_end(server: ServerProcess) -> None:
    values = np.random.default_rng(5).standard_normal(LARGE).astype(np.float32)
    request = v2.ModelInferRequest(model_name="same", raw_input_contents=[values.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=values.shape)
    seen: set[int] = set()
    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.insecure_channel(server.grpc, options) for _ in range(4)]
    for channel in channels:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=v2.ModelInferRequest.SerializeToString,
            response_deserializer=v2.ModelInferResponse.FromString,
        )
        for _ in range(4):
            answer = infer(request, timeout=30)
            back = np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(LARGE)
            np.testing.assert_array_equal(back, values)
        health = health_pb2_grpc.HealthStub(channel)
        serving_now = health_pb2.HealthCheckResponse.SERVING
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=30).status == serving_now
    for process in server.front_ends():
        ports = [c.laddr.port for c in process.net_connections("tcp") if c.raddr]
        seen |= {process.pid} if server.grpc_port in ports else set()
    for channel in channels:
        channel.close()
    assert len(seen) == FRONTENDS


def test_own_client_lists_and_predicts(server: ServerProcess) -> None:
    with OwnClient(server.grpc) as client:
        names = {row.servable for row in client.servables()}
        assert names == {"mlp", "same", "add", "lookup"}
        answer = client.predict("mlp", {"x": np.full((1, 16), 0.5, np.float32)})
        assert answer["y"].shape == (1, 4)


def test_statistics_are_those_of_the_whole_server(server: ServerProcess) -> None:
    with on_each(server) as callers:
        first = callers[0].json("/v2/models/add/stats")[1]["model_stats"][0]["inference_count"]
        tensor = [{"name": n, "datatype": "FP32", "shape": [1], "data": [1]} for n in ("x", "y")]
        for times, caller in enumerate(callers, start=2):
            for _ in range(times):
                assert caller.json("/v2/models/add/infer", {"inputs": tensor})[0] == 200
        for caller in callers:
            (told,) = caller.json("/v2/models/add/stats")[1]["model_stats"]
            assert told["inference_count"] == first + 2 + 3
            assert caller.json("/predict", {"servable": "nobody", "instances": []})[0] == 404
        line = 'serving_errors_total{front_end="rest",reason="unknown_servable"}'

        def counted(caller: Caller) -> bool:
            # A front end tells the master of an error beside its answer, which may come first.
            return f"{line} {FRONTENDS}" in caller.call("/metrics")[2].decode().splitlines()

        for caller in callers:
            until(functools.partial(counted, caller), 10, "the errors of both front ends")
        metrics = [caller.call("/metrics")[2].decode() for caller in callers]
        for text in metrics:
            assert 'serving_worker_up{worker="front-0"} 1' in text
            assert 'serving_worker_up{worker="front-1"} 1' in text
            assert 'serving_worker_resident_memory_bytes{worker="front-1"}' in text


REFUSED: list[tuple[str, Any]] = [
    ("/predict", {"servable": "mpl", "instances": [{"x": [0.5] * 16}]}),
    ("/predict", {"servable": "mlp", "version": 7, "instances": [{"x": [0.5] * 16}]}),
    ("/predict", {"servable": "mlp", "method": "walk", "instances": [{"x": [0.5] * 16}]}),
    ("/predict", {"servable": "mlp", "instances": [{"x": [0.5] * 3}]}),
    ("/predict", {"servable": "mlp", "instances": [{"z": [0.5] * 16}]}),
    ("/predict", {"instances": [{"x": [0.5] * 16}]}),
    ("/v2/models/mlp/infer", {"inputs": []}),
    ("/v2/models/mlp/versions/3/infer", {"inputs": []}),
    ("/v2/repository/models/mlp/load", {}),
    ("/v2/repository/models/mlp/unload", {}),
]


def test_refusals_are_worded_as_by_one_process(server: ServerProcess, tmp_path: Path) -> None:
    models = server.log_file.parents[1] / "models"
    with serving(models, tmp_path / "one", "--frontends", "1") as one:
        with Caller(one) as alone:
            wanted = [_without_id(alone.json(*each)) for each in REFUSED]
        with on_each(server) as callers:
            for caller in callers:
                assert [_without_id(caller.json(*each)) for each in REFUSED] == wanted
    assert all(status >= 400 for status, _ in wanted)


def _without_id(answer: tuple[int, Any]) -> tuple[int, Any]:
    status, told = answer
    for field in ("instance", "id", "request_id"):
        told.pop(field, None)
    return status, told


def test_memory_comes_back_after_large_requests(server: ServerProcess) -> None:
    values = np.ones(LARGE, np.float32)
    with on_each(server) as callers:
        for caller in callers:
            for _ in range(5):
                infer_binary(caller, values)

        def lent() -> float:
            text = callers[0].call("/metrics")[2].decode()
            (line,) = (
                x for x in text.splitlines() if x.startswith("serving_tensor_memory_lent_bytes")
            )
            return float(line.split()[1])

        until(lambda: lent() == 0, 10, "all memory of requests to be given back")
        trays = "memfd:serving (deleted)"

        def received_into() -> int:
            """Writable mappings of lent memory, in all front ends."""
            return sum(
                1
                for process in server.front_ends()
                for m in process.memory_maps(grouped=False)
                if trays in m.path and m.perms.startswith("rw")
            )

        until(lambda: received_into() == 0, 20, "idle memory to be given back to the master")


def test_hot_update_reaches_every_front_end(tmp_path: Path) -> None:
    models = tmp_path / "models"
    mlp(models / "m" / "1" / "model.onnx")
    options = ("--frontends", str(FRONTENDS), "--poll-interval-s", "0.1")
    with serving(models, tmp_path / "run", *options) as running, on_each(running) as callers:
        body = {"servable": "m", "instances": [{"x": [0.5] * 16}]}
        assert [c.json("/predict", body)[1]["version"] for c in callers] == [1, 1]
        mlp(tmp_path / "new.onnx")
        (models / "m" / "2").mkdir()
        (tmp_path / "new.onnx").rename(models / "m" / "2" / "model.onnx")

        def versions() -> list[int]:
            answers = [c.json("/predict", body) for c in callers]
            assert all(status == 200 for status, _ in answers), answers
            return [told["version"] for _, told in answers]

        until(lambda: versions() == [2, 2], 30, "version 2 on every front end")


def test_explicit_control_reaches_every_front_end_at_once(tmp_path: Path) -> None:
    models = tmp_path / "models"
    mlp(models / "m" / "1" / "model.onnx")
    secret = tmp_path / "token"
    secret.write_text("s3cret")
    options = ("--frontends", str(FRONTENDS), "--model-control", "explicit")
    options += ("--load-servables", "*", "--admin-token-file", str(secret))
    body = {"servable": "m", "instances": [{"x": [0.5] * 16}]}
    with serving(models, tmp_path / "run", *options) as running, on_each(running) as callers:
        for turn in range(6):
            one, other = callers if turn % 2 else reversed(callers)
            unload, load = (f"/v2/repository/models/m/{what}" for what in ("unload", "load"))
            assert one.call(unload, b"{}")[0] == 401
            assert one.call(unload, b"{}", Authorization="Bearer s3cret")[0] == 200
            status, told = other.json("/predict", body)
            assert (status, told["code"]) == (503, "not_ready")
            assert one.call(load, b"{}", Authorization="Bearer s3cret")[0] == 200
            assert other.json("/predict", body)[0] == 200


def test_region_that_one_front_end_registers_is_that_of_all(
    server: ServerProcess, tmp_path: Path
) -> None:
    models = server.log_file.parents[1] / "models"
    options = ("--frontends", str(FRONTENDS), "--client-shared-memory")
    values = np.random.default_rng(7).standard_normal(LARGE).astype(np.float32)
    with (
        shared_objects() as objects,
        serving(models, tmp_path / "run", *options) as running,
        on_each(running) as callers,
    ):
        given, taken = objects.make("in", values.tobytes()), objects.make("out", bytes(12))
        os.truncate(objects.path("out"), values.nbytes)
        for turn in range(4):
            one, other = callers if turn % 2 else reversed(callers)
            for name, key in (("in", given), ("out", taken)):
                named = {"key": key, "byte_size": values.nbytes}
                assert one.json(f"{REGIONS}/region/{name}/register", named) == (200, {})
            assert one.json(f"{REGIONS}/status") == other.json(f"{REGIONS}/status")
            for caller in callers:
                objects.path("out").write_bytes(bytes(values.nbytes))
                assert caller.json("/v2/models/same/infer", in_regions(values))[0] == 200
                assert objects.path("out").read_bytes() == values.tobytes()
            assert other.json(f"{REGIONS}/unregister", {}) == (200, {})
            for caller in callers:
                assert caller.json(f"{REGIONS}/status") == (200, [])
                assert caller.json("/v2/models/same/infer", in_regions(values))[0] == 404


def in_regions(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return a request to ``same`` that brings its tensor in one region and takes it in another."""
    size = {"shared_memory_byte_size": values.nbytes}
    tensor = {"name": "x", "datatype": "FP32", "shape": list(values.shape)}
    given = {**tensor, "parameters": {"shared_memory_region": "in", **size}}
    taken = {"name": "y", "parameters": {"shared_memory_region": "out", **size}}
    return {"inputs": [given], "outputs": [taken]}


def test_front_end_that_was_started_again_knows_the_regions(
    server: ServerProcess, tmp_path: Path
) -> None:
    models = server.log_file.parents[1] / "models"
    options = ("--frontends", str(FRONTENDS), "--client-shared-memory")
    with shared_objects() as objects, serving(models, tmp_path / "run", *options) as running:
        with Caller(running) as caller:
            named = {"key": objects.make("in", bytes(100)), "byte_size": 100}
            assert caller.json(f"{REGIONS}/region/in/register", named) == (200, {})
            told = caller.json(f"{REGIONS}/status")
        before = {process.pid for process in running.front_ends()}
        running.front_ends()[0].kill()
        until(lambda: len({p.pid for p in running.front_ends()} - before) == 1, 30, "another one")
        with on_each(running) as callers:
            for caller in callers:
                assert caller.json(f"{REGIONS}/status") == told


def test_grpcio_serves_in_every_front_end(server: ServerProcess, tmp_path: Path) -> None:
    models = server.log_file.parents[1] / "models"
    options = ("--frontends", str(FRONTENDS), "--grpc-engine", "grpcio")
    with serving(models, tmp_path / "run", *options) as running:
        seen: set[int] = set()
        ask = health_pb2.HealthCheckRequest()
        deadline = time.monotonic() + 30
        with contextlib.ExitStack() as stack:
            while len(seen) < FRONTENDS:  # the kernel deals connections out by a hash
                assert time.monotonic() < deadline, "all connections came to the same front end"
                channel = grpc.insecure_channel(
                    running.grpc, [("grpc.use_local_subchannel_pool", 1)]
                )
                stack.enter_context(channel)
                answer = health_pb2_grpc.HealthStub(channel).Check(ask, timeout=30)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
                for process in running.front_ends():
                    held = process.net_connections("tcp")
                    if any(c.raddr and c.laddr.port == running.grpc_port for c in held):
                        seen.add(process.pid)
        assert running.stop() == 0


def test_taken_port_is_told_as_by_one_process(server: ServerProcess, tmp_path: Path) -> None:
    models = server.log_file.parents[1] / "models"
    for flag, port in (("--rest-port", server.rest_port), ("--grpc-port", server.grpc_port)):
        options = ("--frontends", "2", flag, str(port))
        with serving(models, tmp_path / "r", *options, wait=False) as refused:
            assert refused.process.wait(30) != 0
            assert flag in refused.log()
            assert "Traceback" not in refused.log()
