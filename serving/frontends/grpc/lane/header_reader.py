"""Reads the header blocks of one connection, and knows those that it has read before.

A block may change the table that later blocks refer to (RFC 7541), so that the same bytes need
not mean the same twice. A block that changes nothing means the same until another one does:
those are remembered, and forgotten at the next change.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hpack import Decoder, HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from serving.frontends.grpc.entry import ShutOut
from serving.frontends.grpc.lane.faults import Code, ConnectionFault
from serving.frontends.grpc.lane.request_head import (
    Fields,
    Head,
    Malformed,
    WrongCall,
    extended,
    parse,
)

MAX_LIST_BYTES = 64 << 10
"""A header list over this ends the connection: the rest of the block cannot be read any more."""

_MOST_KNOWN = 64
_LONGEST_KNOWN = 1024
_MOST_FIELDS = 64
"""What clients repeat is short; a byte may stand for a long field, and all that is kept costs."""
_REFERENCES = re.compile(rb"[\x81-\xfe]*")
"""Fields that stand in the table, each in one byte (RFC 7541, section 6.1)."""

_RESIZE = rb"(?:[\x20-\x3e]|\x3f[\x80-\xff]*[\x00-\x7f])"
_RESIZED = re.compile(_RESIZE)
_RESIZED_TOO_OFTEN = re.compile(_RESIZE + rb"{3}")
"""A block begins with the changes of the table's size, two at most (RFC 7541, section 4.2)."""


class _Beginning(NamedTuple):
    """The fields that many blocks begin with, and the call that they are by themselves."""

    fields: Fields
    head: Head


class HeaderReader:
    """One for a connection; every header block must pass through it, in order.

    A call that ``shut_out`` does not let in has a head that says so.
    """

    __slots__ = ("_beginnings", "_decoder", "_known", "_shut_out", "_table")

    def __init__(self, shut_out: ShutOut | None = None) -> None:
        self._shut_out = shut_out
        self._decoder = Decoder(MAX_LIST_BYTES)
        self._table = _WatchedTable()
        self._decoder.header_table = self._table
        self._known: dict[bytes, Head] = {}
        self._beginnings: dict[bytes, _Beginning | None] = {}

    def request(self, block: bytes) -> Head:
        """Return the head of a call; raises Malformed, and ConnectionFault."""
        head = self._known.get(block)
        if head is not None:
            return head
        before = self._table.added
        end = _indexed(block)
        beginning = self._beginning(block[:end]) if 0 < end <= _MOST_FIELDS else None
        if beginning is None:
            head = parse(self.fields(block))
        else:
            # What differs from call to call, such as a trace, comes behind what does not.
            head = extended(beginning.head, beginning.fields, self.fields(block[end:]))
        if self._shut_out is not None and head.refusal is None:
            told = self._shut_out(head.path, head.metadata)
            if told is not None:  # looked at each time, so that each is counted
                return head._replace(refusal=WrongCall(told.code, told.details, told.trailers))
        short = len(block) <= _LONGEST_KNOWN and len(head.metadata) <= _MOST_FIELDS
        if self._table.added == before and short:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            if not _RESIZED.match(block):
                self._known[block] = head
        return head

    def known(self, block: bytes) -> Head | None:
        """Return the head of a call that was read before and means the same, None for all others.

        What is not known is to be read by ``request``.
        """
        return self._known.get(block)

    def _beginning(self, block: bytes) -> _Beginning | None:
        """Return what a block of nothing but references says; None where that is no call."""
        if block not in self._beginnings:
            fields = self.fields(block)
            try:
                found = _Beginning(fields, parse(fields))
            except Malformed:
                found = None
            if len(self._beginnings) >= _MOST_KNOWN:
                self._beginnings.clear()
            self._beginnings[block] = found
        return self._beginnings[block]

    def fields(self, block: bytes) -> Fields:
        """Return the fields of a block; raises ConnectionFault when it cannot be read."""
        before = self._table.added
        if _RESIZED_TOO_OFTEN.match(block):
            raise ConnectionFault(Code.COMPRESSION_ERROR, "the table's size is changed too often")
        try:
            return list(self._decoder.decode(block, raw=True))
        except OversizedHeaderListError:
            text = f"a header list of more than {MAX_LIST_BYTES} bytes"
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, text) from None
        except HPACKError:
            raise ConnectionFault(Code.COMPRESSION_ERROR, "a broken header block") from None
        finally:
            if self._table.added != before or _RESIZED.match(block):
                self._known.clear()
                self._beginnings.clear()


def _indexed(block: bytes) -> int:
    """Return where the references at the begin of a block end, 0 when another form is better.

    They change nothing, so that what follows them may be read by itself; but a change of the
    table's size behind them is a fault of the whole block.
    """
    end = _REFERENCES.match(block).end()  # type: ignore[union-attr]  # it matches nothing too
    if end < len(block) and _RESIZED.match(block, end):
        return 0
    return end


class _WatchedTable(HeaderTable):
    """Counts the entries that blocks have added."""

    def __init__(self) -> None:
        super().__init__()
        self.added = 0

    def add(self, name: bytes, value: bytes) -> None:
        """Count, and add an entry."""
        self.added += 1
        super().add(name, value)
