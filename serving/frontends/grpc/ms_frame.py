"""Messages of MindSpore Serving's clients that are as one before, but for the numbers in them.

A client writes the same message again and again, and only the elements of its tensors change. A
message of the same length, and of the same bytes wherever the other had no elements, therefore
means the same with other elements, which are taken from where they stand. Nothing is parsed; names,
types and shapes hold as long as the description is the same object. Strings and booleans are no
such elements, for they are checked one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from serving import protobuf
from serving.errors import ServingError
from serving.frontends.grpc.ms_reply import Reply
from serving.frontends.grpc.ms_rows import Hole, MsRows
from serving.frontends.method import Describe
from serving.frontends.mindspore.instances import Common
from serving.protobuf import Span
from serving.request import InferRequest
from serving.tensor import BOOL, Tensor

_INSTANCE, _ITEM, _KEY, _VALUE = (n << 3 | 2 for n in (2, 1, 1, 2))
_DATA, _PLACE = 3 << 3 | 2, 5 << 3 | 2
_ndarray = np.ndarray
_MOST_INSTANCES = 32
_MOST_ALIKE = 8
"""Frames of one length: more clients than that, each with a spelling of its own, take turns."""
_MOST_LENGTHS = 128
_LONGEST_BYTES = 4096
"""Of what is remembered of a message: all but its elements."""


class Frame(NamedTuple):
    """What a message says, whatever its elements. ``fixed`` are the bytes between, by place.

    ``reply`` writes what it is answered with. With ``rows`` such calls may go together.
    """

    fixed: tuple[tuple[int, int, bytes], ...]
    reply: Reply
    instances: tuple[tuple[Hole, ...], ...]
    like: InferRequest
    rows: MsRows | None

    def fits(self, data: bytes) -> bool:
        """Return whether a message of the same length is such a one."""
        for start, end, known in self.fixed:  # noqa: SIM110 - all() takes twice as long
            if data[start:end] != known:
                return False
        return True

    def holds(self, describe: Describe) -> bool:
        """Return whether the model is still described as when the frame was made."""
        return self.reply.holds(describe)

    def request(self, data: bytes, common: Common) -> InferRequest:
        """Return the request of a message that fits, of the only instance there is."""
        return self._of(self.instances[0], data, common)

    def requests(self, data: bytes, common: Common) -> tuple[InferRequest, ...]:
        """Return the requests of a message that fits."""
        return tuple([self._of(holes, data, common) for holes in self.instances])

    def _of(self, holes: tuple[Hole, ...], data: bytes, common: Common) -> InferRequest:
        like = self.like
        # Copies of few bytes, which lie as numbers should; in the message they may lie anywhere.
        inputs = [
            Tensor(
                known.name, known.dtype, known.shape, _ndarray(known.shape, kind, data[start:end])
            )
            for start, end, kind, known in holes
        ]
        return InferRequest(
            like.servable,
            tuple(inputs),
            like.version,
            like.method,
            None,
            common.id,
            common.deadline,
            like.priority,
            like.sequence,
            like.parameters,
            like.generation,
        )


class Frames:
    """The frames that one server remembers. Event loop only."""

    def __init__(self) -> None:
        self._by_length: dict[int, list[Frame]] = {}

    def find(self, data: bytes) -> Frame | None:
        """Return the frame that a message fits, if there is one; perhaps it holds no more."""
        for frame in self._by_length.get(len(data), ()):
            if frame.fits(data):
                return frame
        return None

    def learn(
        self,
        data: bytes,
        reply: Reply,
        requests: Sequence[InferRequest | ServingError],
    ) -> None:
        """Remember a message by what it was understood as, if it is one of numbers alone.

        Not the first of its length, which may be the only one. A frame for another description of
        the same is replaced.
        """
        known = self._by_length.get(len(data))
        if known is None:
            if len(self._by_length) >= _MOST_LENGTHS:
                self._by_length.clear()
            self._by_length[len(data)] = []
            return
        frame = _made(data, reply, requests)
        if frame is not None:
            alike = [other for other in known if not other.fits(data)]
            self._by_length[len(data)] = [frame, *alike[: _MOST_ALIKE - 1]]


def _made(
    data: bytes, reply: Reply, requests: Sequence[InferRequest | ServingError]
) -> Frame | None:
    if not 0 < len(requests) <= _MOST_INSTANCES or not all(map(_is_plain, requests)):
        return None
    try:
        spans = [span for tag, *span in protobuf.spans(data, 0, len(data)) if tag == _INSTANCE]
        found = [_holes(data, *span) for span in spans]
    except protobuf.Malformed:
        return None
    instances = []
    for request, places in zip(requests, found, strict=True):
        if isinstance(request, ServingError) or places is None:
            return None
        holes = [_hole(data, tensor, places.get(tensor.name)) for tensor in request.inputs]
        known = tuple([hole for hole in holes if hole is not None])
        if len(known) < len(holes):
            return None
        instances.append(known)
    like = requests[0]
    assert isinstance(like, InferRequest)
    fixed = tuple(_between(data, [hole for holes in instances for hole in holes]))
    if sum([end - start for start, end, _ in fixed]) > _LONGEST_BYTES:
        return None
    like = like._replace(inputs=(), id="", deadline=None)
    rows = MsRows.of(instances[0], like, reply) if len(instances) == 1 else None
    return Frame(fixed, reply, tuple(instances), like, rows)


def _is_plain(request: InferRequest | ServingError) -> bool:
    return not isinstance(request, ServingError) and all(
        t.array is not None and t.array.size and t.dtype is not BOOL for t in request.inputs
    )


def _holes(data: bytes, start: int, end: int) -> dict[str, Span] | None:
    """Return where the elements of an instance's items stand; None if it says a thing twice.

    Of what is said twice the last counts, or both together, which is left to protobuf.
    """
    found: dict[str, Span] = {}
    for tag, start_of_item, end_of_item in protobuf.spans(data, start, end):
        if tag != _ITEM:
            return None
        parts = list(protobuf.spans(data, start_of_item, end_of_item))
        if [part[0] for part in parts] != [_KEY, _VALUE]:
            return None
        (_, *key), (_, *value) = parts
        elements = [part for part in protobuf.spans(data, *value) if part[0] in (_DATA, _PLACE)]
        name = data[slice(*key)].decode("utf-8", "replace")
        if len(elements) != 1 or elements[0][0] != _DATA or name in found:
            return None
        found[name] = elements[0][1:]
    return found


def _hole(data: bytes, tensor: Tensor, place: Span | None) -> Hole | None:
    """Return where a tensor's elements stand, if they are what stands there and need no check."""
    array = tensor.array
    if place is None or array is None or array.tobytes() != data[slice(*place)]:
        return None  # given in another type, such as BF16 for which FP32 was sent
    return Hole(*place, array.dtype, Tensor(tensor.name, tensor.dtype, tensor.shape))


def _between(data: bytes, holes: list[Hole]) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    for hole in sorted(holes, key=lambda hole: hole.start):
        yield at, hole.start, data[at : hole.start]
        at = hole.end
    yield at, len(data), data[at:]
