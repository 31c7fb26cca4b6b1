"""How one message of MindSpore Serving's clients, and all that are like it, are answered.

Replies to such messages differ in the elements of their tensors alone, as long as the tensors have
the same types and shapes: what stands before each tensor's elements is written once.
"""

from __future__ import annotations

from collections.abc import Sequence

from serving.dataplane import DataPlane
from serving.errors import InvalidRequest, ServingError
from serving.frontends.grpc import ms_codec
from serving.frontends.grpc.row_form import cut
from serving.frontends.method import Describe
from serving.frontends.mindspore import outputs
from serving.frontends.mindspore.failures import told
from serving.frontends.mindspore.runs import Outcome, ends_of
from serving.frontends.mindspore.target import Target
from serving.frontends.rows import rows_of
from serving.request import Description, InferResponse
from serving.tensor import BF16

_Look = tuple[tuple[int, tuple[int, ...]], ...]
"""Types and shapes of outputs, in the description's order."""

_MOST_LOOKS = 16


class Reply:
    """Made for a message; kept with its frame, if it has one. Event loop only, but for ``write``.

    ``spec`` begins every reply, and ``description`` is what the message was decoded with: its
    requests ask for all outputs, which therefore always have the same names and order.
    """

    __slots__ = ("_starts", "description", "spec", "target")

    def __init__(self, spec: bytes, target: Target, description: Description) -> None:
        self.spec = spec
        self.target = target
        self.description = description
        self._starts: dict[_Look, tuple[bytes, ...]] = {}

    def write(self, outcomes: Sequence[Outcome]) -> bytes:
        """Return the serialised reply; nothing in it points into the responses."""
        return ms_codec.write(self.spec, self.target, self.description, outcomes)

    def write_again(self, outcomes: Sequence[Outcome]) -> bytes | None:
        """Return what ``write`` does, for one instance of which all outputs are numbers.

        None for all others. Raises what ``write`` raises.
        """
        if len(outcomes) != 1:
            return None
        (outcome,) = outcomes
        return None if isinstance(outcome, ServingError) else self.write_one(outcome)

    def write_one(self, outcome: InferResponse) -> bytes | None:
        """Return the reply to one instance of which all outputs are numbers, else None.

        Raises what ``write`` raises.
        """
        tensors = outcome.outputs
        look = tuple([(tensor.dtype.code, tensor.shape) for tensor in tensors])
        starts = self._starts.get(look)
        if starts is None:
            starts = self._learned(look, outcome)
            if starts is None:
                return None
        if len(tensors) == 1:
            array = tensors[0].array
            assert array is not None
            return starts[0] + array.tobytes()
        parts: list[bytes] = []
        for start, tensor in zip(starts, tensors, strict=True):
            assert tensor.array is not None
            parts += (start, tensor.array.tobytes())
        return b"".join(parts)

    def write_rows(self, response: InferResponse, count: int) -> list[bytes] | None:
        """Return a reply for each of so many rows of a response, if all outputs are numbers.

        None for all others.
        """
        tensors = response.outputs
        look = tuple([(tensor.dtype.code, (1, *tensor.shape[1:])) for tensor in tensors])
        starts = self._starts.get(look)
        if starts is None:
            starts = self._learned(look, rows_of(response, 0))
            if starts is None:
                return None
        if len(tensors) == 1:
            return cut(starts[0], tensors[0], count)
        columns = [cut(start, tensor, count) for start, tensor in zip(starts, tensors, strict=True)]
        return [b"".join(parts) for parts in zip(*columns, strict=True)]

    def refused(self, error: Exception, plane: DataPlane) -> bytes | Exception:
        """Return how a call of one instance ends that could not be claimed.

        With a reply, if the error is one that can be told; ``plane`` counts it.
        """
        if not isinstance(error, ServingError):
            return error
        plane.answered_with(error, "grpc")
        if isinstance(error, InvalidRequest):
            return self.write([error])
        return ms_codec.refusal(self.spec, told(error, self.target))

    def failed(self, error: BaseException, plane: DataPlane) -> bytes:
        """Return the reply to a call of one instance that came to an error; ``plane`` counts it."""
        ends = ends_of(error)
        if isinstance(ends, ServingError):
            plane.answered_with(ends, "grpc")
            return ms_codec.refusal(self.spec, told(ends, self.target))
        for end in ends:
            if isinstance(end, ServingError):
                plane.answered_with(end, "grpc")
        return self.write(ends)

    def holds(self, describe: Describe) -> bool:
        """Return whether what is asked for is still described as it was."""
        name, method, version = self.target
        try:
            return describe(name, version or None, method) is self.description
        except ServingError:
            return False

    def _learned(self, look: _Look, response: InferResponse) -> tuple[bytes, ...] | None:
        starts = self._starts_of(response)
        if starts is not None:
            if len(self._starts) >= _MOST_LOOKS:
                self._starts.clear()
            self._starts[look] = starts
        return starts

    def _starts_of(self, response: InferResponse) -> tuple[bytes, ...] | None:
        """Return what stands before each output's elements, None where that is not all."""
        tensors = response.outputs
        if not tensors or any(
            t.array is None or not t.array.size or t.dtype is BF16 for t in tensors
        ):
            return None
        found = outputs.of(response, self.description)
        first, *others = ms_codec.starts(tuple([(o.name, o.type.number, o.shape) for o in found]))
        return (self.spec + first, *others)
