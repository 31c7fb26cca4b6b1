"""What a model file and its settings together come to: runs or not, batched or not; pure."""

from __future__ import annotations

from dataclasses import dataclass

from serving.artifact import Artifact
from serving.definition import DeclaredModel
from serving.errors import ConfigError
from serving.repository import names
from serving.repository.batch_axes import resolve_axes
from serving.repository.declaration import Declaration, Fit, fit
from serving.repository.declared_model import declared_axes, frozen_rows, unheeded
from serving.repository.settings import ServableSettings
from serving.tensor import BatchAxes, Signature


@dataclass(frozen=True)
class Verdict:
    """``runs``, or ``reason`` says why not. ``max_batch_size`` is 1 when not batched.

    ``signature`` is the one to serve: the model's own, or narrowed by what its folder declares.
    """

    runs: bool
    reason: str
    batch: BatchAxes
    max_batch_size: int = 1
    signature: Signature | None = None
    notes: tuple[str, ...] = ()


Declared = Declaration | DeclaredModel
"""What a ``config.pbtxt`` or a ``servable_config.py`` says of a model."""


def judge(
    artifact: Artifact, settings: ServableSettings, declared: Declared | None = None
) -> Verdict:
    """Apply a servable's settings to what was found out about one of its model files.

    ``declared`` is what its folder says of inputs, outputs and batching. The settings come from a
    ``config.pbtxt`` if that is what says it, and from ``servable.toml`` otherwise.
    """
    file = names.TRITON_FILE if isinstance(declared, Declaration) else names.SETTINGS_FILE
    if not artifact.runnable:
        return _no(artifact.reason or "no backend runs it here")
    if settings.backend is not None and settings.backend != artifact.backend:
        return _no(
            f"{file} asks for backend {settings.backend!r}, but this {artifact.format.value} "
            f"file runs on {artifact.backend!r} (remove the key)"
        )
    if artifact.signature is None:
        return _no("its inputs and outputs could not be read")
    try:
        fitted = _fitted(artifact.signature, artifact.batch, settings, declared)
    except ConfigError as error:
        return _no(str(error) if isinstance(declared, Declaration) else f"{file}: {error}")
    batch = fitted.batch
    if batch.batched and settings.max_batch_size == 1 and not _has_rows(declared, artifact):
        batch = BatchAxes.refused(f"switched off by max_batch_size = 1 in {file}")
    most = settings.max_batch_size if batch.batched else 1
    return Verdict(True, "", batch, most, fitted.signature, fitted.notes)


def _fitted(
    signature: Signature,
    walked: BatchAxes,
    settings: ServableSettings,
    declared: Declared | None,
) -> Fit:
    if isinstance(declared, DeclaredModel):
        if settings.batch_axes is not None:
            raise ConfigError(
                "batch_axes says what declare_model says already", where="batch_axes",
                fix="remove it, and declare with_batch_dim and without_batch_dim_inputs",
            )  # fmt: skip
        return Fit(signature, declared_axes(declared, signature), unheeded(declared))
    if declared is not None:
        return fit(declared, signature, walked)
    return Fit(signature, resolve_axes(settings.batch_axes, signature, walked))


def _has_rows(declared: Declared | None, artifact: Artifact) -> bool:
    """Return whether a model takes several rows whatever settings say, as it is declared."""
    if not isinstance(declared, DeclaredModel) or artifact.signature is None:
        return False
    return (frozen_rows(declared, artifact.signature) or 1) > 1


def _no(reason: str) -> Verdict:
    return Verdict(False, reason, BatchAxes.refused("does not run"))
