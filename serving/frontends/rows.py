"""Rows of several callers in one request and one response: whether they can be, and each apart."""

from __future__ import annotations

from serving.request import Description, InferResponse
from serving.tensor import Array, Tensor


def stacks(description: Description) -> bool:
    """Return whether rows of all inputs and outputs stand behind one another."""
    batch = description.batch
    axes = (*batch.inputs, *batch.outputs)
    return batch.batched and bool(batch.inputs) and all(axis == 0 for axis in axes)


def rows_of(response: InferResponse, caller: int, unit: int = 1) -> InferResponse:
    """Return the response to a caller, who has so many of the rows.

    It is valid for as long as the whole one is.
    """
    outputs = [_rows(tensor, caller * unit, unit) for tensor in response.outputs]
    return InferResponse(response.servable, response.version, response.id, tuple(outputs))


def _rows(tensor: Tensor, first: int, count: int) -> Tensor:
    shape = (count, *tensor.shape[1:])
    if tensor.items is not None:
        step = len(tensor.items) // tensor.shape[0]
        items = tensor.items[first * step : (first + count) * step]
        return Tensor(tensor.name, tensor.dtype, shape, items=items)
    assert tensor.array is not None
    rows: Array = tensor.array[first : first + count]
    return Tensor(tensor.name, tensor.dtype, shape, rows)
