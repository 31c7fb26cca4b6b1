"""The benchmark harness counts what it should: right rates, failed calls, shares."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest

from benchmarks import engine, processes, shared_memory
from benchmarks.load import drive
from benchmarks.measure import Row
from benchmarks.report import scaling_section, share_of_echo
from benchmarks.resnet import resnet50
from benchmarks.scaling import MODEL, WIRE, Scaling
from benchmarks.wires import WrongAnswer, check, check_echo, framed, wires
from benchmarks.workloads import WORKLOADS, Case, prepare
from tests.server import until

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="needs Debian's wrk")
needs_h2load = pytest.mark.skipif(shutil.which("h2load") is None, reason="needs nghttp2-client")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Case:
    return prepare(WORKLOADS[0], tmp_path_factory.mktemp("cache"))


def test_wires_carry_the_same_row_in_four_formats(tiny):
    rest, v2_json, v2_binary, v2_grpc = wires(tiny)
    (instance,) = json.loads(rest.body)["instances"]
    assert np.array(instance["x"], np.float32).tobytes() == tiny.row.tobytes()
    (tensor,) = json.loads(v2_json.body)["inputs"]
    assert tensor["shape"] == [1, 16]
    assert np.array(tensor["data"], np.float32).tobytes() == tiny.row.tobytes()
    assert v2_binary.body.endswith(tiny.row.tobytes())
    split = int(v2_binary.headers["Inference-Header-Content-Length"])
    assert json.loads(v2_binary.body[:split])["inputs"][0]["name"] == "x"
    assert len(v2_binary.body) == split + 64
    assert tiny.row.tobytes() in v2_grpc.body


def test_framed_message_has_a_grpc_prefix():
    assert framed(b"ab") == b"\x00\x00\x00\x00\x02ab"


def test_engine_limit_grows_with_the_batch_of_a_tiny_model(tiny):
    limit = engine.measure(tiny, processes=1, seconds=0.05)
    assert set(limit.rates) == set(engine.BATCHES)
    assert limit.rate == max(limit.rates.values())
    assert limit.rates[64] > 4 * limit.rates[1]


@needs_wrk
def test_asgi_echo_is_driven_by_wrk_without_errors(tiny):
    wire = wires(tiny)[0]
    with processes.echo("asgi") as running:
        size = check_echo(wire, "127.0.0.1", running.rest_port)
        sample = drive(wire, running.rest_port, 2, 1, 1, size)
    assert sample.errors == 0
    assert 0 < sample.p50_ms <= sample.p99_ms
    assert sample.rate == pytest.approx(sample.requests, rel=0.2)
    assert not Path(f"/proc/{running.pid}").exists()


@needs_h2load
def test_grpc_echo_is_driven_by_h2load_without_errors(tiny):
    wire = wires(tiny)[3]
    with processes.echo("grpc") as running:
        size = check_echo(wire, "127.0.0.1", running.grpc_port)
        sample = drive(wire, running.grpc_port, 2, 4, 1, size)
        mapped = running.engine_mappings()
        memory = running.memory()
    assert sample.errors == 0
    assert 0 < sample.p50_ms <= sample.p99_ms
    assert sample.rate == pytest.approx(sample.requests, rel=0.2)
    assert mapped == []
    assert [(role, pid) for role, pid, _ in memory] == [("master", running.pid)]
    assert memory[0][2] > 1


@needs_h2load
async def test_grpc_errors_are_counted_although_h2load_sees_status_200(tiny):
    import asyncio

    async def refuse(_message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await context.abort(grpc.StatusCode.INTERNAL, "no")

    class Refusal(grpc.GenericRpcHandler):
        def service(self, _details):
            return grpc.unary_unary_rpc_method_handler(refuse)

    wire = wires(tiny)[3]
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Refusal(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        with pytest.raises(WrongAnswer, match="INTERNAL: no"):
            await asyncio.to_thread(check, wire, tiny, "127.0.0.1", port)
        sample = await asyncio.to_thread(drive, wire, port, 1, 1, 1, 40)
    finally:
        await server.stop(None)
    assert sample.requests > 10
    assert sample.errors == sample.requests
    assert sample.rate == 0


def test_server_that_ends_at_once_is_reported_with_what_it_printed(tiny):
    command = [sys.executable, "-c", "import sys; sys.exit('no port left')"]
    with (
        pytest.raises(processes.NotStarted, match="no port left"),
        processes.server(tiny, command),
    ):
        pass


def test_engine_mapping_of_a_process_that_runs_one_is_found():
    import onnxruntime  # noqa: F401

    here = processes.Running(os.getpid(), 0, 0, 0.0)
    assert any("onnxruntime" in name for name in here.engine_mappings())


def test_share_of_echo_is_taken_at_the_same_body_and_concurrency():
    def row(wire: str, connections: int, rate: float) -> Row:
        return Row(wire, connections, 1, rate, 0, 0, 0, 0, 0, 0, ())

    echoes = [row("grpc", 1, 10), row("rest-json", 8, 20), row("grpc", 8, 40)]
    assert share_of_echo(row("grpc", 8, 30), echoes) == 0.75
    assert share_of_echo(row("grpc", 64, 30), echoes) is None


def test_scaling_is_the_rate_of_two_workers_over_that_of_one():
    def row(rate: float) -> Row:
        return Row("v2-binary", 8, 1, rate, 0, 0, 0, 0, 0, 0, (rate,))

    scaling = Scaling("net", "v2-binary", 8, one=row(200), two=row(350))
    assert scaling.ratio == 1.75
    text = "\n".join(scaling_section(scaling))
    assert "2 workers / 1 worker = **1.75** in requests/s, 8 clients, v2-binary" in text
    assert "| 1 | **200** (200) |" in text
    assert "| 2 | **350** (350) |" in text


def test_scaling_model_and_wire_are_among_those_that_are_measured(tiny):
    assert MODEL in [work.name for work in WORKLOADS]
    assert WIRE in [wire.name for wire in wires(tiny)]


def test_resnet50_has_its_published_size(tmp_path):
    import onnx

    model = onnx.load(resnet50(tmp_path / "model.onnx"))
    kinds = [node.op_type for node in model.graph.node]
    assert (kinds.count("Conv"), kinds.count("Gemm"), kinds.count("Add")) == (53, 1, 16)
    kernels = [t for t in model.graph.initializer if t.name.endswith("weight")]
    # torchvision's 25,557,032 less its 53,120 batch norm parameters and 1,000 biases
    assert sum(int(np.prod(t.dims)) for t in kernels) == 25_557_032 - 53_120 - 1_000


def test_shared_memory_scene_looks_at_what_the_server_has_written(tmp_path):
    case = prepare(shared_memory.workload(), tmp_path)
    other = dataclasses.replace(case, expected=case.expected + 1)
    with (
        processes.serving(case.model_dir, "--client-shared-memory") as running,
        shared_memory.shared_wire(case, running) as wire,
    ):
        assert check(wire, case, shared_memory.HOST, running.rest_port) < 1000
        with pytest.raises(WrongAnswer):
            check(wire, other, shared_memory.HOST, running.rest_port)


def test_shared_memory_scene_takes_ratios_round_by_round():
    def seen(binary: list[float], shared: list[float]) -> dict[str, shared_memory.Seen]:
        return {
            shared_memory.BASE: shared_memory.Seen(binary, [1, 1, 1], [10, 10, 10]),
            shared_memory.SHARED: shared_memory.Seen(shared, [1, 2, 3], [5, 6, 7], 4),
        }

    ours = {"serving": seen([100, 200, 400], [150, 400, 600])}
    line = shared_memory.table(ours).splitlines()[-1]
    assert line == "| serving | v2-shared | 400 | 1.50 | 2.00 | 6 | 4 |"
    both = {**ours, "triton": seen([100, 100, 100], [100, 500, 300])}
    lines = shared_memory.table(both).splitlines()[2:]
    assert [text.rsplit("|", 2)[1].strip() for text in lines] == [
        "**2.00**", "**1.50**", "**1.00**", "**1.00**",
    ]  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_benchmark_that_is_killed_leaves_no_server(number: signal.Signals) -> None:
    program = (
        "import time; from benchmarks import processes\n"
        "with processes.echo('asgi') as echo: print(echo.pid, flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as benchmark:
        assert benchmark.stdout is not None
        server = psutil.Process(int(benchmark.stdout.readline()))
        benchmark.send_signal(number)
    until(lambda: not server.is_running(), 20, "the server's end")
