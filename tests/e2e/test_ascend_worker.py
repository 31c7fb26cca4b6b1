"""A real worker under a real server on an Ascend device, which a strict double plays.

The double is put in by the setting of the backend's environment alone.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests import models
from tests.doubles import ascend
from tests.doubles.om import ACL_FOLDER, compile_om, write_air
from tests.server import ServerProcess, serving

HEARTBEAT_S = 2.0
RUN_S = 5.0


def told(**environment: str) -> list[str]:
    """Return the flags that put the double into workers, and its settings."""
    variables = {**ascend.ENVIRONMENT, **environment}
    settings = [f"ascend.env.{name}={value}" for name, value in variables.items()]
    return ["--devices", "ascend:0", *(f"--backend={setting}" for setting in settings)]


def om(folder: Path) -> Path:
    """Write a servable that is an OM from elsewhere: y = x, for 1, 2 or 4 rows at once."""
    onnx = models.identity(folder / "echo.onnx", "FP32", ("batch", 3))
    compile_om(onnx, folder / "models" / "echo" / "1" / "echo.om", kind="batch",
               gears=[[1], [2], [4]])  # fmt: skip
    return folder / "models"


def ask(server: ServerProcess, *rows: list[float]) -> list[list[float]]:
    status, answer = server.post("/v2/models/echo/infer", request(*rows))
    assert status == 200, answer
    [output] = answer["outputs"]
    return [list(row) for row in np.reshape(output["data"], output["shape"]).tolist()]


def request(*rows: list[float]) -> dict[str, Any]:
    data = [value for row in rows for value in row]
    x = {"name": "x", "datatype": "FP32", "shape": [len(rows), 3], "data": data}
    return {"inputs": [x]}


def test_ascend_worker_answers_the_master_while_the_device_computes_for_seconds(
    tmp_path: Path,
) -> None:
    pause = tmp_path / "pause_ms"
    options = [*told(ACL_DOUBLE_SLEEP_FILE=str(pause)), f"--heartbeat-timeout-s={HEARTBEAT_S}"]
    with serving(om(tmp_path), tmp_path / "run", *options) as server:
        [worker] = server.workers()
        assert ask(server, [1, 2, 3]) == [[1, 2, 3]]
        pause.write_text(str(RUN_S * 1e3))
        began = time.monotonic()
        assert ask(server, [4, 5, 6], [7, 8, 9]) == [[4, 5, 6], [7, 8, 9]]
        assert time.monotonic() - began >= RUN_S
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{server.base}/v2/models/echo/infer", json=request([0, 0, 0]), timeout=0.5)
        # Nobody waits for that run any more. The device goes on with it; the worker is well.
        pause.write_text("0")
        assert ask(server, [3, 2, 1]) == [[3, 2, 1]]
        assert [w.pid for w in server.workers()] == [worker.pid]
        _, metrics = server.get("/metrics")
    assert 'serving_worker_restarts_total{worker="ascend-0"} 0' in metrics


def test_ascend_worker_gives_everything_back_when_the_server_stops(tmp_path: Path) -> None:
    reports, trace = tmp_path / "reports", tmp_path / "trace"
    reports.mkdir()
    options = told(ACL_DOUBLE_REPORT=str(reports), ACL_DOUBLE_TRACE=str(trace))
    with serving(om(tmp_path), tmp_path / "run", *options) as server:
        [worker] = server.workers()
        answers: list[Any] = []
        threads = [
            threading.Thread(target=lambda n=n: answers.append((n, ask(server, [n, n, n]))))
            for n in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == [(n, [[n, n, n]]) for n in range(12)]
        assert server.stop() == 0
    gears = [
        one["gear"]
        for one in map(json.loads, trace.read_text().splitlines())
        if one.get("event") == "execute"
    ]
    assert gears
    assert {tuple(gear) for gear in gears} <= {(1,), (2,), (4,)}
    told_by = {int(file.stem): json.loads(file.read_text()) for file in reports.iterdir()}
    assert worker.pid in told_by
    for report in told_by.values():
        assert (report["live"], report["violations"]) == ({}, [])


def test_ascend_server_compiles_an_air_file_by_its_settings(tmp_path: Path) -> None:
    onnx = models.identity(tmp_path / "echo.onnx", "FP32", ("batch", 3))
    servable = tmp_path / "models" / "echo"
    write_air(onnx, servable / "1" / "echo.air")
    (servable / "servable.toml").write_text(
        '[options.ascend]\ninput_shape = "x:-1,3"\ndynamic_batch_size = "1,4"\n'
    )
    calls, trace = tmp_path / "calls", tmp_path / "trace"
    options = told(
        PATH=f"{ACL_FOLDER.parent}:{os.environ['PATH']}", ATC_DOUBLE_PYTHON=sys.executable,
        ATC_DOUBLE_CALLS=str(calls), ACL_DOUBLE_TRACE=str(trace),
    )  # fmt: skip
    with serving(tmp_path / "models", tmp_path / "run", *options) as server:
        assert ask(server, [1, 2, 3]) == [[1, 2, 3]]
        assert ask(server, [1, 2, 3], [4, 5, 6]) == [[1, 2, 3], [4, 5, 6]]
    [words] = map(json.loads, calls.read_text().splitlines())
    assert "--framework=1" in words
    assert "--soc_version=Ascend310P3" in words  # asked of the device
    assert words[-2:] == ["--input_shape=x:-1,3", "--dynamic_batch_size=1,4"]
    executed = [one for one in map(json.loads, trace.read_text().splitlines()) if "gear" in one]
    assert executed[-1]["gear"] == [4]  # two rows, filled up
