"""What a model file and its settings together come to: runs or not, batched or not; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from serving.artifact import Artifact
from serving.definition import DeclaredModel
from serving.errors import ConfigError
from serving.repository import names
from serving.repository.backend_choice import Choices, choose
from serving.repository.batch_axes import resolve_axes
from serving.repository.declaration import Declaration, Fit, fit
from serving.repository.declared_model import frozen_rows, run_axes, unheeded
from serving.repository.settings import ServableSettings
from serving.tensor import BatchAxes, Signature


@dataclass(frozen=True)
class Verdict:
    """``runs``, or ``reason`` says why not. ``max_batch_size`` is 1 when not batched.

    ``signature`` is the one to serve: the model's own, or narrowed by what its folder declares;
    None for a file that only its device can read. ``choices`` are the kinds of devices that run it.
    """

    runs: bool
    reason: str
    batch: BatchAxes
    max_batch_size: int = 1
    signature: Signature | None = None
    notes: tuple[str, ...] = ()
    choices: Choices = field(default_factory=Choices)

    @property
    def backends(self) -> dict[str, str]:
        """What runs it, by kind of device."""
        return {choice.kind: choice.route.backend for choice in self.choices.made}


Declared = Declaration | DeclaredModel
"""What a ``config.pbtxt`` or a ``servable_config.py`` says of a model."""


def judge(
    artifact: Artifact,
    settings: ServableSettings,
    declared: Declared | None = None,
    kinds: Sequence[str] = ("cpu",),
) -> Verdict:
    """Apply a servable's settings to what was found out about one of its model files.

    ``kinds`` are the kinds of devices that the server has.

    ``declared`` is what its folder says of inputs, outputs and batching. The settings come from a
    ``config.pbtxt`` if that is what says it, and from ``servable.toml`` otherwise.
    """
    file = names.TRITON_FILE if isinstance(declared, Declaration) else names.SETTINGS_FILE
    choices = _choices(artifact, settings, kinds)
    if not choices.made:
        return _no(_refusal(artifact, settings, kinds, choices, file))
    if artifact.signature is None:
        if artifact.runnable:
            return _no("its inputs and outputs could not be read")
        unseen = BatchAxes.refused("known once a device has read it")
        return Verdict(True, "", unseen, choices=choices)
    try:
        fitted = _fitted(artifact, artifact.signature, settings, declared)
    except ConfigError as error:
        return _no(_unfit(error, settings, declared, file))
    batch = fitted.batch
    if batch.batched and settings.max_batch_size == 1 and not _has_rows(declared, artifact):
        batch = BatchAxes.refused(f"switched off by max_batch_size = 1 in {file}")
    most = settings.max_batch_size if batch.batched else 1
    return Verdict(True, "", batch, most, fitted.signature, fitted.notes, choices)


def _choices(artifact: Artifact, settings: ServableSettings, kinds: Sequence[str]) -> Choices:
    wheres = settings.instances.where(kinds)
    keeps_plain = settings.key is None or settings.cache_decrypted
    named = settings.instances.kinds
    return choose(artifact, wheres, settings.backend, named=named, keeps_plain=keeps_plain)


def _refusal(
    artifact: Artifact,
    settings: ServableSettings,
    kinds: Sequence[str],
    choices: Choices,
    file: str,
) -> str:
    """Say why no device of the server runs it."""
    if not choices.refused:
        return (
            f"{file} has it loaded on {', '.join(settings.instances.kinds)} (instances), and the "
            f"server has {', '.join(kinds)} (start it with other --devices)"
        )
    other = settings.backend not in (None, artifact.backend)
    if other and artifact.runnable and tuple(kinds) == ("cpu",):
        return (
            f"{file} asks for backend {settings.backend!r}, but this {artifact.format.value} "
            f"file runs on {artifact.backend!r} on the server's only device, a CPU (remove the "
            "key, or start the server with other --devices)"
        )
    reasons = dict.fromkeys(choices.refused.values())
    if len(reasons) == 1:
        return next(iter(reasons))
    return "; ".join(f"on {kind}: {reason}" for kind, reason in choices.refused.items())


def _fitted(
    artifact: Artifact,
    signature: Signature,
    settings: ServableSettings,
    declared: Declared | None,
) -> Fit:
    if isinstance(declared, DeclaredModel):
        if settings.batch_axes is not None:
            raise ConfigError(
                "batch_axes says what declare_model says already", where="batch_axes",
                fix="remove it, and declare with_batch_dim and without_batch_dim_inputs",
            )  # fmt: skip
        axes = run_axes(declared, artifact, settings.max_batch_size)
        return Fit(signature, axes, unheeded(declared))
    walked = artifact.batch
    if declared is not None:
        return fit(declared, signature, walked)
    return Fit(signature, resolve_axes(settings.batch_axes, signature, walked))


def _unfit(
    error: ConfigError, settings: ServableSettings, declared: Declared | None, file: str
) -> str:
    """Say in which file what does not fit the model was said."""
    if isinstance(declared, Declaration):
        return str(error)
    if isinstance(declared, DeclaredModel) and settings.batch_axes is None:
        file = names.STAGES_FILE
    return f"{file}: {error}"


def _has_rows(declared: Declared | None, artifact: Artifact) -> bool:
    """Return whether a model takes several rows whatever settings say, as it is declared."""
    if not isinstance(declared, DeclaredModel) or artifact.signature is None:
        return False
    return (frozen_rows(declared, artifact.signature) or 1) > 1


def _no(reason: str) -> Verdict:
    return Verdict(False, reason, BatchAxes.refused("does not run"))
