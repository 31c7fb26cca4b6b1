"""Tensors of requests that lie in files of clients: what a run reads there, and what it writes.

A worker copies them itself, from the file into its rows and from rows into the file: the master
would spend on it what it has for everybody.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from serving.channel.layout import Field, Layout
from serving.channel.link import MOST_FDS
from serving.channel.messages import MOST_COPIES, Afar, Copy
from serving.request import FileSpan
from serving.scheduling.piece import Piece
from serving.scheduling.ticket import Ticket
from serving.tensor import Signature


class Errand(NamedTuple):
    """What a worker is told to copy, and the descriptors that it gets for it."""

    afar: Afar
    fds: tuple[int, ...]


def fitting(tickets: Iterable[Ticket], most: int) -> int:
    """Return how many of the first ``most`` requests one run can serve, for all bring files."""
    files: set[int] = set()
    copies = 0
    for count, ticket in enumerate(itertools.islice(tickets, most)):
        elsewhere = ticket.request.elsewhere
        assert elsewhere is not None
        for spans in elsewhere:
            files.update([span.fd for span in spans.values()])
            copies += len(spans)
        if len(files) > MOST_FDS or copies > MOST_COPIES:
            return max(1, count)
    return most


def errand(pieces: Sequence[Piece], layout: Layout, signature: Signature) -> Errand:
    """Return what a run of these pieces copies; notes on their tickets what it stores.

    Outputs are written if they lie in rows as the file is to have them, and fit their place. The
    others are left to whoever encodes the answer, and has the words for those that do not fit.
    """
    fds: dict[int, int] = {}
    reads: list[Copy] = []
    writes: list[Copy] = []
    for piece in pieces:
        ticket = piece.ticket
        elsewhere = ticket.request.elsewhere
        assert elsewhere is not None
        for index, spec in enumerate(signature.inputs):
            source = elsewhere.sources.get(spec.name)
            if source is not None:
                reads.append(_copy(piece, index, layout.inputs[index], source, fds))
        stored: list[str] = []
        for index, spec in enumerate(signature.outputs if layout.outputs else ()):
            assert layout.outputs is not None
            field, target = layout.outputs[index], elsewhere.targets.get(spec.name)
            if target is not None and _fits(ticket, field, target):
                writes.append(_copy(piece, index, field, target, fds))
                stored.append(spec.name)
        ticket.stored = tuple(stored)
    asked = sum([piece.rows for piece in pieces])
    return Errand(Afar(asked, tuple(reads), tuple(writes)), tuple(fds))


def _fits(ticket: Ticket, field: Field, target: FileSpan) -> bool:
    rows = 1 if field.axis is None else ticket.rows
    return not field.axis and rows * field.row_bytes <= target.size


def _copy(piece: Piece, tensor: int, field: Field, span: FileSpan, fds: dict[int, int]) -> Copy:
    file, size = fds.setdefault(span.fd, len(fds)), field.row_bytes
    if field.axis is None:
        return Copy(file, tensor, span.at, field.offset, size)
    first = piece.ticket.first + piece.offset
    at, offset = span.at + piece.offset * size, field.offset + first * size
    return Copy(file, tensor, at, offset, piece.rows * size)
