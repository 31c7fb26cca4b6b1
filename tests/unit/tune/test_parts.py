"""Parts of a tuning that need no server: readings, environment, time, texts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest

from serving.bench.load import Load
from serving.bench.payload import Payload
from serving.bench.point import Point
from serving.errors import LoadError, ServingError
from serving.tune import report
from serving.tune.forecast import Observation, RunsOfSize
from serving.tune.goal import Goal, Sample
from serving.tune.machine import processor_of
from serving.tune.meter import Measured, Meter, between
from serving.tune.race import Standing
from serving.tune.report import About
from serving.tune.search import BASELINES, Decision, Search
from serving.tune.server import Reading, environment, total
from serving.tune.setting import Setting, space
from serving.tune.tuner import Outcome, Tuner
from tests.unit.tune.machines import Machine, batches, flat

STANDING = Standing(0.6931, 3, 3, False, True, True)
METRICS = """\
# HELP serving_worker_cpu_seconds_total Processor time
# TYPE serving_worker_cpu_seconds_total counter
serving_worker_cpu_seconds_total{worker="cpu-0"} 1.5
serving_worker_cpu_seconds_total{worker="cpu-1"} 2.25
process_cpu_seconds_total 7
process_cpu_seconds_total_of_another 100
"""
SPACE = space((1, 2), (1,), 2, True, 64, None)


def test_metrics_of_a_family_are_added_up():
    assert total(METRICS, "serving_worker_cpu_seconds_total") == 3.75
    assert total(METRICS, "process_cpu_seconds_total") == 7
    assert total(METRICS, "nothing") == 0


def test_environment_keeps_limits_and_drops_what_makes_another_server():
    given = {
        "PATH": "/bin", "SERVING_MEMORY_MB": "512", "SERVING_CACHE_DIR": "/c",
        "SERVING_WORKERS": "7", "SERVING_TLS_CERT": "x", "SERVING_ADMIN_TOKEN_FILE": "t",
        "SERVING_KEY": "the model's own",
    }  # fmt: skip
    assert set(environment(given)) == {
        "PATH", "SERVING_MEMORY_MB", "SERVING_CACHE_DIR", "SERVING_KEY",
    }  # fmt: skip


def statistics(requests: int, runs: dict[int, tuple[int, int]]) -> dict[str, object]:
    def part(count: int, ns: int) -> dict[str, int]:
        return {"count": count, "ns": ns}

    batch_stats = [
        {"batch_size": rows, "compute_input": part(n, ns), "compute_infer": part(n, 2 * ns),
         "compute_output": part(n, ns)}
        for rows, (n, ns) in runs.items()
    ]  # fmt: skip
    model = {"name": "m", "inference_stats": {"success": part(requests, 1)}}
    other = {"name": "x", "inference_stats": {"success": part(9, 9)}, "batch_stats": []}
    return {"model_stats": [other, {**model, "batch_stats": batch_stats}]}


def test_observation_is_what_happened_between_two_readings():
    before = Reading(statistics(100, {1: (10, 1000), 4: (5, 500)}), 1.0, 2.0)
    after = Reading(statistics(300, {1: (10, 1000), 4: (25, 4500), 8: (2, 100)}), 1.5, 4.0)
    assert between(before, after, "m", 77.0, 0.25) == Observation(
        requests=200,
        request_bytes=77.0,
        runs={4: RunsOfSize(20, pytest.approx(16e-6)), 8: RunsOfSize(2, pytest.approx(0.4e-6))},
        front_cpu_s=0.5,
        worker_cpu_s=2.0,
        generator_cpu_s=0.25,
    )


class Faulty(Meter):
    """Measures nothing: answers what it is told, or raises it."""

    def __init__(self, *outcomes: Measured | ServingError) -> None:
        super().__init__(None, "m", "predict", Load(clients=1), lambda text: None)  # type: ignore[arg-type]
        self.outcomes = list(outcomes)

    def measure(self, setting: Setting, load: Load, payloads: Sequence[Payload]) -> Measured:
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, ServingError):
            raise outcome
        return outcome


def test_a_setting_that_does_not_run_is_no_sample_and_is_named():
    (fine,) = measured(Setting(), 100)
    meter = Faulty(fine, LoadError("no memory"))
    assert meter.sample(Setting()) == Sample(100, 40)
    broken = meter.sample(Setting(64))
    assert not broken.sound
    assert meter.problems == {Setting(64): "no memory"}
    assert meter.measured == [fine]


def test_a_present_setting_that_does_not_run_ends_it():
    with pytest.raises(LoadError, match="no memory"):
        Faulty(LoadError("no memory")).sample(Setting())


def test_warm_up_is_no_longer_than_what_counts():
    meter = Faulty()
    meter.seconds = 0.2
    assert meter.warm_up_s == 0.2
    meter.seconds = 5.0
    assert meter.warm_up_s == 0.5


@dataclass
class Clock:
    """Time that passes by measuring: ``each_s`` every time."""

    measure: Callable[[Setting], Sample]
    each_s: float = 2.0
    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    def take(self, setting: Setting) -> Sample:
        self.now += self.each_s
        return self.measure(setting)


def tuned(
    truth, start: Setting, ends: float, target_ms: float | None = None
) -> tuple[Outcome, Clock]:
    goal = Goal(target_ms)
    search = Search(SPACE, start, goal, 2)
    clock = Clock(Machine(truth, 0.0, 0.0).measure)
    tuner = Tuner(search, goal, clock.take, lambda step: None, clock)
    return tuner.run(ends, later=4), clock


def test_tuner_ends_with_a_better_setting_and_says_by_how_much():
    outcome, _ = tuned(batches, Setting(1), 1000.0)
    assert outcome.better
    assert outcome.complete
    assert outcome.met
    assert outcome.setting == Setting()
    assert outcome.last is not None
    assert outcome.last.gain > 1
    assert outcome.last.good == outcome.last.rounds == 3


def test_tuner_keeps_to_its_time_and_says_that_it_was_short():
    outcome, clock = tuned(batches, Setting(1), 80.0)
    assert not outcome.complete
    assert clock.now + 4 * clock.each_s <= 80.0


def test_tuner_that_is_cut_short_races_with_what_led():
    def truth(setting: Setting) -> tuple[float, float]:
        return (20.0, 100.0) if setting.max_queue_delay_ms == 100.0 else (1000.0, 2.0)

    outcome, clock = tuned(truth, Setting(32, 100.0), 60.0)
    assert not outcome.complete
    assert outcome.better
    assert outcome.setting.max_queue_delay_ms != 100.0
    assert clock.now + 4 * clock.each_s <= 60.0


def test_tuner_without_time_measures_what_is_there():
    outcome, clock = tuned(flat, Setting(), 0.0)
    assert not outcome.better
    assert not outcome.complete
    assert clock.now == BASELINES * clock.each_s
    assert outcome.met


def test_tuner_leaves_a_good_setting_as_it_is():
    outcome, _ = tuned(flat, Setting(16), 1000.0)
    assert (outcome.setting, outcome.better, outcome.last) == (Setting(16), False, None)


def test_tuner_tells_that_the_target_is_out_of_reach():
    outcome, _ = tuned(batches, Setting(), 1000.0, target_ms=0.1)
    assert not outcome.met


def test_tuner_finds_what_keeps_the_target_where_the_fastest_does_not():
    def truth(setting: Setting) -> tuple[float, float]:
        rows = setting.max_batch_size
        return 100.0 * rows**0.5, 2.0 * rows

    outcome, _ = tuned(truth, Setting(64), 2000.0, target_ms=20.0)
    assert outcome.met
    assert outcome.setting.max_batch_size == 8


def measured(setting: Setting, *rates: float) -> list[Measured]:
    seen = Observation(1, 1.0, {}, 0.0, 0.0, 0.0)
    return [
        Measured(
            setting,
            Point(Load(clients=4), 1.0, rate, rate, 1.0,
                  {"p50": 1.0, "p90": 2.0, "p99": 4e3 / rate, "p99.9": 5.0}, int(rate), 0, 0),
            seen,
        )
        for rate in rates
    ]  # fmt: skip


ABOUT = About("net", 3, "predict", "my\nfile.json", Load(clients=4), 20.0)


def test_table_shows_medians_before_and_after():
    all_of_them = [*measured(Setting(1), 100, 300, 200), *measured(Setting(32, 0.5), 400)]
    before = report.typical(all_of_them, Setting(1))
    after = report.typical(all_of_them, Setting(32, 0.5))
    head, first, second = report.comparison(before, after)
    assert dict(zip(head, first, strict=True))["REQ/S"] == "200"
    assert dict(zip(head, first, strict=True))["MEASURED"] == "3 times"
    latest = report.typical(all_of_them, Setting(1), last=2)
    assert (latest.rate, latest.times) == (250, 2)
    assert second == ["after", "1", "1", "32", "0.5", "auto", "400", "1", "10", "", "once"]
    assert [line[0] for line in report.comparison(before, None)] == ["", "now"]


def test_comments_say_what_when_where_and_for_which_target():
    before = report.typical(measured(Setting(1), 200), Setting(1))
    after = report.typical(measured(Setting(32, None, None, 2), 400), Setting(32, None, None, 2))
    lines = report.comments(ABOUT, "a machine", "today", before, after)
    text = "\n".join(lines)
    assert lines[0] == "max_batch_size = 32"
    assert "measured today on a machine" in text
    assert "p99 of at most 20 ms" in text
    assert "--workers 2 --frontends 1" in text
    assert "200 -> 400 requests/s, p99 20 -> 10 ms" in text
    assert "my?file.json" in text, "a line break would end the comment"
    assert not any("\n" in line for line in lines)


def test_every_setting_is_drawn_once_best_first():
    pairs = report.each([*measured(Setting(1), 100, 300, 200), *measured(Setting(32), 400)])
    assert [(s.max_batch_size, p.rate) for s, p in pairs] == [(32, 400), (1, 200)]
    assert report.short(Setting(32, 0.5), Setting(1)) == "batch 32, delay 0.5"
    assert report.short(Setting(1), Setting(1)) == "as it is"


def test_document_is_json_and_holds_every_measurement():
    won, lost = STANDING, replace(STANDING, gain=-0.6931, good=0)
    outcome = Outcome(Setting(32), True, True, True, won, 0.01)
    decision = Decision("max_batch_size", 1, 32, True, {32: won, 2: lost}, 0.01)
    told = report.document(
        ABOUT, {"cores": 2}, outcome, Setting(1), measured(Setting(1), 1, 2), [decision], None
    )
    again = json.loads(json.dumps(told))
    assert again["after"]["max_batch_size"] == 32
    assert len(again["measurements"]) == 2
    told = again["decisions"][0]
    assert told["text"] == (
        "max_batch_size: 1 -> 32, +100%, better in 3 of 3 rounds (others: 2 -50%)"
    )
    assert [each["value"] for each in told["standings"]] == [32, 2]


def test_decisions_say_what_they_rest_on():
    some, none = replace(STANDING, gain=0.02, good=2), replace(STANDING, gain=-3.0, runs=False)
    stays = Decision("max_queue_delay_ms", None, 0.5, False, {0.5: some, 8.0: none}, 0.03)
    assert report.decision_text(stays) == (
        "max_queue_delay_ms: auto stays (0.5 +2%, 8 does not run; noise 3%)"
    )
    back = Decision("workers", 1, 2, False, {2: some}, 0.03, needless=True)
    assert report.decision_text(back) == (
        "--workers: back to 1, as the result does as well with it (2 +2%)"
    )
    slow = replace(STANDING, gain=0.6931, latency=True, meets=False)
    faster = Decision("threads", None, 1, True, {1: slow}, 0.03)
    assert report.decision_text(faster) == (
        "threads: auto -> 1, p99 -50%, target missed, better in 3 of 3 rounds"
    )


def test_last_comparison_is_told_with_its_rounds():
    assert report.last_text(STANDING) == "+100% (median of 3 rounds in turns, better in 3)"


def test_processor_is_read_from_what_the_kernel_says():
    assert processor_of("processor\t: 0\nmodel name\t: Fast  CPU @ 3 GHz\n") == "Fast CPU @ 3 GHz"
    assert processor_of("")
