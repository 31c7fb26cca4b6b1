"""What the scenes about cost, queues and copies compute: checked against what must come out."""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cold_start, data_path, growth, half_load
from benchmarks.data_path import Followed
from benchmarks.growth import Point, many_servables, several_rows
from benchmarks.half_load import Half
from benchmarks.ideal_queue import percentile, response_times
from benchmarks.peers.run import launched
from benchmarks.processes import NotStarted, serving
from benchmarks.wires import check, http_request, lua, wires
from benchmarks.workloads import IMAGE_JSON, WORKLOADS, Case, Workload, prepare
from tests.models import slow

ROOT = Path(__file__).parents[2]
needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return prepare(WORKLOADS[0], tmp_path_factory.mktemp("cache"))


# -- the ideal queue -------------------------------------------------------------------------


def test_ideal_queue_serves_in_the_order_of_arrival() -> None:
    # Two servers of 2 s: the third waits for the first, the fourth for the second.
    assert response_times([0.0, 0.5, 1.0, 1.5, 9.0], 2.0, 2) == [2.0, 2.0, 3.0, 3.0, 2.0]


@pytest.mark.parametrize(("load", "mean_wait"), [(0.5, 0.5), (0.8, 2.0)])
def test_ideal_queue_of_one_server_waits_as_pollaczek_and_khinchine_say(
    load: float, mean_wait: float
) -> None:
    draw, at, arrivals = random.Random(5), 0.0, []
    for _ in range(400_000):
        at += draw.expovariate(load)
        arrivals.append(at)
    waits = np.array(response_times(arrivals, 1.0, 1)) - 1.0
    # M/D/1: load / (2 (1 - load)) services
    assert waits.mean() == pytest.approx(mean_wait, rel=0.05)
    assert (waits < 1e-9).mean() == pytest.approx(1 - load, rel=0.02)


def test_ideal_queue_percentile_is_one_of_the_values() -> None:
    assert percentile(range(1, 101), 99) == 100
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert percentile([7.0], 99) == 7.0


def test_half_load_counts_the_ideal_as_the_measurement_is_counted() -> None:
    told = half_load.ideal(rate=100.0, seconds=20.0, service_s=0.01, servers=2)
    assert told[50.0] == pytest.approx(10.0, rel=0.05)  # most find a free server
    assert 10.0 < told[90.0] < told[99.0] < 40.0


def test_half_load_takes_ratios_run_by_run() -> None:
    def half(measured: float, ideal: float) -> Half:
        return Half("net", 2, 2.0, 500.0, 10, dict.fromkeys((50.0, 90.0, 99.0), measured),
                    dict.fromkeys((50.0, 90.0, 99.0), ideal))  # fmt: skip

    line = half_load.table([[half(3, 2), half(4, 4), half(9, 3)]]).splitlines()[2]
    assert line.endswith("| 4, 3 | 4, 3 | 4, 3 | **1.50** (1.50/1.00/3.00) |")


def test_half_load_measures_a_server(tmp_path: Path) -> None:
    work = Workload(
        "slow",
        lambda path: slow(path, ms=20),
        lambda rng: rng.random((1, 4), np.float32),
        workers=2,
    )
    case = prepare(work, tmp_path)
    (half,) = half_load.measure(case, [sys.executable, "-m", "serving"], runs=1, seconds=1.5)
    assert half.answers >= 10
    # In the same unit; how busy the machine is may have changed a good deal in between.
    assert half.measured[99.0] >= half.measured[50.0] > half.service_ms / 20
    assert half.rate == pytest.approx(1000 / half.service_ms, rel=1e-6)
    assert half.ideal[50.0] >= half.service_ms * (1 - 1e-9)


# -- growth ------------------------------------------------------------------------------------


def test_growth_asks_for_several_rows_at_once(tiny: Case) -> None:
    case = several_rows(tiny, 3)
    (wire,) = [wire for wire in wires(case) if wire.name == "v2-binary"]
    assert wire.body.endswith(tiny.row.tobytes() * 3)
    assert case.expected.shape == (3, 4)


def test_growth_lays_out_servables_that_are_all_served(tiny: Case, tmp_path: Path) -> None:
    case, paths = many_servables(tiny, 3, tmp_path)
    assert paths == [f"/v2/models/tiny-{n}/infer" for n in range(3)]
    (wire,) = [wire for wire in wires(case) if wire.name == "v2-binary"]
    assert wire.path == paths[0]
    with serving(case.model_dir) as running:
        check(wire, case, "127.0.0.1", running.rest_port)
        assert running.master_cpu_s() > 0


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs Debian's wrk")
def test_growth_asks_all_servables_in_turns(tiny: Case, tmp_path: Path) -> None:
    case, paths = many_servables(tiny, 3, tmp_path)
    given = argparse.Namespace(runs=1, seconds=1)
    with serving(case.model_dir) as running:
        found = growth.point(case, running, "servables", 3, given, connections=2, paths=paths)
        told = _statistics(running.rest_port)
    assert found.errors == 0
    assert found.cpu_us > 0
    answered = [told[f"tiny-{n}"] for n in range(3)]
    assert min(answered) > 0.9 * max(answered) > 50


def _statistics(port: int) -> dict[str, int]:
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/stats", timeout=10) as answer:
        models = json.load(answer)["model_stats"]
    return {model["name"]: model["inference_stats"]["success"]["count"] for model in models}


def test_growth_compares_each_with_the_first_of_its_kind() -> None:
    def point(what: str, count: int, cpu_us: float) -> Point:
        return Point(what, count, 1, 10.0, 1.0, 2.0, cpu_us, 50.0, 0, (10.0,))

    lines = growth.table(
        [point("rows", 1, 10), point("rows", 2, 15), point("servables, one asked", 1, 20),
         point("servables, all in turns", 9, 30)]
    ).splitlines()[2:]  # fmt: skip
    assert [line.split("|")[9].strip() for line in lines] == ["1.00", "1.50", "1.00", "1.50"]


def test_lua_asks_one_path_unless_told_others(tiny: Case) -> None:
    wire = wires(tiny)[0]
    assert "function request" not in lua(wire, "body")
    assert '"/a", "/b"' in lua(wire, "body", ["/a", "/b"])


# -- copies ------------------------------------------------------------------------------------

_COPIES = """
import itertools, os
from benchmarks.data_path import counted
from pathlib import Path
import numpy as np
folder, size = Path(os.environ["COUNTING"]), 1 << 22
source, target = bytearray(size), np.zeros(size, np.uint8)
def cost(work):
    before = counted(folder, os.getpid()); work(); after = counted(folder, os.getpid())
    return {name: after[name] - before[name] for name in before}
def assign():
    target[...] = np.frombuffer(source, np.uint8)
def objects():
    return [object() for _ in itertools.repeat(None, 10_000)]
def pipe():
    ours, theirs = os.pipe(); os.write(theirs, bytes(5000)); os.read(ours, 5000)
    os.close(ours); os.close(theirs)
print([cost(lambda: bytes(source))["copied"], cost(assign)["copied"],
       cost(objects)["allocations"], cost(pipe)["read"], cost(pipe)["written"]])
"""


@needs_cc
def test_data_path_counts_copies_allocations_and_what_is_read(tmp_path: Path) -> None:
    library = data_path.compiled(tmp_path)
    env = {**os.environ, **data_path.counting(library, tmp_path)}
    told = subprocess.run(
        [sys.executable, "-c", _COPIES], env=env, cwd=ROOT, capture_output=True, text=True,
        check=True, timeout=60,
    )  # fmt: skip
    made, assigned, allocations, read, written = json.loads(told.stdout)
    assert made == assigned == 1 << 22
    assert 10_000 <= allocations < 12_000
    assert 5000 <= read < 6000
    assert 5000 <= written < 6000


@needs_cc
def test_data_path_follows_a_large_request(capsys: pytest.CaptureFixture[str]) -> None:
    found = data_path.measure(frozenset({"v2-binary"}), [1 << 22])
    (path,) = found
    assert (path.wire, path.tensor_bytes) == ("v2-binary", 1 << 22)
    # A copy into the rows, a copy out of them, of twice as many bytes; the model copies once.
    assert 0.95 < path.copied < 1.5
    assert path.worker["copied"] == pytest.approx(1 << 22, rel=0.05)
    assert path.master["read"] == pytest.approx(path.body_in, rel=0.05)
    assert "v2-binary" in data_path.table(found)


def test_data_path_of_shared_memory_is_told_by_its_tensors() -> None:
    counters = dict.fromkeys(data_path._FIELDS, 0.0) | {"copied": 500.0}
    shared = Followed(data_path.SHARED, 1000, 10, 10, counters, counters)
    binary = Followed("v2-binary", 1000, 1000, 1000, counters, counters)
    assert shared.body == binary.body == 2000
    assert shared.copied == 0.25


# -- cold start --------------------------------------------------------------------------------


def test_cold_start_is_from_the_command_to_the_right_answer(tiny: Case, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "serving"]
    seen = cold_start.Seen("this server, first")
    plan = cold_start.our_plan(tiny, command, lambda folder: tmp_path / "kept")
    cold_start.start(tiny, plan, wires(tiny)[0], os.environ, seen)
    (took_s,) = seen.answer_s
    assert 0.1 < took_s < 60
    roles = [role for role, _ in seen.memory[0]]
    assert roles == ["master", "worker"]
    assert seen.probed[0] > seen.total_mb > 20
    assert list((tmp_path / "kept" / "proofs").iterdir())


def test_cold_start_tells_what_a_server_said_that_never_answered(
    tiny: Case, tmp_path: Path
) -> None:
    plan = cold_start.our_plan(
        tiny, [sys.executable, "-c", "raise SystemExit('no')"], lambda folder: tmp_path
    )
    with pytest.raises(NotStarted, match="no"):
        cold_start.start(tiny, plan, wires(tiny)[0], os.environ, None)
    with launched(plan) as (process, _, _):
        assert process.wait(20) == 1


def test_cold_start_keeps_byte_code_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    env = cold_start.surroundings(tmp_path)
    assert "PYTHONDONTWRITEBYTECODE" not in env
    assert env["PYTHONPYCACHEPREFIX"].startswith(str(tmp_path))


# -- wires and workloads -------------------------------------------------------------------------


def test_http_request_is_what_a_parser_reads(tiny: Case) -> None:
    import httptools

    read: dict[str, bytes] = {"body": b"", "url": b""}

    class Reader:
        def on_url(self, url: bytes) -> None:
            read["url"] += url

        def on_body(self, body: bytes) -> None:
            read["body"] += body

    wire = wires(tiny)[2]
    parser = httptools.HttpRequestParser(Reader())
    parser.feed_data(http_request(wire, 80))
    assert (read["url"].decode(), read["body"]) == (wire.path, wire.body)


def test_image_json_is_asked_for_the_mean_of_each_colour(tmp_path: Path) -> None:
    case = prepare(IMAGE_JSON, tmp_path)
    assert np.allclose(case.expected, case.row.mean(axis=(2, 3)), atol=1e-5)
    instance = json.loads(wires(case)[0].body)["instances"][0]
    assert math.isclose(np.mean(instance["image"]), case.row.mean(), abs_tol=1e-5)
