"""What ``declare_model`` says of a model, held against the model itself; pure.

MindSpore Serving's rules: with ``with_batch_dim`` axis 0 of every input and output counts rows,
but for the inputs of ``without_batch_dim_inputs``; without it an instance is all that a run takes.
Several such instances run together nevertheless where nobody can tell: see ``run_axes``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from serving.artifact import Artifact
from serving.definition import DeclaredModel
from serving.errors import ConfigError
from serving.tensor import BatchAxes, Signature, TensorSpec, fixed_batch

_WHOLE = "declared with_batch_dim=False: an instance is a whole run"


def instance_signature(declared: DeclaredModel, artifact: Artifact) -> Signature | None:
    """Return what a model takes and gives, without ``with_batch_dim`` in the file's own sizes."""
    signature, rows = artifact.signature, artifact.exported_rows
    if signature is None or declared.with_batch_dim or not rows:
        return signature
    batch = artifact.batch
    return Signature(
        _sized(signature.inputs, batch.inputs, rows), _sized(signature.outputs, batch.outputs, rows)
    )


def may_be_freed(declared: DeclaredModel | None) -> bool:
    """Return whether a first axis that the file fixes may be freed for what is declared.

    It counts rows then, or nobody sees its length: an instance is all of it, or one row. Of inputs
    that all rows share it is no such axis.
    """
    return declared is not None and not declared.without_batch_dim_inputs


def run_axes(declared: DeclaredModel, artifact: Artifact, max_batch_size: int) -> BatchAxes:
    """Return the axes along which a model is to run several instances; raises ConfigError.

    An instance of a model without ``with_batch_dim`` is all rows of its first axis, as many as
    were exported. Where the conversion freed that axis, because its rows do not touch each other,
    instances stand one after the other on it, if two at least have room in ``max_batch_size``
    rows. That is our doing and nobody asked for it, so an answer must not differ in a single bit.
    """
    assert artifact.signature is not None
    if declared.with_batch_dim:
        return declared_axes(declared, artifact.signature)
    batch, rows = artifact.batch, artifact.exported_rows
    if not batch.batched:
        return BatchAxes.refused(f"{_WHOLE}: {batch.reason}")
    if 2 * rows > max_batch_size:
        return BatchAxes.refused(
            f"{_WHOLE}: two of {rows} rows do not fit max_batch_size = {max_batch_size}"
        )
    if not rows or any(axis != 0 for axis in (*batch.inputs, *batch.outputs)):
        return BatchAxes.refused(_WHOLE)
    size = "1 row" if rows == 1 else f"{rows} rows"
    told = f"whole instances of {size} share a run, to the last bit: {batch.reason}"
    return BatchAxes(True, told, batch.inputs, batch.outputs, exact=True)


def declared_axes(declared: DeclaredModel, signature: Signature) -> BatchAxes:
    """Return the batch axes that a declaration asserts.

    Raises ConfigError when they do not fit the model: a tensor without an axis 0, sizes there
    that differ, or an input that does not exist.
    """
    if not declared.with_batch_dim:
        return BatchAxes.refused(_WHOLE)
    without = set(declared.without_batch_dim_inputs)
    count = len(signature.inputs)
    if extra := sorted(i for i in without if not 0 <= i < count):
        raise ConfigError(
            f"without_batch_dim_inputs names input {extra[0]}, which the model does not have",
            where="without_batch_dim_inputs", expected=f"numbers from 0 to {count - 1}",
        )  # fmt: skip
    if len(without) == count:
        raise ConfigError(
            "without_batch_dim_inputs names every input, so that none counts rows",
            where="without_batch_dim_inputs", fix="declare the model with_batch_dim=False",
        )  # fmt: skip
    rows = [spec for i, spec in enumerate(signature.inputs) if i not in without]
    _check_sizes((*rows, *signature.outputs))
    return BatchAxes(
        True,
        "asserted by with_batch_dim=True in servable_config.py",
        tuple(None if i in without else 0 for i in range(count)),
        (0,) * len(signature.outputs),
    )


def unproved(declared: DeclaredModel, signature: Signature, proved: BatchAxes) -> str:
    """Say why a model cannot be run as it is declared after all, or return ``""``.

    A batch that failed the proof is run row by row; one of fixed size cannot be.
    """
    if proved.batched or not declared.with_batch_dim:
        return ""
    size = frozen_rows(declared, signature)
    if size is None or size == 1:
        return ""
    return (
        f"it takes {size} rows at once, but they do not go together: {proved.reason} "
        "(declare the model with_batch_dim=False)"
    )


def frozen_rows(declared: DeclaredModel, signature: Signature) -> int | None:
    """Return the rows that a run must have, None where any number may."""
    return fixed_batch(signature, declared_axes(declared, signature))


def threads_of(declared: DeclaredModel) -> int | None:
    """Return the engine threads that a declaration asks for."""
    number = declared.context.get("thread_num")
    return number if isinstance(number, int) else None


def unheeded(declared: DeclaredModel) -> tuple[str, ...]:
    """Say what of a declaration has no effect here."""
    said = [
        f"{name} of its Context"
        for name in ("thread_affinity_core_list", "enable_parallel")
        if declared.context.get(name)
    ]
    for device in declared.context.get("devices", ()):
        kind = str(device.get("device_type", "")).upper()
        options = sorted(device.keys() - {"device_type"})
        if options and device.get("precision_mode") != "origin":
            said.append(f"{', '.join(options)} for {kind}")
    if declared.config_file:
        said.append(f"config_file {declared.config_file!r}")
    return (f"{'; '.join(said)}: not looked at by the engine here",) if said else ()


def _sized(
    specs: Sequence[TensorSpec], axes: Sequence[int | None], rows: int
) -> tuple[TensorSpec, ...]:
    """Return specs with so many rows on their axes."""
    return tuple(
        spec
        if axis is None or spec.shape is None
        else replace(spec, shape=(*spec.shape[:axis], rows, *spec.shape[axis + 1 :]))
        for spec, axis in zip(specs, axes, strict=True)
    )


def _check_sizes(specs: Sequence[TensorSpec]) -> None:
    size: int | None = None
    first = ""
    for spec in specs:
        if spec.shape == ():
            raise ConfigError(
                f"{spec.name!r} has no axis that could count rows, but the model is declared "
                "with_batch_dim=True",
                where=spec.name, fix="declare the model with_batch_dim=False",
            )  # fmt: skip
        dim = spec.shape[0] if spec.shape else ""
        if not isinstance(dim, int) or dim < 0:
            continue
        if size is None:
            size, first = dim, spec.name
        elif dim != size:
            raise ConfigError(
                f"axis 0 of {first!r} has {size} rows and that of {spec.name!r} {dim}, but the "
                "model is declared with_batch_dim=True",
                where=spec.name,
                fix="declare the model with_batch_dim=False, or list inputs that all rows share "
                "in without_batch_dim_inputs",
            )  # fmt: skip
