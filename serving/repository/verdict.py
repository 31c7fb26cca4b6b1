"""What a model file and its settings together come to: runs or not, batched or not; pure."""

from __future__ import annotations

from dataclasses import dataclass

from serving.artifact import Artifact
from serving.errors import ConfigError
from serving.repository import names
from serving.repository.batch_axes import resolve_axes
from serving.repository.settings import ServableSettings
from serving.tensor import BatchAxes


@dataclass(frozen=True)
class Verdict:
    """``runs``, or ``reason`` says why not. ``max_batch_size`` is 1 when not batched."""

    runs: bool
    reason: str
    batch: BatchAxes
    max_batch_size: int = 1


def judge(artifact: Artifact, settings: ServableSettings) -> Verdict:
    """Apply a servable's settings to what was found out about one of its model files."""
    if not artifact.runnable:
        return _no(artifact.reason or "no backend runs it here")
    if settings.backend is not None and settings.backend != artifact.backend:
        return _no(
            f"{names.SETTINGS_FILE} asks for backend {settings.backend!r}, but this "
            f"{artifact.format.value} file runs on {artifact.backend!r} (remove the key)"
        )
    if artifact.signature is None:
        return _no("its inputs and outputs could not be read")
    try:
        batch = resolve_axes(settings.batch_axes, artifact.signature, artifact.batch)
    except ConfigError as error:
        return _no(f"{names.SETTINGS_FILE}: {error}")
    if batch.batched and settings.max_batch_size == 1:
        batch = BatchAxes.refused(f"switched off by max_batch_size = 1 in {names.SETTINGS_FILE}")
    return Verdict(True, "", batch, settings.max_batch_size if batch.batched else 1)


def _no(reason: str) -> Verdict:
    return Verdict(False, reason, BatchAxes.refused("does not run"))
