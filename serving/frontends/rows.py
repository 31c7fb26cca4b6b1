"""Rows of several callers in one request and one response: whether they can be, and each apart."""

from __future__ import annotations

from serving.request import Description, InferResponse
from serving.tensor import Array, Tensor, TensorSpec, element_count, fixed_batch

LARGEST_BYTES = 8 * 1024
"""Of what a call brings, and of each output that it is answered with, where calls go together.

Of more the copy that puts them behind one another costs more than it saves.
"""


def stacks(description: Description, unit: int = 1) -> bool:
    """Return whether callers of so many rows each may bring them together.

    The rows of all inputs and outputs stand behind one another. Callers of several come to a model
    alone, whose runs take two of them at least, or nothing is gained, and whose answers to them
    are known to be short numbers.
    """
    batch = description.batch
    axes = (*batch.inputs, *batch.outputs)
    if not (batch.batched and batch.inputs and all(axis == 0 for axis in axes)):
        return False
    if unit == 1:
        return True
    if description.method or fixed_batch(description.signature, batch) is not None:
        return False
    short = all(_is_short(spec, unit) for spec in description.signature.outputs)
    return short and 0 < 2 * unit <= description.max_batch_size


def rows_of(response: InferResponse, caller: int, unit: int = 1) -> InferResponse:
    """Return the response to a caller, who has so many of the rows.

    It is valid for as long as the whole one is.
    """
    outputs = [_rows(tensor, caller * unit, unit) for tensor in response.outputs]
    return InferResponse(response.servable, response.version, response.id, tuple(outputs))


def _is_short(spec: TensorSpec, rows: int) -> bool:
    """Return whether so many rows of an output are few numbers, as far as is known before."""
    sizes = [dim for dim in (spec.shape or ())[1:] if isinstance(dim, int) and dim >= 0]
    if spec.shape is None or len(sizes) != len(spec.shape) - 1 or spec.dtype.is_bytes:
        return False
    return rows * element_count(tuple(sizes)) * spec.dtype.itemsize <= LARGEST_BYTES


def _rows(tensor: Tensor, first: int, count: int) -> Tensor:
    shape = (count, *tensor.shape[1:])
    if tensor.items is not None:
        step = len(tensor.items) // tensor.shape[0]
        items = tensor.items[first * step : (first + count) * step]
        return Tensor(tensor.name, tensor.dtype, shape, items=items)
    assert tensor.array is not None
    rows: Array = tensor.array[first : first + count]
    return Tensor(tensor.name, tensor.dtype, shape, rows)
