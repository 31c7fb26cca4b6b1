"""The rows of ``serving list``: scan, artifacts and verdicts brought together; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from serving.artifact import Artifact
from serving.config import ServerSettings
from serving.definition import DeclaredModel, Definition
from serving.errors import LoadError, did_you_mean, listing
from serving.frontends.example_call import one_line
from serving.lifecycle.policy import absent, wanted
from serving.repository.definition_fit import misfit
from serving.repository.example import Example
from serving.repository.labels import problems
from serving.repository.scanner import RepositoryScan, ServableScan, VersionScan
from serving.repository.settings import ServableSettings
from serving.repository.verdict import Verdict, judge
from serving.request import Description

Defined = Definition | LoadError
"""What a ``servable_config.py`` registers, or why that cannot be said."""


@dataclass(frozen=True)
class Model:
    """One model file of a version with a ``servable_config.py``."""

    file: str
    artifact: Artifact
    verdict: Verdict


@dataclass(frozen=True)
class Row:
    """One version that is wanted or broken; without a version, a servable that has none.

    ``artifact`` and ``verdict`` are ``None`` for what has no model file; ``reason`` says why.
    Where a ``servable_config.py`` could be read, ``definition`` is what it registers and ``models``
    are those it declares.
    ``call`` is a command that calls what runs, on the default port of this machine; ``labels`` are
    what settings call this version.
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
    labels: tuple[str, ...] = ()
    definition: Definition | None = None
    models: tuple[Model, ...] = ()

    @property
    def runs(self) -> bool:
        """Whether this version would be loaded."""
        if self.definition is not None:
            return not self.reason
        return self.verdict is not None and self.verdict.runs


@dataclass(frozen=True)
class Inventory:
    """All rows, by servable and newest version first, and notes on the model directory."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def wanted_versions(scan: RepositoryScan) -> Iterator[tuple[ServableScan, Path]]:
    """Iterate over what the version policies ask for: a model file, or a folder of models."""
    for servable in scan.servables:
        for number in wanted(servable.available, servable.settings.versions):
            path = servable.version(number).path
            if path is not None:
                yield servable, path


def wanted_files(
    scan: RepositoryScan, defined: Mapping[Path, Defined]
) -> list[tuple[Path, ServableSettings, DeclaredModel | None]]:
    """Return the model files to look into, with settings and what is declared of them."""
    files: list[tuple[Path, ServableSettings, DeclaredModel | None]] = []
    for servable, path in wanted_versions(scan):
        if servable.code is None:
            files.append((path, servable.settings, None))
            continue
        definition = defined[path]
        if isinstance(definition, Definition):
            for declared in definition.models:
                files += [(path / file, servable.settings, declared) for file in declared.files]
    return files


def take(
    scan: RepositoryScan,
    artifacts: Mapping[Path, Artifact],
    model_dir: Path,
    defined: Mapping[Path, Defined] = MappingProxyType({}),
    kinds: Sequence[str] = ("cpu",),
    unwarmed: Mapping[str, str] = MappingProxyType({}),
) -> Inventory:
    """Bring a scan, the artifacts of its wanted files and its definitions together.

    ``model_dir`` is the directory as it was given, for commands that name files in it; ``defined``
    has an entry for each version with a ``servable_config.py``, by its folder of models; ``kinds``
    are those of the devices that a server would have; ``unwarmed`` says of servables by name why
    they cannot be warmed as their settings ask for.
    """
    found = _Found(artifacts, defined, kinds, unwarmed)
    rows = [row for servable in scan.servables for row in _rows(servable, found)]
    running: dict[str, list[int]] = {}
    for row in rows:
        if row.runs:
            running.setdefault(row.servable, []).append(row.version or 1)
    rows = [replace(row, call=_call(row, model_dir, running)) for row in rows]
    return Inventory(tuple(rows), scan.notes)


def to_json(inventory: Inventory) -> dict[str, Any]:
    """Return the inventory for programs: ``versions`` (one object a row) and ``notes``."""
    return {
        "versions": [_row_json(row) for row in inventory.rows],
        "notes": list(inventory.notes),
    }


@dataclass(frozen=True)
class _Found:
    """What was found out about the model files and the definitions; and for which devices."""

    artifacts: Mapping[Path, Artifact]
    defined: Mapping[Path, Defined]
    kinds: Sequence[str]
    unwarmed: Mapping[str, str]


def _rows(servable: ServableScan, found: _Found) -> list[Row]:
    policy = servable.settings.versions
    chosen = wanted(servable.available, policy)
    notes = list(servable.notes)
    kept_back = sorted(servable.available - set(chosen))
    if kept_back:
        numbers = ", ".join(map(str, kept_back))
        notes.insert(0, f"also there, not wanted by versions = {policy}: {numbers}")
    for number in absent(servable.available, policy):
        notes.append(f"version {number} is asked for by versions = {policy} and not there")
    labels = servable.settings.labels
    notes += [] if servable.reason else problems(labels, set(chosen), servable.available, policy)
    if servable.reason or not servable.versions:
        reason = servable.reason or "its folder holds no version"
        return [Row(servable.name, None, reason=reason, notes=tuple(notes))]
    rows = [
        _row(servable, version, found)
        for version in reversed(servable.versions)
        if version.version in chosen or version.path is None
    ]
    if not rows:
        reason = f"no version is wanted by versions = {policy}"
        return [Row(servable.name, None, reason=reason, notes=tuple(notes))]
    first = rows[0]
    rows[0] = Row(**{**vars(first), "notes": (*notes, *first.notes)})
    return rows


def _row(servable: ServableScan, version: VersionScan, found: _Found) -> Row:
    if version.path is None:
        return Row(
            servable.name, version.version, version.name,
            reason=version.reason, notes=version.notes,
        )  # fmt: skip
    labels = tuple(n for n, v in servable.settings.labels.items() if v == version.version)
    if servable.code is not None:
        row = _staged(servable, version, version.path, found)
        return replace(row, labels=labels)
    artifact = found.artifacts[version.path]
    declared = servable.triton.declaration if servable.triton else None
    verdict = judge(artifact, servable.settings, declared, found.kinds)
    if verdict.runs and (problem := _not_warm(servable, verdict, found)):
        verdict = replace(verdict, runs=False, reason=problem)
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
        labels=labels,
    )


def _not_warm(servable: ServableScan, verdict: Verdict, found: _Found) -> str:
    """Return why a version that would run cannot be warmed, as far as that shows without a run."""
    if problem := found.unwarmed.get(servable.name):
        return problem
    known = [] if verdict.signature is None else [spec.name for spec in verdict.signature.inputs]
    for sample in servable.settings.warmup if known and not servable.triton else ():
        unknown = sorted(set(sample.inputs).difference(known))
        if unknown and sample.required:
            hint = did_you_mean(unknown[0], known)
            return (
                f"warm-up sample {sample.name!r} names input {unknown[0]!r}, which the model does "
                f"not have; expected {listing(known)}" + (f" ({hint})" if hint else "")
            )
    return ""


def _staged(servable: ServableScan, version: VersionScan, home: Path, found: _Found) -> Row:
    """Return the row of a version that a ``servable_config.py`` makes."""
    defined = found.defined[home]
    row = Row(
        servable.name, version.version, version.name, notes=version.notes, example=servable.example
    )
    if isinstance(defined, LoadError):
        return replace(row, reason=str(defined))
    models = []
    signatures = {}
    for declared in defined.models:
        for subgraph, file in enumerate(declared.files):
            artifact = found.artifacts[home / file]
            verdict = judge(artifact, servable.settings, declared, found.kinds)
            if verdict.runs:
                artifact = replace(artifact, signature=verdict.signature)
            if artifact.signature is not None:
                signatures[declared.key, subgraph] = artifact.signature
            models.append(Model(file, artifact, verdict))
    reasons = [f"{m.file}: {m.verdict.reason}" for m in models if not m.verdict.runs]
    reasons += filter(None, [misfit(defined, signatures, servable.settings.methods.hidden)])
    notes = [f"{m.file}: {note}" for m in models for note in (*m.artifact.notes, *m.verdict.notes)]
    return replace(
        row,
        reason="; ".join(reasons),
        notes=(*row.notes, *notes),
        definition=defined,
        models=tuple(models),
    )


def _call(row: Row, model_dir: Path, running: Mapping[str, Sequence[int]]) -> str:
    if row.runs and row.definition is not None:
        return f"curl http://localhost:{ServerSettings.rest_port}/v2/models/{quote(row.servable)}"
    if not row.runs or row.artifact is None or row.artifact.signature is None:
        return ""
    assert row.verdict is not None
    details = {} if row.example is None else {"example": row.example.to_json()}
    description = Description(
        row.servable, row.version or 1, row.artifact.signature, row.verdict.batch,
        row.verdict.max_batch_size, row.artifact.backend, details=details,
        versions=tuple(running[row.servable]),
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
        "labels": list(row.labels),
        "devices": {} if row.verdict is None else row.verdict.backends,
        "example": None if row.example is None else row.example.to_json(),
        "call": row.call,
    }
    for key in (
        "format", "backend", "signature", "static_outputs", "digest", "size_bytes", "producer",
        "detail",
    ):  # fmt: skip
        data[key] = None if found is None else found[key]
    if row.definition is not None:
        data |= _definition_json(row, row.definition)
    return data


def _definition_json(row: Row, definition: Definition) -> dict[str, Any]:
    return {
        "methods": [
            {"name": m.name, "inputs": list(m.inputs), "outputs": list(m.outputs)}
            for m in definition.methods
        ],
        "functions": [function.name for function in definition.stages],
        "models": [
            {
                "file": model.file,
                "runs": model.verdict.runs,
                "reason": model.verdict.reason,
                "max_batch_size": model.verdict.max_batch_size,
                **model.artifact.to_json(),
                "batch": model.verdict.batch.to_json(),
            }
            for model in row.models
        ],
    }
