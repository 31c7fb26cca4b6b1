"""What a model folder says its model's inputs and outputs are, held against the model itself.

Written for Triton's ``config.pbtxt``, whose ``dims`` leave out the batch axis when
``max_batch_size`` is above 0. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serving.errors import ConfigError, did_you_mean, listing
from serving.tensor import BatchAxes, Dim, DType, Signature, TensorSpec, fixed_batch, shape_text


@dataclass(frozen=True)
class DeclaredTensor:
    """One input or output; ``dtype`` and ``dims`` are ``None`` where nothing is said of them.

    A size of ``dims`` is -1 where it may vary; the batch axis is not among them if there is one.
    """

    name: str
    dtype: DType | None = None
    dims: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Declaration:
    """The tensors that ``file`` declares, and whether it asserts a batch axis.

    ``max_batch_size`` above 0 asserts that axis 0 of every input and output counts rows; 0 asks
    for no batching; ``None`` leaves it to what is proved. An empty side declares nothing.
    """

    file: str
    max_batch_size: int | None = None
    inputs: tuple[DeclaredTensor, ...] = ()
    outputs: tuple[DeclaredTensor, ...] = ()


@dataclass(frozen=True)
class Fit:
    """The signature as it is served, its batch axes, and what the operator should know."""

    signature: Signature
    batch: BatchAxes
    notes: tuple[str, ...] = ()


def fit(declared: Declaration, signature: Signature, walked: BatchAxes) -> Fit:
    """Apply a declaration to the model's own signature.

    Sizes that vary in the model and are fixed in the declaration become fixed. ``walked`` are
    the axes that were proved. Raises ConfigError naming the first tensor that does not fit.
    """
    served = Signature(
        _side("input", declared, declared.inputs, signature.inputs),
        _side("output", declared, declared.outputs, signature.outputs),
    )
    missing = _missing(declared.inputs, signature.inputs)
    if missing:
        raise ConfigError(
            f"{declared.file} does not declare input {missing[0]!r}, which the model needs",
            where="input", expected=f"inputs {listing(s.name for s in signature.inputs)}",
            given=listing(t.name for t in declared.inputs),
        )  # fmt: skip
    notes = tuple(
        f"output {name!r} is not declared in {declared.file} and answered all the same to "
        "requests that name no outputs"
        for name in _missing(declared.outputs, signature.outputs)
    )
    return Fit(served, _axes(declared, signature, served, walked), notes)


def _missing(given: Sequence[DeclaredTensor], specs: Sequence[TensorSpec]) -> list[str]:
    names = {tensor.name for tensor in given}
    return [spec.name for spec in specs if spec.name not in names] if given else []


def _axes(
    declared: Declaration, signature: Signature, served: Signature, walked: BatchAxes
) -> BatchAxes:
    if declared.max_batch_size is None:
        frozen = fixed_batch(served, walked)
        if frozen != fixed_batch(signature, walked):
            return BatchAxes.refused(f"{declared.file} fixes the axis of the rows to {frozen}")
        return walked
    if declared.max_batch_size == 0:
        return BatchAxes.refused(f"switched off by max_batch_size: 0 in {declared.file}")
    inputs, outputs = (0,) * len(signature.inputs), (0,) * len(signature.outputs)
    if walked.batched and (walked.inputs, walked.outputs) == (inputs, outputs):
        return walked
    reason = f"asserted by max_batch_size: {declared.max_batch_size} in {declared.file}"
    return BatchAxes(True, reason, inputs, outputs)


def _side(
    side: str,
    declared: Declaration,
    tensors: Sequence[DeclaredTensor],
    specs: Sequence[TensorSpec],
) -> tuple[TensorSpec, ...]:
    names = [spec.name for spec in specs]
    by_name = {tensor.name: tensor for tensor in tensors}
    for name in by_name:
        if name not in names:
            raise ConfigError(
                f"{declared.file} declares {side} {name!r}, which the model does not have",
                where=f"{side}.{name}", expected=f"{side}s {listing(names)}",
                fix=did_you_mean(name, names),
            )  # fmt: skip
    return tuple(
        _tensor(side, declared, by_name.get(spec.name, DeclaredTensor(spec.name)), spec)
        for spec in specs
    )


def _tensor(
    side: str, declared: Declaration, tensor: DeclaredTensor, spec: TensorSpec
) -> TensorSpec:
    where = f"{side}.{spec.name}"
    if tensor.dtype not in (None, spec.dtype):
        raise ConfigError(
            f"{side} {spec.name!r} has another data type in {declared.file} than in the model",
            where=f"{where}.data_type", expected=f"{spec.dtype.name}, as in the model",
            given=str(tensor.dtype),
        )  # fmt: skip
    batched = bool(declared.max_batch_size)
    if batched and spec.shape == ():
        raise ConfigError(
            f"{side} {spec.name!r} of the model has no axis that could count rows, but "
            f"{declared.file} says max_batch_size: {declared.max_batch_size}",
            where=where, fix="set max_batch_size: 0 and give dims as the model has them",
        )  # fmt: skip
    if tensor.dims is None or spec.json:
        return spec
    wanted = (-1, *tensor.dims) if batched else tensor.dims
    if spec.shape is None:
        shape: tuple[Dim, ...] = tuple("" if d < 0 else d for d in wanted)
        return TensorSpec(spec.name, spec.dtype, shape)
    if len(wanted) != len(spec.shape) or not all(map(_agree, wanted, spec.shape)):
        raise _other_shape(side, declared, tensor.dims, wanted, spec)
    narrowed = tuple(
        given if wide < 0 else wide for wide, given in zip(wanted, spec.shape, strict=True)
    )
    return TensorSpec(spec.name, spec.dtype, narrowed)


def _agree(wanted: int, given: Dim) -> bool:
    """Return whether a declared size (-1: any) can be that of the model's axis."""
    return wanted < 0 or isinstance(given, str) or given < 0 or wanted == given


def _other_shape(
    side: str,
    declared: Declaration,
    dims: tuple[int, ...],
    wanted: tuple[int, ...],
    spec: TensorSpec,
) -> ConfigError:
    assert spec.shape is not None
    given = f"dims {list(dims)}"
    fix = "write the model's own sizes, -1 for one that varies"
    if wanted != dims:
        given += f", with the batch axis of max_batch_size {shape_text(wanted)}"
        if len(dims) == len(spec.shape):
            fix = "set max_batch_size: 0 if the dims hold every axis, else leave out the first"
    elif len(dims) + 1 == len(spec.shape):
        fix = "write every axis, the first as -1, or set max_batch_size above 0"
    return ConfigError(
        f"{side} {spec.name!r} has another shape in {declared.file} than in the model",
        where=f"{side}.{spec.name}.dims", expected=f"{spec.text()}, as in the model",
        given=given, fix=fix,
    )  # fmt: skip
