"""One tuning from its first look at the servable to what came of it; writes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from serving.bench.load import Load
from serving.bench.payload import Payload, payload
from serving.bench.point import notes
from serving.bench.sample import repeated
from serving.bench.target import described
from serving.errors import ServingError, Unavailable
from serving.request import Description
from serving.tensor import Tensor
from serving.tune import probe
from serving.tune.goal import Goal
from serving.tune.machine import Machine
from serving.tune.meter import Measured, Meter
from serving.tune.overlay import Overlay, Subject
from serving.tune.probe import Prediction
from serving.tune.race import Step
from serving.tune.report import About, decision_text
from serving.tune.search import Decision, Search
from serving.tune.server import OwnServer
from serving.tune.setting import DEFAULT, Setting, space, summary
from serving.tune.tuner import Outcome, Tuner

_FIRST_S = 1.0
_ANSWERS = 1000
"""A measurement should have so many answers that ten of them lie above its 99th percentile."""

_MEASUREMENTS = 120
"""About how many of them must fit into the time."""

_CROWD = 64
_WIDE = 8
_DIFFERENT = 4


@dataclass(frozen=True)
class Wish:
    """What is asked for. ``duration_s`` None: as long as measurements need to mean something."""

    load: Load
    protocol: str
    target_ms: float | None
    workers: tuple[int, ...]
    frontends: tuple[int, ...]
    max_time_s: float
    duration_s: float | None


@dataclass(frozen=True)
class Telling:
    """Who hears how it goes: ``live`` in a line that is written over, ``line`` for good."""

    live: Callable[[str], None]
    line: Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """What came of it; ``prediction`` is None where it could not be made, for ``reason``."""

    about: About
    start: Setting
    outcome: Outcome
    measured: Sequence[Measured]
    decisions: Sequence[Decision]
    problems: dict[Setting, str]
    prediction: Prediction | None
    reason: str


Requests = Callable[[Description], tuple[list[list[Tensor]], str]]


class Session:
    """Holds what one tuning is about. ``requests`` makes the inputs of a described servable."""

    def __init__(
        self,
        subject: Subject,
        wish: Wish,
        machine: Machine,
        requests: Requests,
        telling: Telling,
        scratch: Path,
    ) -> None:
        self._subject = subject
        self._wish = wish
        self._machine = machine
        self._requests = requests
        self._telling = telling
        self._scratch = scratch
        self._began = time.monotonic()
        self._doing = "starting a server"
        self._count = 0
        self._start = Setting(
            subject.settings.max_batch_size,
            subject.settings.max_queue_delay_ms,
            subject.settings.threads,
            wish.workers[0],
            wish.frontends[0],
        )

    def run(self) -> Result:
        """Tune. Raises a ServingError where not even the present settings can be measured."""
        subject, wish = self._subject, self._wish
        self._tell("copying the model")
        overlay = Overlay(subject, self._scratch)
        overlay.fill()
        with OwnServer(overlay, subject.name, self._start, self._scratch) as server:
            self._tell("starting a server of its own")
            known = self._described(server)
            tensors, source = self._requests(known)
            meter = Meter(server, subject.name, wish.protocol, wish.load, self._tell)
            meter.payloads = [payload(wish.protocol, known, each) for each in tensors]
            self._settle_duration(meter)
            about = About(
                subject.name, subject.version, wish.protocol, source, wish.load, wish.target_ms
            )
            goal = Goal(wish.target_ms, fixed_rate=bool(wish.load.rate))
            search = self._search(known, goal, meter)
            outcome = self._tuned(search, goal, meter)
            prediction, reason = self._predicted(meter, outcome, self._wide(known, tensors))
        return Result(
            about, self._start, outcome, meter.measured, search.decisions, meter.problems,
            prediction, reason,
        )  # fmt: skip

    # -- inside --------------------------------------------------------------------------------

    def _described(self, server: OwnServer) -> Description:
        # A servable that runs rows one by one does not say which axis counts them.
        rows = max(DEFAULT.max_batch_size, self._start.max_batch_size)
        server.use(self._start.having("max_batch_size", rows))
        base = f"/v2/models/{quote(self._subject.name, safe='')}"
        return described(self._subject.name, server.get(base), {})

    def _search(self, known: Description, goal: Goal, meter: Meter) -> Search:
        load, cores = self._wish.load, self._machine.cores
        rows = max(p.rows for p in meter.payloads)
        under_way = (load.clients if not load.rate else _CROWD) * rows
        values = space(
            self._wish.workers, self._wish.frontends, cores, known.batch.batched, under_way,
            self._wish.target_ms,
        )  # fmt: skip
        return Search(values, self._start, goal, cores)

    def _settle_duration(self, meter: Meter) -> None:
        """Measure once, for how long measurements must be, and to see that all is well."""
        self._doing = "a first try"
        meter.seconds = self._wish.duration_s or _FIRST_S
        first = meter.measure(self._start, meter.load, meter.payloads)
        if not first.point.answers:
            raise Unavailable(
                f"no request was answered rightly within {meter.seconds:g} s: "
                f"{'; '.join(notes([first.point])) or 'the model takes longer'}",
                code="refused",
                fix="a larger --duration-s, or a smaller --concurrency or --rate",
            )
        if not first.sample.sound:
            raise Unavailable(
                "some answers are errors, or change from one call to the next: "
                + "; ".join(notes([first.point])),
                code="refused",
                fix="see `serving bench`, which measures a running server",
            )
        if self._wish.duration_s is None:
            longest_s = max(_FIRST_S, self._wish.max_time_s / _MEASUREMENTS)
            meter.seconds = min(max(_FIRST_S, _ANSWERS / first.point.rate), longest_s)

    def _tuned(self, search: Search, goal: Goal, meter: Meter) -> Outcome:
        told = 0

        def tell(step: Step) -> None:
            nonlocal told
            for decision in search.decisions[told:]:
                self._telling.line(decision_text(decision))
            told = len(search.decisions)
            self._count += 1
            self._doing = f"{step.why} ({summary(step.setting)})"
            self._tell("")

        tuner = Tuner(search, goal, meter.sample, tell, time.monotonic)
        later = probe.count(self._wish.workers)
        outcome = tuner.run(self._began + self._wish.max_time_s, later)
        for decision in search.decisions[told:]:
            self._telling.line(decision_text(decision))
        return outcome

    def _wide(self, known: Description, tensors: list[list[Tensor]]) -> list[Payload]:
        if not known.batch.batched:
            return []
        return [
            payload(self._wish.protocol, known, repeated(known, each, _WIDE))
            for each in tensors[:_DIFFERENT]
        ]

    def _predicted(
        self, meter: Meter, outcome: Outcome, wide: Sequence[Payload]
    ) -> tuple[Prediction | None, str]:
        self._doing = "measuring what the forecast needs"
        clients = _CROWD if meter.load.rate else meter.load.clients
        try:
            return probe.predict(
                meter, outcome.setting, self._wish.workers, clients, wide, self._machine.cores
            ), ""
        except ServingError as error:
            return None, str(error)

    def _tell(self, text: str) -> None:
        spent_s = time.monotonic() - self._began
        head = f"{spent_s:.0f} of at most {self._wish.max_time_s:.0f} s, {self._count} measured"
        self._telling.live(f"{head}; {self._doing}{'; ' if text else ''}{text}")
