"""The statistics document of V2 (Triton's statistics extension): one form for JSON and gRPC.

Fields and meaning: Triton's ``docs/protocol/extension_statistics.md``; the gRPC messages have the
same names, so that the document is also what they are built from.
"""

from __future__ import annotations

from typing import Any

from serving.dataplane import DataPlane
from serving.frontends.method import of_model, servable_of
from serving.request import VersionName
from serving.statistics import Runs, VersionStatistics

_TURNED_AWAY = frozenset({"overloaded", "deadline_exceeded"})
_CAUSES = {
    **dict.fromkeys(_TURNED_AWAY, "REJECTED"),
    "cancelled": "CANCELED",
    "execution_failed": "BACKEND",
    "worker_lost": "BACKEND",
}
CAUSES = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
"""Triton's words for why a request failed."""


async def document(
    plane: DataPlane, servable: str | None = None, version: VersionName | None = None
) -> dict[str, Any]:
    """Return the statistics of every version, of one servable's, or of one version.

    Methods, and models behind them, are counted one by one, under "servable:".
    Raises NotFound and Unavailable for what is not known or not READY.
    """
    if servable is not None:
        described = of_model(plane, servable, version)
        version = described.version if isinstance(version, str) else version
    told = await plane.statistics()
    return {
        "model_stats": [
            _model(seen)
            for seen in told.versions
            if servable in (None, seen.servable, servable_of(seen.servable))
            and version in (None, seen.version)
        ]
    }


def failures(seen: VersionStatistics) -> dict[str, int]:
    """Count failed requests by cause.

    As in Triton, one that a full queue or a deadline turned away has failed, and one that did not
    fit the signature was never the model's.
    """
    counts = dict.fromkeys(CAUSES, 0)
    turned_away = [u for u in seen.refusals if u.kind in _TURNED_AWAY]
    for unanswered in (*seen.failures, *turned_away):
        cause = _CAUSES.get(unanswered.code) or _CAUSES.get(unanswered.kind, "OTHER")
        counts[cause] += unanswered.count
    return counts


def _model(seen: VersionStatistics) -> dict[str, Any]:
    answered = seen.successes
    return {
        "name": seen.servable,
        "version": str(seen.version),
        "last_inference": seen.last_run_ms,
        "inference_count": seen.rows,
        "execution_count": seen.executions,
        "inference_stats": {
            "success": _duration(answered, seen.success_ns),
            "fail": _duration(sum(failures(seen).values()), seen.fail_ns),
            "queue": _duration(answered, seen.queue_ns),
            "compute_input": _duration(answered, seen.input_ns),
            "compute_infer": _duration(answered, seen.infer_ns),
            "compute_output": _duration(answered, seen.output_ns),
            "cache_hit": _duration(0, 0),  # there is no response cache
            "cache_miss": _duration(0, 0),
        },
        "batch_stats": [_batch(runs) for runs in seen.runs],
        "memory_usage": [],
        "response_stats": {},  # of models that answer more than once; there are none
    }


def _batch(runs: Runs) -> dict[str, Any]:
    return {
        "batch_size": runs.rows,
        "compute_input": _duration(runs.count, runs.input_ns),
        "compute_infer": _duration(runs.count, runs.infer_ns),
        "compute_output": _duration(runs.count, runs.output_ns),
    }


def _duration(count: int, ns: int) -> dict[str, int]:
    return {"count": count, "ns": ns}
