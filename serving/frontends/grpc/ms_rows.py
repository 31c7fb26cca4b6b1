"""Calls of MindSpore Serving's clients that differ in the numbers of one instance; ``row_form``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from serving.dataplane import DataPlane
from serving.frontends.grpc.ms_reply import Reply
from serving.frontends.grpc.row_form import stacked
from serving.frontends.method import Describe
from serving.frontends.rows import LARGEST_BYTES, stacks
from serving.request import InferRequest, InferResponse
from serving.tensor import Tensor


class Hole(NamedTuple):
    """Where elements of an input stand in a message, their type, and a tensor of what they are."""

    start: int
    end: int
    kind: np.dtype[Any]
    like: Tensor


class MsRows:
    """The rows of one frame: see ``row_form.RowForm``. ``like`` is the request but for inputs."""

    unit = 1

    def __init__(self, holes: tuple[Hole, ...], like: InferRequest, reply: Reply) -> None:
        self._holes = holes
        self._like = like
        self._reply = reply

    @staticmethod
    def of(holes: tuple[Hole, ...], like: InferRequest, reply: Reply) -> MsRows | None:
        """Return the rows of messages with these holes, None where they are no single rows."""
        one_row = all(hole.like.shape[:1] == (1,) for hole in holes)
        size = sum([hole.end - hole.start for hole in holes])
        if not one_row or size > LARGEST_BYTES or not stacks(reply.description):
            return None
        return MsRows(holes, like, reply)

    def holds(self, describe: Describe) -> bool:
        """Return whether the model is still described as when the frame was made."""
        return self._reply.holds(describe)

    def request(self, messages: Sequence[bytes]) -> InferRequest:
        """Return the request of all rows."""
        inputs = [
            stacked(known, [data[start:end] for data in messages])
            for start, end, _, known in self._holes
        ]
        return self._like._replace(inputs=tuple(inputs))

    def written(self, response: InferResponse, count: int) -> list[bytes] | None:
        """Return the replies to all rows, if all their outputs are numbers."""
        return self._reply.write_rows(response, count)

    def one(self, response: InferResponse) -> bytes:
        """Return the reply to a row; raises a ``ServingError``."""
        return self._reply.write([response])

    def failed(self, error: BaseException, plane: DataPlane) -> bytes:
        """Return the reply that tells of an error."""
        return self._reply.failed(error, plane)
