"""Rows of several callers in one request and one response: whether they can be, and each apart."""

from __future__ import annotations

from serving.request import Description, InferResponse
from serving.tensor import Array, Tensor


def stacks(description: Description) -> bool:
    """Return whether rows of all inputs and outputs stand behind one another."""
    batch = description.batch
    axes = (*batch.inputs, *batch.outputs)
    return batch.batched and bool(batch.inputs) and all(axis == 0 for axis in axes)


def row_of(response: InferResponse, row: int) -> InferResponse:
    """Return the response to one row; it is valid for as long as the whole one is."""
    outputs = [_row(tensor, row) for tensor in response.outputs]
    return InferResponse(response.servable, response.version, response.id, tuple(outputs))


def _row(tensor: Tensor, row: int) -> Tensor:
    shape = (1, *tensor.shape[1:])
    if tensor.items is not None:
        step = len(tensor.items) // tensor.shape[0]
        items = tensor.items[row * step : (row + 1) * step]
        return Tensor(tensor.name, tensor.dtype, shape, items=items)
    assert tensor.array is not None
    rows: Array = tensor.array[row : row + 1]
    return Tensor(tensor.name, tensor.dtype, shape, rows)
