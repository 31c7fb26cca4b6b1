"""What calls have in common that differ in the numbers of one row only: read and answered as one.

A codec that keeps the frame of a body offers it as a ``RowForm``; whoever gathers such calls knows
no wire format.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from serving.frontends.method import Describe
from serving.frontends.rest.wire import Reply
from serving.request import Description, InferRequest, InferResponse
from serving.tensor import Array, Tensor


class Written(NamedTuple):
    """The answers to rows, in order: each is a text between what is the same for all of them.

    ``like`` is the reply that each is, but for its body.
    """

    like: Reply
    before: bytes
    texts: list[bytes]
    after: bytes


class RowForm(Protocol):
    """The form of calls of one row for one input."""

    def holds(self, describe: Describe) -> bool:
        """Return whether such calls still mean what they did; raises what ``describe`` raises."""
        ...

    def request(self, texts: Sequence[bytes]) -> InferRequest | None:
        """Return the request of as many rows as there are texts, None if one of them is not fit.

        A text is what stands in a call where the form has numbers.
        """
        ...

    def written(self, response: InferResponse) -> Written | None:
        """Return the answers to the rows of a response, None to write each with ``one``."""
        ...

    def one(self, response: InferResponse) -> Reply:
        """Return the answer to a row, which a response consists of; raises a ``ServingError``."""
        ...


class Cut(NamedTuple):
    """A form that a body has, and the bytes before and behind its numbers."""

    form: RowForm
    before: int
    behind: int


def stacks(description: Description) -> bool:
    """Return whether rows for the one input, and of all outputs, stand behind one another."""
    batch = description.batch
    axes = (*batch.inputs, *batch.outputs)
    return (
        batch.batched
        and not description.method
        and len(batch.inputs) == 1
        and all(axis == 0 for axis in axes)
    )


def row_of(response: InferResponse, row: int) -> InferResponse:
    """Return the response to one row; it is valid for as long as the whole one is."""
    outputs = [_row(tensor, row) for tensor in response.outputs]
    return InferResponse(response.servable, response.version, response.id, tuple(outputs))


def _row(tensor: Tensor, row: int) -> Tensor:
    assert tensor.array is not None
    rows: Array = tensor.array[row : row + 1]
    return Tensor(tensor.name, tensor.dtype, rows.shape, rows)
