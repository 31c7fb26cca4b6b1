"""The metrics about Python functions of servables; see ``metrics``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from serving.frontends.rest.exposition import Family, Labels, Sample
from serving.statistics import StageStatistics, VersionStages

_FAMILIES: tuple[
    tuple[str, Literal["counter", "gauge"], str, Callable[[StageStatistics], float]], ...
] = (
    ("serving_stage_runs_total", "counter", "Runs of the function that went well",
     lambda seen: seen.runs),
    ("serving_stage_instances_total", "counter", "Instances that were run",
     lambda seen: seen.instances),
    ("serving_stage_failures_total", "counter", "Instances on which the function failed",
     lambda seen: seen.failures),
    ("serving_stage_runs_failed_total", "counter",
     "Runs without results: the worker was lost, or they could not be carried out",
     lambda seen: seen.failed_runs),
    ("serving_stage_seconds_total", "counter",
     "Time of all runs in the workers, calls of models included",
     lambda seen: seen.busy_ns / 1e9),
    ("serving_stage_waiting", "gauge", "Instances that wait for a worker",
     lambda seen: seen.waiting),
    ("serving_stage_running", "gauge", "Workers that are at it", lambda seen: seen.running),
)  # fmt: skip


def families(versions: Sequence[VersionStages]) -> Iterator[Family]:
    """Iterate over the metrics; pure."""
    for name, kind, meaning, value in _FAMILIES:
        samples = [
            Sample(_of(version, stage), value(stage))
            for version in versions
            for stage in version.stages
        ]
        yield Family(name, kind, meaning, samples)


def _of(version: VersionStages, stage: StageStatistics) -> Labels:
    return (
        ("model", version.servable),
        ("version", str(version.version)),
        ("method", stage.method),
        ("function", stage.function),
    )
