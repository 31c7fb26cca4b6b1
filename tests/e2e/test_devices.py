"""Whole servers on CPU, GPUs and Ascend devices, the latter played by strict doubles.

The doubles are put in by the setting of a backend's environment alone. An ONNX and a MindIR
servable run on all devices; a GPU builds engines of them, an Ascend device compiles them.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from serving.cli import main
from tests import models
from tests.faults.client import Answer, Client
from tests.server import ServerProcess, serving, until
from tests.unit.formats.mindir.mindir_files import Net

DOUBLES = Path(__file__).parents[1] / "doubles"
CLIENTS, CALLS = 8, 30
GEARS = {1, 2, 4, 8}
WEIGHT = np.random.default_rng(5).standard_normal((3, 4)).astype(np.float32)


def repository(folder: Path) -> Path:
    """Write ``slow`` (ONNX, the mean of a row) and ``net`` (MindIR, relu(x @ w))."""
    models.slow(folder / "slow" / "1" / "model.onnx", ms=1)
    net = Net("2.10")
    w, x = net.weight("w", WEIGHT), net.input("x", "float32", (2, 3))
    y = net.op("MatMul", [x, w], ("float32", (2, 4)), transpose_a=False, transpose_b=False)
    net.output(net.op("ReLU", [y], ("float32", (2, 4))))
    (folder / "net" / "1").mkdir(parents=True)
    net.save(folder / "net" / "1" / "net.mindir")
    for name in ("slow", "net"):
        (folder / name / "servable.toml").write_text("max_batch_size = 8\n")
    return folder


def settings_file(folder: Path, **more: str) -> Path:
    """Write a server's file that puts the doubles into the workers of their backends."""
    gpu = {"PYTHONPATH": f"{DOUBLES / 'tensorrt'}:{DOUBLES / 'cuda'}", "TRT_DOUBLE_DEVICES": "2"}
    ascend = {
        "PYTHONPATH": str(DOUBLES / "acl"),
        "PATH": f"{DOUBLES}:/usr/bin:/bin",
        "ATC_DOUBLE_PYTHON": sys.executable,
        "ACL_DOUBLE_DEVICES": "2",
    }
    for name, value in more.items():
        (gpu if name.startswith("TRT") else ascend)[name] = value
    lines = []
    for backend, variables in (("tensorrt", gpu), ("ascend", ascend)):
        lines.append(f"[backends.{backend}.env]")
        lines += [f"{name} = {json.dumps(value)}" for name, value in variables.items()]
    file = folder / "serving.toml"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")
    return file


@contextlib.contextmanager
def server_on(
    tmp_path: Path, devices: str, *options: str, **environment: str
) -> Iterator[ServerProcess]:
    root = repository(tmp_path / "models")
    file = settings_file(tmp_path, **environment)
    told = ("--devices", devices, "--config", str(file), *options)
    with serving(root, tmp_path / "run", *told) as server:
        yield server


def metric(server: ServerProcess, name: str) -> dict[str, float]:
    """Return a metric by worker."""
    _, text = server.get("/metrics")
    found = re.findall(rf'^{name}{{worker="([^"]+)"}} (\S+)$', text, re.MULTILINE)
    return {worker: float(value) for worker, value in found}


def ask_net(server: ServerProcess, number: int) -> None:
    with Client(server.rest_port, "net", timeout_s=60) as client:
        for turn in range(CALLS):
            x = np.array([number, turn, 1], np.float32) / 8
            answer = client.send(x=x.tolist())
            assert isinstance(answer, Answer), answer
            assert answer.status == 200, answer
            (given,) = answer.body["instances"][0].values()
            np.testing.assert_allclose(given, np.maximum(x @ WEIGHT, 0), rtol=1e-4, atol=1e-5)


def ask_slow(server: ServerProcess, number: int) -> None:
    with Client(server.rest_port, "slow", timeout_s=60) as client:
        for turn in range(CALLS):
            x = [(number + turn / CALLS) / CLIENTS] * 4
            answer = client.send(x=x)
            assert isinstance(answer, Answer), answer
            assert answer.status == 200, answer
            assert answer.body["instances"][0]["y"] == pytest.approx(x[:1], abs=1e-3)


def load(server: ServerProcess) -> None:
    """Have clients ask both servables at once; every answer must be right."""
    with ThreadPoolExecutor(2 * CLIENTS) as pool:
        asked = [pool.submit(ask, server, n) for n in range(CLIENTS) for ask in (ask_net, ask_slow)]
        for one in asked:
            one.result(120)


@contextlib.contextmanager
def under_load(server: ServerProcess) -> Iterator[None]:
    """Have clients ask again and again; in the end every answer must have been right."""
    over = threading.Event()

    def repeat() -> None:
        while not over.is_set():
            load(server)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(repeat)
        try:
            yield
        finally:
            over.set()
        asking.result(120)


def runs_since(server: ServerProcess, before: dict[str, float]) -> dict[str, float]:
    now = metric(server, "serving_worker_runs_total")
    return {worker: now[worker] - before[worker] for worker in now}


def index(server: ServerProcess) -> dict[str, dict[str, Any]]:
    _, rows = server.post("/v2/repository/index", {})
    return {row["name"]: row for row in rows}


@pytest.mark.parametrize("kind", ["gpu", "ascend"])
def test_server_serves_onnx_and_mindir_on_all_its_devices_and_spreads_the_load(
    tmp_path: Path, kind: str
) -> None:
    workers = ["cpu-0", f"{kind}-0", f"{kind}-1"]
    with server_on(tmp_path, f"cpu,{kind}:0,{kind}:1") as server:
        assert {name: row["workers"] for name, row in index(server).items()} == {
            "net": workers, "slow": workers,
        }  # fmt: skip
        before = metric(server, "serving_worker_runs_total")
        with under_load(server):
            until(lambda: min(runs_since(server, before).values()) >= CLIENTS, 60, "all to run")
        _, page = server.get("/")
        assert f"<td>{kind}-1<td>{kind}:1<td>" in page
        assert server.stop() == 0
    assert list(before) == workers


@pytest.mark.parametrize("kind", ["gpu", "ascend"])
def test_device_that_fails_under_load_loses_no_request(tmp_path: Path, kind: str) -> None:
    lost = tmp_path / "lost"
    lost.mkdir()
    environment = {
        "gpu": {
            "TRT_DOUBLE_FAIL": "kernel@1:25:cudaErrorIllegalAddress",
            "TRT_DOUBLE_FAIL_ONCE": str(tmp_path / "struck"),
        },
        "ascend": {"ACL_DOUBLE_LOST": str(lost)},
    }[kind]
    with server_on(tmp_path, f"cpu,{kind}:0,{kind}:1", **environment) as server:
        before = metric(server, "serving_worker_runs_total")
        with under_load(server):
            until(lambda: runs_since(server, before)[f"{kind}-1"] > 5, 60, "runs on the device")
            if kind == "ascend":
                (lost / "1").touch()
            until(lambda: f"its device {kind}:1 was lost" in server.log(), 60, "the loss")
            (lost / "1").unlink(missing_ok=True)
        until(lambda: metric(server, "serving_worker_restarts_total")[f"{kind}-1"] >= 1, 30, "it")
        until(lambda: len(index(server)["net"]["workers"]) == 3, 30, "the models to be back")
        load(server)
        restarts = metric(server, "serving_worker_restarts_total")
        _, metrics = server.get("/metrics")
    assert restarts["cpu-0"] == restarts[f"{kind}-0"] == 0
    assert "suspects are tried apart" not in server.log()
    assert 'serving_errors_total{front_end="rest"' not in metrics


def test_device_that_stays_lost_is_shown_to_be_down_and_is_used_again_when_it_is_back(
    tmp_path: Path,
) -> None:
    lost = tmp_path / "lost"
    lost.mkdir()
    with server_on(tmp_path, "cpu,ascend:0", ACL_DOUBLE_LOST=str(lost)) as server:
        (lost / "0").touch()

        def down() -> bool:
            ask_net(server, 1)
            _, metrics = server.get("/metrics")
            return bool(re.search(r'device="ascend:0",down="[^"]+"', metrics))

        until(down, 60, "the place to be down")
        _, page = server.get("/")
        assert re.search(r"<td>ascend-0<td>ascend:0<td>ascend<td class='FAILED'>down", page)
        assert "workers" not in index(server)["net"]
        assert server.get("/v2/health/ready")[0] == 200
        (lost / "0").unlink()
        until(lambda: "ascend-0" in index(server)["net"].get("workers", ()), 60, "it to be back")
        ask_net(server, 2)
        _, metrics = server.get("/metrics")
        assert 'device="ascend:0",down=""' in metrics


def test_ascend_runs_have_the_rows_that_their_models_were_compiled_for(tmp_path: Path) -> None:
    trace, reports = tmp_path / "trace", tmp_path / "reports"
    reports.mkdir()
    told = {"ACL_DOUBLE_TRACE": str(trace), "ACL_DOUBLE_REPORT": str(reports)}
    with server_on(tmp_path, "ascend:0", **told) as server:
        (worker,) = server.workers()
        load(server)
        assert server.stop() == 0
    left = json.loads((reports / f"{worker.pid}.json").read_text())
    assert (left["live"], left["live_bytes"], left["violations"]) == ({}, 0, [])
    chosen: dict[tuple[int, int], int] = {}
    ran: Counter[int] = Counter()
    for told in map(json.loads, trace.read_text().splitlines()):
        if str(told.get("call", "")).endswith("set_dynamic_batch_size"):
            model, _, _, rows = told["args"]
            chosen[told["pid"], model] = rows
        elif told.get("event") == "execute":
            # A KeyError: run without choosing its gear anew.
            assert told["gear"] == [chosen.pop((told["pid"], told["model"]))]
            ran[told["gear"][0]] += 1
    assert set(ran) <= GEARS
    assert len(ran) > 1


def test_gpu_works_on_two_batches_at_once(tmp_path: Path) -> None:
    timeline = tmp_path / "timeline"
    with server_on(
        tmp_path, "gpu:0", TRT_DOUBLE_TIMELINE=str(timeline), TRT_DOUBLE_SLEEP_MS="20"
    ) as server:
        load(server)
        assert server.stop() == 0
    told = [json.loads(line) for line in timeline.read_text().splitlines()]
    assert not [entry for entry in told if entry["event"] == "violation"]
    told = [entry for entry in told if entry["event"] in ("begin", "end")]
    running: defaultdict[int, set[Any]] = defaultdict(set)
    most = 0
    for entry in told:
        streams = running[entry["pid"]]
        (streams.add if entry["event"] == "begin" else streams.discard)(entry["stream"])
        most = max(most, len(streams))
    assert most == 2


def test_engines_are_built_once_and_found_again(tmp_path: Path) -> None:
    for again in (False, True):
        with server_on(tmp_path / str(again), "gpu:0,ascend:0", "--cache-dir", str(tmp_path / "c")):
            pass
        log = (tmp_path / str(again) / "run" / "server.log").read_text()
        made = re.findall(r"engine for (gpu|ascend) (built|was built before)", log)
        assert Counter(made) == {
            (kind, "was built before" if again else "built"): 2 for kind in ("gpu", "ascend")
        }


def test_backend_lives_in_an_environment_of_its_own(tmp_path: Path) -> None:
    """Its interpreter runs its workers, builders and probes, and none of anybody else's."""
    python, used = tmp_path / "python", tmp_path / "used"
    python.write_text(f'#!/bin/sh\necho "$@" >> {used}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    with server_on(tmp_path, "cpu,gpu:0", "--backend", f"tensorrt.python={python}") as server:
        assert index(server)["net"]["workers"] == ["cpu-0", "gpu-0"]
        for number in range(4):
            ask_net(server, number)
    words = used.read_text()
    for module in ("serving.probing.gpu", "serving.building.tensorrt", "serving.worker"):
        assert re.search(rf" {module}\b", words)
    assert "cpu-0" not in words
    assert "serving.formats" not in words


def test_device_that_is_not_there_keeps_the_server_from_starting(tmp_path: Path) -> None:
    root, file = repository(tmp_path / "models"), settings_file(tmp_path)
    told = ("--devices", "cpu,gpu:0,gpu:2", "--config", str(file))
    with serving(root, tmp_path / "run", *told, wait=False) as server:
        assert server.process.wait(30) == 2
        log = server.log()
    assert "--devices names gpu:2, which cannot be used" in log
    assert "devices of this machine: gpu:0, gpu:1" in log


def test_auto_takes_what_there_is_and_says_what_there_is_not(tmp_path: Path) -> None:
    with server_on(tmp_path, "auto", "--backend", "tensorrt.env.PYTHONPATH=/nowhere") as server:
        assert index(server)["net"]["workers"] == ["cpu-0", "ascend-0", "ascend-1"]
        log = server.log()
    assert "no gpu is used: " in log


def test_kind_that_cannot_build_a_model_is_named_and_the_others_serve(tmp_path: Path) -> None:
    told = ("--backend", "ascend.env.ATC_DOUBLE=E10016")
    with server_on(tmp_path, "cpu,ascend:0", *told) as server:
        row = index(server)["net"]
        assert row["state"] == "READY"
        assert row["reason"].startswith("not on ascend: ")
        assert "E10016" in row["reason"]
        assert "workers" not in row  # the CPU's alone
        ask_net(server, 1)


def test_servable_that_pins_a_backend_fails_with_it(tmp_path: Path) -> None:
    root, file = repository(tmp_path / "models"), settings_file(tmp_path, ATC_DOUBLE="E10016")
    (root / "net" / "servable.toml").write_text('backend = "ascend"\n')
    told = ("--devices", "cpu,ascend:0", "--config", str(file))
    with serving(root, tmp_path / "run", *told) as server:
        assert index(server)["net"]["state"] == "UNAVAILABLE"
        assert "E10016" in index(server)["net"]["reason"]
        assert index(server)["slow"]["state"] == "READY"


def test_instances_say_where_a_servable_is_loaded(tmp_path: Path) -> None:
    root, file = repository(tmp_path / "models"), settings_file(tmp_path)
    (root / "net" / "servable.toml").write_text("[instances]\ngpu = [1]\n")
    (root / "slow" / "servable.toml").write_text("[instances]\ncpu = 1\n")
    told = ("--devices", "cpu,gpu", "--workers", "2", "--config", str(file))
    with serving(root, tmp_path / "run", *told) as server:
        assert index(server)["net"]["workers"] == ["gpu-1"]
        assert "workers" not in index(server)["slow"]
        before = metric(server, "serving_worker_runs_total")
        for number in range(3):
            ask_slow(server, number)
        after = metric(server, "serving_worker_runs_total")
        assert after["cpu-0"] > before["cpu-0"]
        assert after["cpu-1"] == before["cpu-1"] == 0
        ask_net(server, 2)


def test_devices_command_tells_what_there_is_and_why_not(tmp_path: Path) -> None:
    file = settings_file(tmp_path, TRT_DOUBLE_MEMORY_MB="2048")
    file.write_text('rest_port = 8000\ndevices = "cpu,gpu"\n' + file.read_text())  # a server's
    shown = CliRunner().invoke(main, ["devices", "--config", str(file)])
    assert shown.exit_code == 0, shown.output
    assert re.search(
        r"gpu:1 +Simulated GPU, 2\.0 GiB, \S+ GiB free, compute capability", shown.output
    )
    assert re.search(r"ascend:0 +Ascend310P3, ", shown.output)
    assert re.search(
        r"MindIR +onnxruntime +tensorrt, built first +ascend, built first", shown.output
    )
    told = ["devices", "--json", "--config", str(file), "--backend", "ascend.env.PYTHONPATH=/no"]
    bare = CliRunner().invoke(main, told)
    assert bare.exit_code == 0, bare.output
    document = json.loads(bare.stdout)
    cpu, gpu, ascend = document["kinds"]
    assert (cpu["usable"], gpu["usable"], ascend["usable"]) == (True, True, False)
    assert [device["name"] for device in gpu["devices"]] == ["gpu:0", "gpu:1"]
    assert "pyACL" in ascend["problem"]
    assert document["formats"]["om"] == {
        "cpu": {"runs": False, "backend": "-"},
        "gpu": {"runs": False, "backend": "-"},
        "ascend": {"runs": False, "backend": "(ascend)"},
    }


def test_driver_that_crashes_its_prober_is_told_and_ends_nothing_else(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "acl.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    file = settings_file(tmp_path)
    told = ["devices", "--json", "--config", str(file)]
    shown = CliRunner().invoke(main, [*told, "--backend", f"ascend.env.PYTHONPATH={broken}"])
    assert shown.exit_code == 0, shown.output
    _, gpu, ascend = json.loads(shown.stdout)["kinds"]
    assert gpu["usable"]
    assert "was killed by SIGSEGV" in ascend["problem"]
