"""Predicts throughput for front ends and workers that this machine has no cores for; pure.

Two costs are fitted to what was measured: a front end's processor time for a request,
``a + b * bytes`` and ``e`` for each run that it takes part in, and the time a worker is at a run,
``c + d * rows``. Throughput is then what the first of these to be exhausted allows (the
operational bounds of a closed queueing network: Denning and Buzen, "The Operational Analysis of
Queueing Network Models", 1978): the front ends, the workers, or the clients, who wait for answers.
It is an upper bound: it knows nothing of memory bandwidth, uneven load, and locks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from serving.tensor import Array

_TOLD_APART_BYTES = 16 << 10
"""So many bytes take a few microseconds, as much as measurements of a request differ by."""


@dataclass(frozen=True)
class RunsOfSize:
    """How many runs of a size there were, and the seconds that workers were at them in all."""

    count: int
    seconds: float


@dataclass(frozen=True)
class Observation:
    """What one measurement cost. ``request_bytes`` is the body that each of its requests had.

    ``runs`` by their rows. Processor seconds of the front end, the workers, and of whatever sent
    the load, which takes from the same cores.
    """

    requests: int
    request_bytes: float
    runs: Mapping[int, RunsOfSize]
    front_cpu_s: float
    worker_cpu_s: float
    generator_cpu_s: float

    @property
    def run_count(self) -> int:
        """Runs of any size."""
        return sum(runs.count for runs in self.runs.values())

    @property
    def rows(self) -> int:
        """Rows of all runs."""
        return sum(rows * runs.count for rows, runs in self.runs.items())


@dataclass(frozen=True)
class FrontCost:
    """Processor seconds of a front end: for a request, for a byte of it, and for a run."""

    request_s: float
    byte_s: float
    run_s: float

    def seconds(self, request_bytes: float, runs: float) -> float:
        """Return what a request takes that has ``runs`` runs, or a part of one, to itself."""
        return self.request_s + self.byte_s * request_bytes + self.run_s * runs


@dataclass(frozen=True)
class WorkerCost:
    """Seconds that a worker is at a run: for the run, and for each row in it."""

    run_s: float
    row_s: float

    def seconds(self, rows: float) -> float:
        """Return how long a run of so many rows takes."""
        return self.run_s + self.row_s * rows


@dataclass(frozen=True)
class Load:
    """The clients of a closed loop, what each of their requests is, and how runs are made of them.

    ``delay_s`` is how long a run that is not full waits for more rows, where settings say so.
    """

    clients: int
    request_bytes: float
    request_rows: int
    max_batch_size: int
    delay_s: float = 0.0


@dataclass(frozen=True)
class Forecast:
    """Requests a second, and what bounds them: front ends, workers, clients or cores."""

    rate: float
    bound: str
    rows_per_run: float


def fit_front(seen: Sequence[Observation]) -> FrontCost:
    """Fit a front end's cost.

    Where sizes differ by little, which takes less time than can be seen, only the smallest are
    fitted, and their bytes count with the request.
    """
    smallest = min(o.request_bytes for o in seen)
    told = max(o.request_bytes for o in seen) - smallest >= _TOLD_APART_BYTES
    seen = [o for o in seen if told or o.request_bytes <= smallest]
    columns: list[list[float]] = [[o.requests for o in seen], [o.run_count for o in seen]]
    if told:
        columns.append([o.requests * o.request_bytes for o in seen])
    found = nonnegative(columns, [o.front_cpu_s for o in seen], [o.requests for o in seen])
    return FrontCost(found[0], found[2] if len(found) > 2 else 0.0, found[1])


def fit_worker(seen: Sequence[Observation]) -> WorkerCost:
    """Fit a worker's cost to the mean time of runs of each size, larger counts counting more."""
    total: dict[int, RunsOfSize] = {}
    for observation in seen:
        for rows, runs in observation.runs.items():
            was = total.get(rows, RunsOfSize(0, 0.0))
            total[rows] = RunsOfSize(was.count + runs.count, was.seconds + runs.seconds)
    counts = [runs.count for runs in total.values()]
    columns = [counts, [rows * runs.count for rows, runs in total.items()]]
    found = nonnegative(columns, [runs.seconds for runs in total.values()], counts)
    return WorkerCost(found[0], found[1])


def nonnegative(
    columns: Sequence[Sequence[float]], target: Sequence[float], weights: Sequence[float]
) -> list[float]:
    """Return the factors, none below 0, whose sum of columns comes closest to the target.

    Each row is a sum over ``weight`` events and counts as so many observations of their mean. A
    cost below 0 has no meaning, so every choice of columns is tried: they are two or three.
    """
    scale = 1 / np.sqrt(np.maximum(np.asarray(weights, float), 1.0))
    matrix = np.asarray(columns, float).T * scale[:, None]
    wanted: Array = np.asarray(target, float) * scale
    best, least = [0.0] * len(columns), float(wanted @ wanted)
    for size in range(1, len(columns) + 1):
        for chosen in combinations(range(len(columns)), size):
            part = matrix[:, chosen]
            found, _, rank, _ = np.linalg.lstsq(part, wanted, rcond=None)
            rest = wanted - part @ found
            error = float(rest @ rest)
            if rank == size and (found >= 0).all() and error < least * (1 - 1e-9):
                least = error
                best = [0.0] * len(columns)
                for place, value in zip(chosen, found, strict=True):
                    best[place] = float(value)
    return best


def forecast(
    front: FrontCost,
    worker: WorkerCost,
    load: Load,
    fronts: int,
    workers: int,
    machine: tuple[int, float] | None = None,
) -> Forecast:
    """Return the throughput with so many front ends and workers.

    Each has the cores that it had when its cost was measured; ``machine``, as (cores, processor
    seconds for a request, all processes together), bounds them by what there is. All clients are
    taken to wait for workers, so that their rows are divided over these.
    """
    here = load.clients * load.request_rows / workers
    rows = max(float(load.request_rows), min(float(load.max_batch_size), here))
    a_run = rows / load.request_rows
    front_s = front.seconds(load.request_bytes, 1 / a_run)
    run_s = worker.seconds(rows)
    wait_s = load.delay_s if rows < load.max_batch_size else 0.0
    bounds = {
        "front ends": _rate(fronts, front_s),
        "workers": _rate(workers * a_run, run_s),
        "clients": _rate(load.clients, front_s + wait_s + run_s),
    }
    if machine is not None:
        bounds["cores"] = _rate(*machine)
    bound = min(bounds, key=lambda name: bounds[name])
    return Forecast(bounds[bound], bound, rows)


def _rate(many: float, seconds: float) -> float:
    return many / seconds if seconds > 0 else float("inf")


def machine_seconds(seen: Observation) -> float:
    """Return the processor seconds of a request, all processes together."""
    return (seen.front_cpu_s + seen.worker_cpu_s + seen.generator_cpu_s) / max(1, seen.requests)
