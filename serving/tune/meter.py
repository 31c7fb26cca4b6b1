"""Measures settings: brings one into effect on the own server, sends load, and reads the cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.bench.load import Load
from serving.bench.payload import Payload
from serving.bench.point import Point
from serving.bench.sweep import Plan, Tell, measure
from serving.errors import LoadError, ServingError
from serving.tune.forecast import Observation, RunsOfSize
from serving.tune.goal import Sample
from serving.tune.server import OwnServer, Reading
from serving.tune.setting import Setting

MOST_WARM_UP_S = 0.5
"""Load that does not count, before each measurement: the server learns which batches pay."""


@dataclass(frozen=True)
class Measured:
    """One measurement: what it brought, and what it cost."""

    setting: Setting
    point: Point
    seen: Observation

    @property
    def sample(self) -> Sample:
        """What the search needs of it."""
        point = self.point
        answers = point.answers + point.failures
        failed = point.failures / answers if answers else 1.0
        return Sample(point.rate, point.latency_ms["p99"], failed)


class Meter:
    """Measures one servable with one set of requests; keeps all that it measured under ``load``."""

    def __init__(
        self, server: OwnServer, servable: str, protocol: str, load: Load, tell: Tell
    ) -> None:
        self._server = server
        self._servable = servable
        self._protocol = protocol
        self._tell = tell
        self.load = load
        self.seconds = 1.0
        self.payloads: Sequence[Payload] = ()
        self.measured: list[Measured] = []
        self.problems: dict[Setting, str] = {}

    @property
    def warm_up_s(self) -> float:
        """How long load is sent before it counts."""
        return min(MOST_WARM_UP_S, self.seconds)

    def sample(self, setting: Setting) -> Sample:
        """Measure under the load that is tuned for. A setting that does not run is no sample."""
        try:
            found = self.measure(setting, self.load, self.payloads)
        except ServingError as error:
            if not self.measured:
                raise  # not even the present setting runs: there is nothing to tune
            self.problems[setting] = str(error)
            return Sample(0.0, 0.0, 1.0, str(error))
        self.measured.append(found)
        return found.sample

    def measure(self, setting: Setting, load: Load, payloads: Sequence[Payload]) -> Measured:
        """Measure once. Raises LoadError, or Unavailable when requests are not answered."""
        self._server.use(setting)
        readings: list[Reading] = []

        def statistics() -> Mapping[str, Any]:
            readings.append(self._server.read())
            return readings[-1].statistics

        grpc = self._protocol == "grpc"
        plan = Plan(
            servable=self._servable,
            protocol=self._protocol,
            host="127.0.0.1",
            port=self._server.grpc_port if grpc else self._server.rest_port,
            payloads=payloads,
            loads=[load],
            warm_up_s=self.warm_up_s,
            seconds=self.seconds,
            checked=True,
            statistics=lambda: dict(statistics()),
            tell=self._tell,
        )
        (point,) = measure(plan)
        if len(readings) < 2:
            raise LoadError("the server went away while it was measured", code="not_served")
        size = sum(len(p.body) for p in payloads) / len(payloads)
        cpu_s = point.generator * (self.warm_up_s + self.seconds)
        seen = between(readings[0], readings[1], self._servable, size, cpu_s)
        return Measured(setting, point, seen)


def between(
    before: Reading, after: Reading, servable: str, request_bytes: float, generator_cpu_s: float
) -> Observation:
    """Return what happened between two readings."""
    first, last = _of(before.statistics, servable), _of(after.statistics, servable)
    runs = {}
    for rows, (count, ns) in last[1].items():
        count_before, ns_before = first[1].get(rows, (0, 0))
        if count > count_before:
            runs[rows] = RunsOfSize(count - count_before, (ns - ns_before) / 1e9)
    return Observation(
        requests=last[0] - first[0],
        request_bytes=request_bytes,
        runs=runs,
        front_cpu_s=after.front_cpu_s - before.front_cpu_s,
        worker_cpu_s=after.worker_cpu_s - before.worker_cpu_s,
        generator_cpu_s=generator_cpu_s,
    )


def _of(document: Mapping[str, Any], servable: str) -> tuple[int, dict[int, tuple[int, int]]]:
    """Return the requests that were answered, and (runs, ns) by their rows."""
    requests, runs = 0, {}
    for model in document["model_stats"]:
        if model["name"] == servable:
            requests += int(model["inference_stats"]["success"]["count"])
            for batch in model["batch_stats"]:
                parts = (batch[f"compute_{part}"] for part in ("input", "infer", "output"))
                ns = sum(int(part["ns"]) for part in parts)
                runs[int(batch["batch_size"])] = int(batch["compute_infer"]["count"]), ns
    return requests, runs
