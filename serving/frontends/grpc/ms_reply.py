"""How one message of MindSpore Serving's clients, and all that are like it, are answered.

Replies to such messages differ in the elements of their tensors alone, as long as the tensors have
the same types and shapes: what stands before each tensor's elements is written once.
"""

from __future__ import annotations

from collections.abc import Sequence

from serving.errors import ServingError
from serving.frontends.grpc import ms_codec
from serving.frontends.mindspore import outputs
from serving.frontends.mindspore.runs import Outcome
from serving.frontends.mindspore.target import Target
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
        if isinstance(outcome, ServingError):
            return None
        tensors = outcome.outputs
        look = tuple([(tensor.dtype.code, tensor.shape) for tensor in tensors])
        starts = self._starts.get(look)
        if starts is None:
            starts = self._starts_of(outcome)
            if starts is None:
                return None
            if len(self._starts) >= _MOST_LOOKS:
                self._starts.clear()
            self._starts[look] = starts
        parts: list[bytes] = []
        for start, tensor in zip(starts, tensors, strict=True):
            assert tensor.array is not None
            parts += (start, tensor.array.tobytes())
        return b"".join(parts)

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
