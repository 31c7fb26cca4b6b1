"""What a tuning found, as texts: for the terminal, for ``servable.toml``, and as JSON; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from serving.bench.load import Load
from serving.bench.point import Point, milliseconds
from serving.tune.meter import Measured
from serving.tune.probe import FRONTS, WORKERS, Prediction
from serving.tune.race import Standing
from serving.tune.search import Decision
from serving.tune.setting import SERVABLE_KEYS, SERVER_KEYS, Setting, Value, text
from serving.tune.tuner import Outcome


@dataclass(frozen=True)
class About:
    """What was tuned, for what: ``load`` over ``protocol``, with inputs from ``source``."""

    servable: str
    version: int
    protocol: str
    source: str
    load: Load
    target_ms: float | None

    @property
    def load_text(self) -> str:
        """The load in words."""
        if self.load.rate:
            return f"{self.load.rate:g} requests/s as they come (open loop)"
        clients = "1 client" if self.load.clients == 1 else f"{self.load.clients} clients"
        return f"{clients} (closed loop)"

    @property
    def goal_text(self) -> str:
        """What is wanted, in words."""
        wanted = "shortest p99" if self.load.rate else "most requests/s"
        target = "" if self.target_ms is None else f" with a p99 of at most {self.target_ms:g} ms"
        return wanted + target


@dataclass(frozen=True)
class Typical:
    """The medians of what one setting was measured at."""

    setting: Setting
    rate: float
    p50_ms: float
    p99_ms: float
    rows_per_run: float
    times: int


def typical(measured: Sequence[Measured], setting: Setting, last: int = 0) -> Typical:
    """Return the medians over the measurements of a setting, of which there is one at least.

    Over the ``last`` so many of them, 0 for all.
    """
    points = [m.point for m in measured if m.setting == setting][-last:]
    return Typical(
        setting,
        median(p.rate for p in points),
        median(p.latency_ms["p50"] for p in points),
        median(p.latency_ms["p99"] for p in points),
        median(p.mean_batch for p in points),
        len(points),
    )


def each(measured: Sequence[Measured]) -> list[tuple[Setting, Point]]:
    """Return every setting once, best rate first, with the point of its median rate."""
    by_setting: dict[Setting, list[Point]] = {}
    for found in measured:
        by_setting.setdefault(found.setting, []).append(found.point)
    middle = [
        (setting, sorted(points, key=lambda p: p.rate)[len(points) // 2])
        for setting, points in by_setting.items()
    ]
    return sorted(middle, key=lambda pair: -pair[1].rate)


def comparison(before: Typical, after: Typical | None) -> list[list[str]]:
    """Return the table of before and after; without ``after`` nothing better was found."""
    head = ["", "WORKERS", "FRONT ENDS", "BATCH", "DELAY MS", "THREADS"]
    head += ["REQ/S", "P50 MS", "P99 MS", "ROWS/RUN", "MEASURED"]
    lines = [head, _typical_row("before" if after else "now", before)]
    if after is not None:
        lines.append(_typical_row("after", after))
    return lines


def _typical_row(name: str, found: Typical) -> list[str]:
    setting = found.setting
    return [
        name, str(setting.workers), str(setting.frontends), str(setting.max_batch_size),
        _auto(setting.max_queue_delay_ms), _auto(setting.threads),
        figure(found.rate), milliseconds(found.p50_ms), milliseconds(found.p99_ms),
        f"{found.rows_per_run:.1f}" if found.rows_per_run else "",
        "once" if found.times == 1 else f"{found.times} times",
    ]  # fmt: skip


def figure(value: float) -> str:
    """Return a rate for people."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _auto(value: Value) -> str:
    return "auto" if value is None else f"{value:g}"


RULE = (
    "gains are medians of rounds in turns; a change needs 5 % (10 % in p99) and more than the noise"
)


def decision_text(found: Decision) -> str:
    """Return what was decided about a coordinate, and what it rests on, in one line."""
    old, new = _auto(found.old), _auto(found.new)
    label = text(found.name, found.old).replace(" = ", " ").rpartition(" ")[0]
    told = {value: _standing(value, s) for value, s in found.standings.items()}
    if found.needless:
        return f"{label}: back to {old}, as the result does as well with it ({told[found.new]})"
    if not found.taken:
        return f"{label}: {old} stays ({', '.join(told.values())}; noise {found.noise:.0%})"
    won = found.standings[found.new]
    rest = ", ".join(each for value, each in told.items() if value != found.new)
    beside = f" (others: {rest})" if rest else ""
    how = _gain(won)
    return f"{label}: {old} -> {new}, {how}, better in {won.good} of {won.rounds} rounds{beside}"


def _standing(value: Value, found: Standing) -> str:
    if not found.runs:
        return f"{_auto(value)} does not run"
    return f"{_auto(value)} {_gain(found)}"


def _gain(found: Standing) -> str:
    if found.latency:
        missed = "" if found.meets else ", target missed"
        return f"p99 {math.expm1(-found.gain):+.0%}{missed}"
    return f"{math.expm1(found.gain):+.0%}"


def last_text(last: Standing) -> str:
    """Return how the last comparison of before and after ended."""
    times = "1 round" if last.rounds == 1 else f"{last.rounds} rounds"
    return f"{_gain(last)} (median of {times} in turns, better in {last.good})"


def comments(about: About, machine: str, when: str, before: Typical, after: Typical) -> list[str]:
    """Return what ``servable.toml`` tells of where its values come from."""
    changes = after.setting.changes(before.setting)
    set_to = ", ".join(text(key, changes[key]) for key in SERVABLE_KEYS if key in changes)
    return [
        set_to,
        f"measured {when} on {machine}",
        f"with {about.load_text} over {about.protocol}, inputs: {_one_line(about.source)}, "
        + " ".join(text(name, after.setting.value(name)) for name in SERVER_KEYS),
        f"for {about.goal_text}",
        f"{figure(before.rate)} -> {figure(after.rate)} requests/s, "
        f"p99 {milliseconds(before.p99_ms)} -> {milliseconds(after.p99_ms)} ms",
    ]


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def prediction_lines(found: Prediction) -> tuple[list[str], list[list[str]], list[str]]:
    """Return the costs, the table of predicted rates, and how the prediction held here."""
    front, worker = found.front, found.worker
    by_byte = f" + {front.byte_s * 1e9:.3g} ns a byte" if front.byte_s else ""
    costs = [
        f"a request takes {front.request_s * 1e6:.3g} us of the front end{by_byte}, "
        f"and a run {front.run_s * 1e6:.3g} us; "
        f"a worker is at a run for {worker.run_s * 1e3:.3g} ms + {worker.row_s * 1e3:.3g} ms a row"
    ]
    head = ["FRONT ENDS", *(f"{m} WORKER{'S' if m > 1 else ''}" for m in WORKERS)]
    table = [head]
    for n in FRONTS:
        cells = [found.rates[n, m] for m in WORKERS]
        table.append([str(n), *(f"{figure(c.rate)} ({c.bound})" for c in cells)])
    checks = [
        f"{c.workers} worker{'s' if c.workers > 1 else ''}: predicted {figure(c.predicted.rate)} "
        f"(limit: {c.predicted.bound}), measured {figure(c.measured)}, off by {c.error:+.0%}"
        for c in found.checks
    ]
    return costs, table, checks


def document(
    about: About,
    machine: Mapping[str, Any],
    outcome: Outcome,
    start: Setting,
    measured: Sequence[Measured],
    decisions: Sequence[Decision],
    found: Prediction | None,
) -> dict[str, Any]:
    """Return all of it for --json; measurements in their order."""
    return {
        "servable": about.servable,
        "version": about.version,
        "protocol": about.protocol,
        "inputs": about.source,
        "load": asdict(about.load),
        "target_p99_ms": about.target_ms,
        "machine": dict(machine),
        "before": asdict(start),
        "after": asdict(outcome.setting),
        "better": outcome.better,
        "target_met": outcome.met,
        "complete": outcome.complete,
        "last": None if outcome.last is None else asdict(outcome.last),
        "noise": outcome.noise,
        "measurements": [
            {"setting": asdict(m.setting), "point": asdict(m.point), "cost": asdict(m.seen)}
            for m in measured
        ],
        "decisions": [_decision(d) for d in decisions],
        "prediction": None if found is None else _prediction(found),
    }


def _decision(found: Decision) -> dict[str, Any]:
    standings = [{"value": value, **asdict(s)} for value, s in found.standings.items()]
    return {**asdict(found), "standings": standings, "text": decision_text(found)}


def _prediction(found: Prediction) -> dict[str, Any]:
    return {
        "front_cost_s": asdict(found.front),
        "worker_cost_s": asdict(found.worker),
        "load": asdict(found.load),
        "rates": [
            {"front_ends": n, "workers": m, **asdict(rate)} for (n, m), rate in found.rates.items()
        ],
        "checks": [{**asdict(c), "error": c.error} for c in found.checks],
    }


def short(setting: Setting, start: Setting) -> str:
    """Return what a mark of the plot is called: what differs from the start."""
    changed = setting.changes(start)
    names = {"max_batch_size": "batch", "max_queue_delay_ms": "delay"}
    told = ", ".join(f"{names.get(name, name)} {_auto(value)}" for name, value in changed.items())
    return told or "as it is"
