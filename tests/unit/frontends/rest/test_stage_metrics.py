"""What ``/metrics`` tells of Python functions."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from serving.frontends.rest import exposition, stage_metrics
from serving.statistics import StageStatistics, VersionStages

STAGE = StageStatistics(
    method="classify", function="decode", waiting=3, running=2, runs=10, instances=40, failures=4,
    failed_runs=1, busy_ns=2_500_000_000,
)  # fmt: skip


def test_stage_metrics_tell_every_function_of_every_method() -> None:
    told = VersionStages("digits", 2, (STAGE,)), VersionStages("models_only", 1, ())
    text = exposition.text(list(stage_metrics.families(told)))
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    labels = {"model": "digits", "version": "2", "method": "classify", "function": "decode"}
    assert all(sample.labels == labels for sample in samples)
    assert {sample.name: sample.value for sample in samples} == {
        "serving_stage_runs_total": 10,
        "serving_stage_instances_total": 40,
        "serving_stage_failures_total": 4,
        "serving_stage_runs_failed_total": 1,
        "serving_stage_seconds_total": 2.5,
        "serving_stage_waiting": 3,
        "serving_stage_running": 2,
    }
