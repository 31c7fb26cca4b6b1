"""What functions returned, on its way back: views of the segment that a run was lent."""

from __future__ import annotations

from serving.channel.arena import Arena
from serving.channel.segment import Segment
from serving.tensor import Tensor


class Output:
    """The segment with the outputs of one run; it goes back with the last who looks into it."""

    __slots__ = ("_arena", "_holds", "_segment")

    def __init__(self, arena: Arena, segment: Segment | None) -> None:
        self._arena = arena
        self._segment = segment
        self._holds = 1

    def hold(self) -> None:
        """One more looks into it."""
        self._holds += 1

    def release(self) -> None:
        """One fewer."""
        self._holds -= 1
        if self._holds == 0 and self._segment is not None:
            self._arena.give(self._segment)
            self._segment = None


class StageAnswer:
    """The values of one instance, in the order of the function's outputs.

    They may be views of shared memory until ``release``; later calls of it do nothing.
    """

    __slots__ = ("_output", "values")

    def __init__(self, values: tuple[Tensor, ...], output: Output) -> None:
        output.hold()
        self.values = values
        self._output: Output | None = output

    def release(self) -> None:
        """Give the values back: their arrays must not be touched any more."""
        output, self._output = self._output, None
        if output is not None:
            output.release()
