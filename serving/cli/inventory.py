"""The rows of ``serving list``: scan, artifacts and verdicts brought together; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.artifact import Artifact
from serving.lifecycle.policy import absent, wanted
from serving.repository.scanner import RepositoryScan, ServableScan, VersionScan
from serving.repository.verdict import Verdict, judge


@dataclass(frozen=True)
class Row:
    """One version that is wanted or broken; without a version, a servable that has none.

    ``artifact`` and ``verdict`` are ``None`` for what has no model file; ``reason`` says why.
    """

    servable: str
    version: int | None
    file: str = ""
    artifact: Artifact | None = None
    verdict: Verdict | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()

    @property
    def runs(self) -> bool:
        """Whether this version would be loaded."""
        return self.verdict is not None and self.verdict.runs


@dataclass(frozen=True)
class Inventory:
    """All rows, by servable and newest version first, and notes on the model directory."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def wanted_paths(scan: RepositoryScan) -> list[Path]:
    """Return the model files that the version policies ask for: those to look into."""
    paths: list[Path] = []
    for servable in scan.servables:
        for number in wanted(servable.available, servable.settings.versions):
            path = servable.version(number).path
            if path is not None:
                paths.append(path)
    return paths


def take(scan: RepositoryScan, artifacts: Mapping[Path, Artifact]) -> Inventory:
    """Bring a scan and the artifacts of its wanted files together."""
    rows = [row for servable in scan.servables for row in _rows(servable, artifacts)]
    return Inventory(tuple(rows), scan.notes)


def to_json(inventory: Inventory) -> dict[str, Any]:
    """Return the inventory for programs: ``versions`` (one object a row) and ``notes``."""
    return {
        "versions": [_row_json(row) for row in inventory.rows],
        "notes": list(inventory.notes),
    }


def _rows(servable: ServableScan, artifacts: Mapping[Path, Artifact]) -> list[Row]:
    policy = servable.settings.versions
    chosen = wanted(servable.available, policy)
    notes = list(servable.notes)
    kept_back = sorted(servable.available - set(chosen))
    if kept_back:
        numbers = ", ".join(map(str, kept_back))
        notes.insert(0, f"also there, not wanted by versions = {policy}: {numbers}")
    for number in absent(servable.available, policy):
        notes.append(f"version {number} is asked for by versions = {policy} and not there")
    if servable.reason or not servable.versions:
        reason = servable.reason or "holds no version"
        return [Row(servable.name, None, reason=reason, notes=tuple(notes))]
    rows = [
        _row(servable, version, artifacts)
        for version in reversed(servable.versions)
        if version.version in chosen or version.path is None
    ]
    if not rows:
        reason = f"no version is wanted by versions = {policy}"
        return [Row(servable.name, None, reason=reason, notes=tuple(notes))]
    first = rows[0]
    rows[0] = Row(**{**vars(first), "notes": (*notes, *first.notes)})
    return rows


def _row(servable: ServableScan, version: VersionScan, artifacts: Mapping[Path, Artifact]) -> Row:
    if version.path is None:
        return Row(
            servable.name, version.version, version.name,
            reason=version.reason, notes=version.notes,
        )  # fmt: skip
    artifact = artifacts[version.path]
    verdict = judge(artifact, servable.settings)
    return Row(
        servable.name,
        version.version,
        version.name,
        artifact,
        verdict,
        verdict.reason,
        (*version.notes, *artifact.notes),
    )


def _row_json(row: Row) -> dict[str, Any]:
    found = None if row.artifact is None else row.artifact.to_json()
    data: dict[str, Any] = {
        "servable": row.servable,
        "version": row.version,
        "file": row.file,
        "runs": row.runs,
        "reason": row.reason,
        "notes": list(row.notes),
        "max_batch_size": None if row.verdict is None else row.verdict.max_batch_size,
        "batch": None if row.verdict is None else row.verdict.batch.to_json(),
    }
    for key in (
        "format", "backend", "signature", "static_outputs", "digest", "size_bytes", "producer",
        "detail",
    ):  # fmt: skip
        data[key] = None if found is None else found[key]
    return data
