"""How versions are told of in the index, in the log and on the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from serving.lifecycle.state import State
from serving.lifecycle.version import Version
from serving.statistics import VersionStatistics


def row_of(
    version: Version, labels: list[str], workers_with: Callable[[int], list[str]]
) -> dict[str, Any]:
    """Return what is told of a version: state, reason, what it consists of, and where it is.

    ``workers_with`` tells which workers have a model loaded.
    """
    batches = [member.batch for member in version.members]
    row: dict[str, Any] = {
        "name": version.servable,
        "version": version.number,
        "state": version.state.value,
        "reason": version.said,
        "labels": labels,
        "batched": any(batch.batched for batch in batches),
        "batching": "; ".join(m.named(m.batch.reason) for m in version.members),
    }
    if version.state is State.READY:
        row["devices"] = [
            {**asdict(placed), "model": m.file} for m in version.members for placed in m.placed
        ]
        held = [worker for m in version.members for worker in workers_with(m.model)]
        row["workers"] = list(dict.fromkeys(held))
    definition = version.definition
    if definition is not None:
        row["methods"] = [method.name for method in definition.methods]
        row["functions"] = [function.name for function in definition.stages]
        row["models"] = [
            {"file": m.file, "batched": m.batch.batched, "batching": m.batch.reason}
            for m in version.members
        ]
    return row


def tally_of(seen: VersionStatistics) -> str:
    """Say how much a version, or a method or model of one, has done."""
    told = (
        f"{seen.servable} version {seen.version}: "
        f"{seen.successes + seen.failed} requests, {seen.failed} failed"
    )
    if not seen.executions:
        return told  # of a method: runs are its models'
    return (
        f"{told}, {seen.executions} runs of {seen.mean_rows:.1f} rows and "
        f"{seen.mean_infer_ms:.2f} ms on average"
    )
