"""Makes inputs from a signature, where nobody gave real ones: seeded, so that runs compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from serving.errors import ConfigError, did_you_mean, listing
from serving.request import Description
from serving.tensor import BF16, BOOL, Array, Tensor, TensorSpec, float32_to_bf16

_SEED = 7
_WORD = b"benchmark"
_MOST_BYTES = 1 << 30


def generate(
    known: Description,
    rows: int,
    shapes: Mapping[str, tuple[int, ...]],
    whole: tuple[int, int],
    count: int,
) -> list[list[Tensor]]:
    """Return ``count`` requests of ``rows`` rows, each a list of tensors in signature order.

    ``shapes`` are whole shapes for inputs by name; other sizes that vary are ``rows`` on the batch
    axis and 1 elsewhere. Floats are normal, rounded to 4 decimals; whole numbers are drawn from
    ``whole`` (low, high exclusive). Raises ConfigError for a shape of an input that is not there.
    """
    specs = known.signature.inputs
    for name in shapes:
        if name not in (known_names := [spec.name for spec in specs]):
            raise ConfigError(
                f"servable {known.servable!r} has no input {name!r}",
                code="bad_input",
                expected=listing(known_names),
                fix=did_you_mean(name, known_names),
            )
    rng = np.random.default_rng(_SEED)
    return [
        [
            _tensor(spec, shapes.get(spec.name) or _shape(spec, axis, rows), whole, rng)
            for spec, axis in zip(specs, _axes(known), strict=True)
        ]
        for _ in range(count)
    ]


def _axes(known: Description) -> tuple[int | None, ...]:
    return known.batch.inputs if known.batch.batched else (None,) * len(known.signature.inputs)


def _shape(spec: TensorSpec, axis: int | None, rows: int) -> tuple[int, ...]:
    return tuple(
        rows if i == axis else (dim if isinstance(dim, int) else 1)
        for i, dim in enumerate(spec.shape or ())
    )


def _tensor(
    spec: TensorSpec, shape: tuple[int, ...], whole: tuple[int, int], rng: np.random.Generator
) -> Tensor:
    dtype = spec.dtype
    count = int(np.prod(shape, dtype=np.int64))
    if count * max(1, dtype.itemsize) > _MOST_BYTES:
        raise ConfigError(
            f"input {spec.name!r} of shape {list(shape)} is more than 1 GiB", code="bad_input"
        )
    if dtype.numpy is None:
        return Tensor(spec.name, dtype, shape, items=[_WORD] * count)
    array: Array
    if dtype is BOOL:
        array = rng.integers(0, 2, shape).astype(bool)
    elif dtype is BF16:
        array = float32_to_bf16(rng.standard_normal(shape).astype(np.float32))
    elif dtype.numpy.kind == "f":
        array = rng.standard_normal(shape).round(4).astype(dtype.numpy)
    else:
        bounds = np.iinfo(dtype.numpy)
        low, high = max(whole[0], int(bounds.min)), min(whole[1], int(bounds.max))
        array = rng.integers(low, max(low + 1, high), shape).astype(dtype.numpy)
    return Tensor(spec.name, dtype, shape, array)


def repeated(known: Description, tensors: Sequence[Tensor], times: int) -> list[Tensor]:
    """Return a request with all rows of another so many times over.

    Raises ConfigError for a servable whose requests cannot carry several rows.
    """
    if not known.batch.batched:
        raise ConfigError(
            f"requests of servable {known.servable!r} cannot carry several rows", code="bad_input"
        )
    return [
        tensor if axis is None else _repeated(tensor, axis, times)
        for tensor, axis in zip(tensors, known.batch.inputs, strict=True)
    ]


def _repeated(tensor: Tensor, axis: int, times: int) -> Tensor:
    shape = tuple(n * times if i == axis else n for i, n in enumerate(tensor.shape))
    if tensor.array is not None:
        array = np.concatenate([tensor.array] * times, axis)
        return Tensor(tensor.name, tensor.dtype, shape, array)
    items = np.empty(len(tensor.items or ()), dtype=object)
    items[:] = tensor.items or ()
    many = np.concatenate([items.reshape(tensor.shape)] * times, axis)
    return Tensor(tensor.name, tensor.dtype, shape, items=many.reshape(-1).tolist())
