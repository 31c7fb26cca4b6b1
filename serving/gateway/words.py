"""Errors, descriptions, statistics and settings as JSON, for the stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from serving.config import BackendSettings, ServerSettings
from serving.errors import ServingError, kind, of_kind
from serving.request import Description
from serving.statistics import (
    ErrorAnswers,
    ProcessUsage,
    Runs,
    ServerStatistics,
    StageStatistics,
    TensorMemory,
    Unanswered,
    VersionStages,
    VersionStatistics,
    WorkerStatistics,
)
from serving.tensor import BatchAxes, Signature

_PATHS = (
    "model_dir", "tls_cert", "tls_key", "tls_client_ca", "admin_token_file", "client_token_file",
    "ready_file", "cache_dir",
)  # fmt: skip


def error_to_json(error: ServingError) -> dict[str, Any]:
    """Return an error's words."""
    return {
        "kind": kind(error),
        "message": error.message,
        "code": error.code,
        "where": error.where,
        "expected": error.expected,
        "given": error.given,
        "fix": error.fix,
        "retry_after_s": error.retry_after_s,
        "limit": error.limit,
    }


def error_from_json(data: Mapping[str, Any]) -> ServingError:
    """Rebuild an error from its words."""
    told = dict(data)
    return of_kind(told.pop("kind"))(told.pop("message"), **told)


def description_to_json(known: Description) -> dict[str, Any]:
    """Return a description; its details are JSON already."""
    return {
        "servable": known.servable,
        "version": known.version,
        "signature": known.signature.to_json(),
        "batch": known.batch.to_json(),
        "max_batch_size": known.max_batch_size,
        "platform": known.platform,
        "ready": known.ready,
        "versions": list(known.versions),
        "details": dict(known.details),
        "generation": known.generation,
        "method": known.method,
        "methods": list(known.methods),
        "labels": dict(known.labels),
        "class_labels": {name: list(labels) for name, labels in known.class_labels.items()},
    }


def description_from_json(data: Mapping[str, Any]) -> Description:
    """Rebuild a description."""
    told = dict(data)
    told["signature"] = Signature.from_json(told["signature"])
    told["batch"] = BatchAxes.from_json(told["batch"])
    told["versions"] = tuple(told["versions"])
    told["methods"] = tuple(told["methods"])
    told["class_labels"] = {n: tuple(labels) for n, labels in told["class_labels"].items()}
    return Description(**told)


def statistics_to_json(told: ServerStatistics) -> dict[str, Any]:
    """Return what has been counted."""
    return asdict(told)


def statistics_from_json(data: Mapping[str, Any]) -> ServerStatistics:
    """Rebuild what has been counted."""
    return ServerStatistics(
        versions=tuple([_version(seen) for seen in data["versions"]]),
        errors=tuple([ErrorAnswers(**error) for error in data["errors"]]),
        workers=tuple([_worker(worker) for worker in data["workers"]]),
        memory=TensorMemory(**data["memory"]),
        process=ProcessUsage(**data["process"]),
        stages=tuple([_stages(seen) for seen in data["stages"]]),
    )


def settings_to_json(settings: ServerSettings) -> dict[str, Any]:
    """Return the settings of a server."""
    told: dict[str, Any] = asdict(replace(settings, backends={}))
    for name, backend in settings.backends.items():
        told["backends"][name] = {
            "python": backend.python,
            "env": dict(backend.env),
            "module": backend.module,
            "options": dict(backend.options),
        }
    for name in _PATHS:
        told[name] = None if told[name] is None else str(told[name])
    return told


def settings_from_json(data: Mapping[str, Any]) -> ServerSettings:
    """Rebuild the settings of a server."""
    told = dict(data)
    for name in _PATHS:
        told[name] = None if told[name] is None else Path(told[name])
    told["backends"] = {name: BackendSettings(**b) for name, b in told["backends"].items()}
    return ServerSettings(**told)


def _version(data: Mapping[str, Any]) -> VersionStatistics:
    told = dict(data)
    told["latencies"] = tuple(told["latencies"])
    told["runs"] = tuple([Runs(**runs) for runs in told["runs"]])
    told["failures"] = tuple([Unanswered(**one) for one in told["failures"]])
    told["refusals"] = tuple([Unanswered(**one) for one in told["refusals"]])
    return VersionStatistics(**told)


def _worker(data: Mapping[str, Any]) -> WorkerStatistics:
    usage = data["usage"]
    return WorkerStatistics(**{**data, "usage": None if usage is None else ProcessUsage(**usage)})


def _stages(data: Mapping[str, Any]) -> VersionStages:
    counted = tuple([StageStatistics(**one) for one in data["stages"]])
    return VersionStages(data["servable"], data["version"], counted)
