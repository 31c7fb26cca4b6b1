"""One kind of device after the other, each beside its bare engine in the same run.

    python -m benchmarks.devices --devices cpu,gpu
    python -m benchmarks.devices --devices gpu --only resnet50 --clients 1,8,32 --config FILE

For each kind the server runs on one device of it and is asked over V2 with binary tensors; then
what it ran there, the engine's file and all, is run by the same backend in a loop without a
server, over batch sizes. ``--config`` is the server's file: its tables [backends.NAME] say where
engines live. Needs ``wrk``. A kind that this machine lacks is an error, told before anything runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import engine, processes
from benchmarks.__main__ import argument_of_cache, names
from benchmarks.load import LoadFailed, MissingGenerator, require_generators
from benchmarks.measure import HOST, Plan, Row, point
from benchmarks.processes import NotStarted, Running
from benchmarks.wires import WrongAnswer, call, wires
from benchmarks.workloads import WORKLOADS, Case, prepare

KINDS = ("cpu", "gpu")
MODELS = tuple(work.name for work in WORKLOADS if not work.only_json)
WIRE = "v2-binary"
BATCHES = (1, 2, 4, 8, 16, 32)
CLOSE = 0.01
"""How far an answer may be from the CPU's, as a share of its largest value: GPUs have TF32."""


class NoDevice(Exception):
    """A kind of device that was asked for cannot be used here; the text says why."""


@dataclass(frozen=True)
class Measured:
    """One model on one kind of device: by which backend, how fast bare, and behind the server."""

    model: str
    kind: str
    backend: str
    limit: engine.Limit
    rows: tuple[Row, ...]


def require(kinds: Sequence[str], told: Mapping[str, Any]) -> None:
    """Raise NoDevice for the first kind that ``serving devices --json`` says is not usable."""
    known = {kind["kind"]: kind for kind in told["kinds"]}
    for kind in kinds:
        if not known[kind]["usable"]:
            raise NoDevice(
                f"no {kind} can be measured here: {known[kind]['problem']} (`serving devices` "
                "shows what there is; --config names the file that says where engines live)"
            )


def loaded_file(backend: str, case: Case, cache: Path) -> Path:
    """Return the file that a backend has loaded: the engine in the server's cache, or the model."""
    if backend == "onnxruntime":
        return case.model
    (found,) = (cache / "engines").glob("*/*.plan")
    return found


def environment(backends: Mapping[str, Any], kind: str) -> tuple[str, dict[str, str]]:
    """Return the interpreter and the variables of a kind's workers, as the server's file has them.

    Both engines of a GPU live in the environment of ``tensorrt``.
    """
    name = "tensorrt" if kind == "gpu" else "onnxruntime"
    table = backends.get(name, {})
    more = dict(table.get("env", {}))
    if module := table.get("module"):
        more[f"SERVING_{name.upper()}_MODULE"] = module
    here = str(Path(__file__).resolve().parents[1])
    paths = [here, more.pop("PYTHONPATH", os.environ.get("PYTHONPATH", ""))]
    path = os.pathsep.join(filter(None, paths))
    return table.get("python") or sys.executable, {**os.environ, **more, "PYTHONPATH": path}


def table(found: Sequence[Measured]) -> str:
    """Return Markdown; a share is of the bare engine's best rate on the same device."""
    lines = [
        "| model | device | by | bare rows/s (batch) | clients | requests/s | share | p50 ms "
        "| p99 ms | errors |",
        "|" + " --- |" * 10,
    ]
    for one in found:
        bare = f"{one.limit.rate:,.1f} ({one.limit.batch})"
        for row in one.rows:
            lines.append(
                f"| {one.model} | {one.kind} | {one.backend} | {bare} | {row.connections} "
                f"| {row.rate:,.1f} | {row.rate / one.limit.rate:.2f} | {row.p50_ms:.3g} "
                f"| {row.p99_ms:.3g} | {row.errors} |"
            )
    return "\n".join(lines)


def measure(case: Case, kind: str, given: argparse.Namespace) -> Measured:
    """Measure one model on one device of a kind."""
    plan = Plan(given.seconds, given.runs, None)
    workers = case.workload.workers if kind == "cpu" else 1
    options = ["--devices", kind if kind == "cpu" else f"{kind}:0", "--workers", str(workers)]
    if given.config is not None:
        options += ["--config", str(given.config)]
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        with processes.serving(case.model_dir, *options, "--cache-dir", str(cache)) as running:
            backend = _backend(running, case)
            sized = _held_against_the_cpu(case, running)
            (wire,) = [wire for wire in wires(sized) if wire.name == WIRE]
            rows = [point(sized, wire, running, plan, c, 1, echo=False) for c in given.clients]
        row = Path(folder) / "row.npy"
        np.save(row, case.row)
        python, env = environment(_backends(given.config), kind)
        file = loaded_file(backend, case, cache)
        command = [python, "-m", "benchmarks.bare_engine", backend, kind, str(file), str(row)]
        limit = engine.sweep(command, workers, given.seconds, BATCHES, env)
    return Measured(case.name, kind, backend, limit, tuple(rows))


def _backends(config: Path | None) -> Mapping[str, Any]:
    if config is None:
        return {}
    backends: Mapping[str, Any] = tomllib.loads(config.read_text()).get("backends", {})
    return backends


def _backend(running: Running, case: Case) -> str:
    """Ask the server which backend runs the model."""
    url = f"http://{HOST}:{running.rest_port}/v2/models/{case.name}/config"
    with urllib.request.urlopen(url) as reply:
        return str(json.load(reply)["backend"])


def _held_against_the_cpu(case: Case, running: Running) -> Case:
    """Return the case with the device's own answer as the expected one, if it is close enough."""
    (wire,) = [wire for wire in wires(case) if wire.name == WIRE]
    given = wire.read(*call(wire, HOST, running.rest_port))
    far = float(np.abs(given - case.expected).max() / np.abs(case.expected).max())
    if not far <= CLOSE:
        raise WrongAnswer(f"{case.name}: the answer is {far:.3g} of the largest value away")
    return dataclasses.replace(case, expected=given)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 when an answer was wrong, 2 when there is no such device."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.devices", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    known = ",".join(KINDS)
    parser.add_argument("--devices", type=lambda t: names(KINDS, t), default=frozenset(KINDS),
                        help=f"kinds, with commas (default {known})")  # fmt: skip
    parser.add_argument("--only", type=lambda t: names(MODELS, t), default=frozenset(["resnet50"]),
                        help=f"models, with commas: {','.join(MODELS)} (resnet50)")  # fmt: skip
    parser.add_argument("--clients", type=_numbers, default=(1, 8, 32), help="default 1,8,32")
    parser.add_argument("--seconds", type=float, default=5, help="length of a run (default 5)")
    parser.add_argument("--runs", type=int, default=3, help="runs a point (default 3)")
    parser.add_argument("--config", type=Path, help="the server's file")
    argument_of_cache(parser)
    given = parser.parse_args(arguments)
    kinds = [kind for kind in KINDS if kind in given.devices]
    try:
        require_generators()
        require(kinds, _told(given.config))
        cases = [prepare(work, given.cache) for work in WORKLOADS if work.name in given.only]
        found = [measure(case, kind, given) for case in cases for kind in kinds]
    except NoDevice as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (MissingGenerator, NotStarted, LoadFailed, WrongAnswer) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(found))
    return 1 if any(row.errors for one in found for row in one.rows) else 0


def _told(config: Path | None) -> Mapping[str, Any]:
    """Return what ``serving devices`` finds."""
    command = [sys.executable, "-m", "serving", "devices", "--json"]
    command += [] if config is None else ["--config", str(config)]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    document: Mapping[str, Any] = json.loads(told)
    return document


if __name__ == "__main__":
    sys.exit(main())
