"""Optimisation profiles: which shapes an engine is built for; pure.

A profile gives each input a smallest, a usual and a largest shape. Rows vary from 1 to the
largest batch; with several batch sizes each gets a profile of its own, from the size below it up,
so that the kernels for small batches are picked for small batches. Every other size that varies
is the servable's to tell (``profile.<input>``): nobody else can know it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from serving.backends.tensorrt.options import PROFILE, Range
from serving.building.tensorrt_order import Order
from serving.errors import LoadError, did_you_mean, listing
from serving.tensor import TensorSpec, shape_text

Profile = Mapping[str, Range]


def profiles(order: Order) -> list[Profile]:
    """Return the profiles for an order, none where no size varies; raises LoadError."""
    _check_named(order)
    ranges = {spec.name: _ranges(order, spec) for spec in order.signature.inputs}
    if not any(_varies(spec) for spec in order.signature.inputs):
        return []
    rows = _row_ranges(order)
    return [
        {
            spec.name: _with_rows(ranges[spec.name], _batch_axis(order, spec.name), span)
            for spec in order.signature.inputs
            if _varies(spec)
        }
        for span in rows
    ]


def _row_ranges(order: Order) -> list[tuple[int, int, int]]:
    """Return smallest, usual and largest number of rows of each profile."""
    spans = []
    least = 1
    for size in order.batch_sizes if order.batch.batched else (order.max_batch_size,):
        spans.append((least, size, size))
        least = size + 1
    return spans


def _ranges(order: Order, spec: TensorSpec) -> Range:
    """Return an input's ranges with the batch axis still open (-1)."""
    if spec.shape is None:
        raise LoadError(
            f"input '{spec.name}' has no rank, and TensorRT needs one",
            code="unknown_shape",
            fix="export the model with a shape for it",
        )
    axis = _batch_axis(order, spec.name)
    told = order.options.profiles.get(spec.name)
    if told is None:
        shape = tuple(
            -1 if at == axis or not isinstance(dim, int) else dim
            for at, dim in enumerate(spec.shape)
        )
        open_dims = [at for at, size in enumerate(shape) if size < 0 and at != axis]
        if open_dims:
            raise _open(spec, open_dims, axis)
        return shape, shape, shape
    return _checked(order, spec, axis, told)


def _checked(order: Order, spec: TensorSpec, axis: int | None, told: Range) -> Range:
    assert spec.shape is not None
    where = f"option '{PROFILE}{spec.name}'"
    if len(told[0]) != len(spec.shape):
        raise LoadError(
            f"{where} has shapes of rank {len(told[0])}, the input is {spec.text()}",
            code="bad_option",
        )
    for at, dim in enumerate(spec.shape):
        low, high = told[0][at], told[2][at]
        if isinstance(dim, int) and (low, high) != (dim, dim):
            raise LoadError(
                f"{where} lets size {at} go from {low} to {high}, the model fixes it to {dim}",
                code="bad_option",
            )
        if at == axis and (low > 1 or high < order.max_batch_size):
            raise LoadError(
                f"{where} holds {low} to {high} rows, batches have 1 to {order.max_batch_size}",
                code="bad_option",
                fix=f"let it go from 1 to {order.max_batch_size} along axis {at}",
            )
    return told


def _with_rows(ranges: Range, axis: int | None, span: tuple[int, int, int]) -> Range:
    if axis is None:
        return ranges
    low, usual, high = (
        (*shape[:axis], rows, *shape[axis + 1 :]) for shape, rows in zip(ranges, span)
    )
    return low, usual, high


def _varies(spec: TensorSpec) -> bool:
    return spec.shape is None or any(not isinstance(dim, int) for dim in spec.shape)


def _batch_axis(order: Order, name: str) -> int | None:
    """Return the axis that counts rows, where it may vary."""
    if not order.batch.batched:
        return None
    for spec, axis in zip(order.signature.inputs, order.batch.inputs):
        if spec.name == name and axis is not None and spec.shape is not None:
            return axis if not isinstance(spec.shape[axis], int) else None
    return None


def _check_named(order: Order) -> None:
    known = [spec.name for spec in order.signature.inputs]
    for name in order.options.profiles:
        if name not in known:
            raise LoadError(
                f"option '{PROFILE}{name}' names no input of the model; it has {listing(known)}",
                code="bad_option",
                fix=did_you_mean(name, known),
            )


def _open(spec: TensorSpec, open_dims: Sequence[int], axis: int | None) -> LoadError:
    assert spec.shape is not None
    names = ", ".join(f"'{spec.shape[at]}'" if spec.shape[at] else f"axis {at}" for at in open_dims)

    def example(size: int) -> str:
        return "x".join(
            str(dim) if isinstance(dim, int) else str(1 if at == axis and size < 9 else size)
            for at, dim in enumerate(spec.shape or ())
        )

    return LoadError(
        f"input '{spec.name}' {shape_text(spec.shape)} varies in {names}, and a TensorRT engine is "
        "built for a range of sizes",
        code="unknown_shape",
        fix=f'set the option "{PROFILE}{spec.name}" to its smallest, usual and largest shape, '
        f'such as "{example(1)},{example(64)},{example(128)}"',
    )
