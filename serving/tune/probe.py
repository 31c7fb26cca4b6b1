"""Measures what a forecast needs beside the search's own figures, and holds it against them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serving.bench.load import Load as Sent
from serving.bench.payload import Payload
from serving.errors import ServingError
from serving.tune.forecast import (
    Forecast,
    FrontCost,
    Load,
    WorkerCost,
    fit_front,
    fit_worker,
    forecast,
    machine_seconds,
)
from serving.tune.meter import Measured, Meter
from serving.tune.setting import Setting

FRONTS = (1, 2, 4)
WORKERS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Check:
    """What the forecast says of something that was measured, and what was measured."""

    workers: int
    predicted: Forecast
    measured: float

    @property
    def error(self) -> float:
        """How far the prediction is off, as a part of what was measured."""
        return self.predicted.rate / self.measured - 1 if self.measured else 0.0


@dataclass(frozen=True)
class Prediction:
    """Costs that were fitted, the throughputs that follow (by front ends and workers), checks."""

    front: FrontCost
    worker: WorkerCost
    load: Load
    rates: dict[tuple[int, int], Forecast]
    checks: tuple[Check, ...]


def count(workers: Sequence[int]) -> int:
    """Return how many measurements ``predict`` takes."""
    return len(workers) + 2


def predict(
    meter: Meter,
    setting: Setting,
    workers: Sequence[int],
    clients: int,
    wide: Sequence[Payload],
    cores: int,
) -> Prediction:
    """Measure and predict. ``wide`` are requests of many rows, which tell bytes from requests.

    It is done with one front end: what each costs is counted apart. Raises a ServingError when the
    setting, which was measured before, does not run any more.
    """
    setting = setting.having("frontends", 1)
    crowd = Sent(clients=clients)
    others = [count for count in workers if count != setting.workers]
    full: dict[int, Measured] = {}
    for many in (*others, setting.workers):  # its own last: the rest is measured with it
        full[many] = meter.measure(setting.having("workers", many), crowd, meter.payloads)
    extra = [meter.measure(setting, Sent(clients=1), meter.payloads), *full.values()]
    if wide:
        extra += _wide(meter, setting, crowd, wide)
    everything = [m for m in (*meter.measured, *extra) if m.setting.frontends == 1]
    alike = [m.seen for m in everything if _same_worker(m.setting, setting)]
    front, worker = fit_front([m.seen for m in everything]), fit_worker(alike)
    payloads = meter.payloads
    load = Load(
        clients=clients,
        request_bytes=sum(len(p.body) for p in payloads) / len(payloads),
        request_rows=max(1, round(sum(p.rows for p in payloads) / len(payloads))),
        max_batch_size=setting.max_batch_size if wide else 1,
        delay_s=(setting.max_queue_delay_ms or 0.0) / 1e3,
    )
    machine = cores, machine_seconds(full[setting.workers].seen)
    return Prediction(
        front,
        worker,
        load,
        {(n, m): forecast(front, worker, load, n, m) for n in FRONTS for m in WORKERS},
        tuple(
            Check(many, forecast(front, worker, load, 1, many, machine), found.point.rate)
            for many, found in sorted(full.items())
        ),
    )


def _wide(meter: Meter, setting: Setting, crowd: Sent, wide: Sequence[Payload]) -> list[Measured]:
    try:
        return [meter.measure(setting, crowd, wide)]
    except ServingError:
        return []  # a model may refuse many rows at once; bytes then count with the request


def _same_worker(one: Setting, other: Setting) -> bool:
    return (one.workers, one.threads) == (other.workers, other.threads)
