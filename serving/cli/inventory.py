"""The rows of ``serving list``: scan, artifacts and verdicts brought together; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from serving.artifact import Artifact
from serving.config import ServerSettings
from serving.frontends.example_call import one_line
from serving.lifecycle.policy import absent, wanted
from serving.repository.example import Example
from serving.repository.scanner import RepositoryScan, ServableScan, VersionScan
from serving.repository.settings import ServableSettings
from serving.repository.verdict import Verdict, judge
from serving.request import Description


@dataclass(frozen=True)
class Row:
    """One version that is wanted or broken; without a version, a servable that has none.

    ``artifact`` and ``verdict`` are ``None`` for what has no model file; ``reason`` says why.
    ``call`` is a command that calls what runs, on the default port of this machine.
    """

    servable: str
    version: int | None
    file: str = ""
    artifact: Artifact | None = None
    verdict: Verdict | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()
    example: Example | None = None
    call: str = ""

    @property
    def runs(self) -> bool:
        """Whether this version would be loaded."""
        return self.verdict is not None and self.verdict.runs


@dataclass(frozen=True)
class Inventory:
    """All rows, by servable and newest version first, and notes on the model directory."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def wanted_files(scan: RepositoryScan) -> list[tuple[Path, ServableSettings]]:
    """Return the model files that the version policies ask for, to look into, with settings."""
    files: list[tuple[Path, ServableSettings]] = []
    for servable in scan.servables:
        for number in wanted(servable.available, servable.settings.versions):
            path = servable.version(number).path
            if path is not None:
                files.append((path, servable.settings))
    return files


def take(scan: RepositoryScan, artifacts: Mapping[Path, Artifact], model_dir: Path) -> Inventory:
    """Bring a scan and the artifacts of its wanted files together.

    ``model_dir`` is the directory as it was given, for commands that name files in it.
    """
    rows = [row for servable in scan.servables for row in _rows(servable, artifacts)]
    rows = [replace(row, call=_call(row, model_dir)) for row in rows]
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
    declared = servable.triton.declaration if servable.triton else None
    verdict = judge(artifact, servable.settings, declared)
    if verdict.runs:
        artifact = replace(artifact, signature=verdict.signature)
    return Row(
        servable.name,
        version.version,
        version.name,
        artifact,
        verdict,
        verdict.reason,
        (*version.notes, *artifact.notes, *verdict.notes),
        servable.example,
    )


def _call(row: Row, model_dir: Path) -> str:
    if not row.runs or row.artifact is None or row.artifact.signature is None:
        return ""
    assert row.verdict is not None
    details = {} if row.example is None else {"example": row.example.to_json()}
    description = Description(
        row.servable, row.version or 1, row.artifact.signature, row.verdict.batch,
        row.verdict.max_batch_size, row.artifact.backend, details=details,
    )  # fmt: skip
    return one_line(description, f"http://localhost:{ServerSettings.rest_port}", model_dir)


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
        "example": None if row.example is None else row.example.to_json(),
        "call": row.call,
    }
    for key in (
        "format", "backend", "signature", "static_outputs", "digest", "size_bytes", "producer",
        "detail",
    ):  # fmt: skip
        data[key] = None if found is None else found[key]
    return data
