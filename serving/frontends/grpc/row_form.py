"""What calls have in common that differ in their numbers only: read and answered as one.

A codec that knows such calls again offers what they have in common as a ``RowForm``; whoever
gathers them knows no messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from serving.dataplane import DataPlane
from serving.frontends.method import Describe
from serving.frontends.raw_tensor import Look
from serving.request import InferRequest, InferResponse
from serving.tensor import Array, Tensor

Elements = bytes | memoryview


class RowForm(Protocol):
    """The form of calls of so many rows, or of one instance of a method."""

    @property
    def unit(self) -> int:
        """How many rows each of them has."""
        ...

    def holds(self, describe: Describe) -> bool:
        """Return whether such calls still mean what they did; raises what ``describe`` raises."""
        ...

    def request(self, texts: Sequence[Any]) -> InferRequest:
        """Return the request of all rows.

        A text is a message, or whatever part of it the form itself asks for.
        """
        ...

    def written(self, response: InferResponse, count: int) -> list[bytes] | None:
        """Return the answers to so many calls of a response, None to write each with ``one``."""
        ...

    def one(self, response: InferResponse) -> bytes:
        """Return the answer to the call that a response is for; raises a ``ServingError``."""
        ...

    def failed(self, error: BaseException, plane: DataPlane) -> bytes | BaseException:
        """Return how a call ends that came to an error; ``plane`` counts what is answered."""
        ...


def stacked(like: Tensor | Look, parts: Sequence[Elements]) -> Tensor:
    """Return the tensor of all rows; ``like`` is that of one call, ``parts`` their elements."""
    shape = (len(parts) * like.shape[0], *like.shape[1:])
    array: Array = np.frombuffer(b"".join(parts), like.dtype.numpy).reshape(shape)
    return Tensor(like.name, like.dtype, shape, array)


def cut(before: bytes, tensor: Tensor, count: int) -> list[bytes]:
    """Return the elements of each of so many parts of numbers, behind what stands before them."""
    assert tensor.array is not None
    data = tensor.array.tobytes()
    size = len(data) // count
    return [before + data[at : at + size] for at in range(0, len(data), size)]
