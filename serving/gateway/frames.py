"""Messages as frames of one stream, many of which travel in one send.

::

    +-------------+---------+-------------------+
    | length u32  | kind u8 | ``length`` bytes  |
    +-------------+---------+-------------------+

What a request needs is packed, the rest is JSON.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import asdict
from typing import Any

from serving.gateway.messages import (
    Abandon,
    AbandonRow,
    Answer,
    Ask,
    Back,
    Begin,
    Claim,
    Counted,
    Deny,
    Drain,
    Drained,
    Failed,
    Forget,
    Gather,
    Gone,
    Hello,
    Lend,
    Message,
    Opened,
    Ping,
    Place,
    Pong,
    Ready,
    Refused,
    Release,
    RowsAnswer,
    RowsFailed,
    Share,
    Stop,
    Table,
    Told,
    Unshare,
    Unused,
    Want,
)

HEAD = struct.Struct("<IB")
LONGEST = 1 << 31
"""A frame that says it is longer comes from a broken process."""

_AS_JSON: dict[int, Any] = {
    kind.KIND: kind
    for kind in (
        Hello, Opened, Want, Back, Counted, Ask, Pong, Drained,
        Begin, Failed, Lend, Deny, Forget, Table, Ready, Told, Refused, Ping, Drain, Stop,
        RowsFailed, Share, Unshare, Unused,
    )
}  # fmt: skip

CLAIM, ANSWER, ABANDON, RELEASE, GONE, GATHER, ROWS_ANSWER, ABANDON_ROW = 1, 2, 3, 4, 5, 6, 7, 8

# serial u64, generation u64, deadline f64 (NaN: none), priority i32, then the bytes of the look
# u32, of the id u32, of what lies afar u32, and the number of places u32; then look, id, afar,
# places and data
_CLAIM = struct.Struct("<QQdiIIII")
# serial u64, held u8, bytes of the look u32, places u32; then look, places and data
_ANSWER = struct.Struct("<QBII")
_SERIAL = struct.Struct("<Q")
# serial u64, generation u64, rows of each u32, bytes of the look u32; then look, place and data
_GATHER = struct.Struct("<QQII")
# serial u64, first u32, callers u32, bytes of the look u32, places u32; then look, places and data
_ROWS_ANSWER = struct.Struct("<QIIII")
# serial u64, caller u32
_CALLER = struct.Struct("<QI")
# segment u32, offset u64, bytes u64
_PLACE = struct.Struct("<IQQ")

_NUMBERS = {Abandon: ABANDON, Release: RELEASE, Gone: GONE}
_OF_NUMBER: dict[int, type[Abandon] | type[Release] | type[Gone]] = {
    ABANDON: Abandon,
    RELEASE: Release,
    GONE: Gone,
}


def encode(message: Message) -> bytes:
    """Turn a message into a frame."""
    if isinstance(message, Claim):
        return _encode_claim(message)
    if isinstance(message, Answer):
        head = _ANSWER.pack(message.serial, message.held, len(message.look), len(message.places))
        return _framed(ANSWER, head, message.look, _packed(message.places), message.data)
    if isinstance(message, Abandon | Release | Gone):
        return HEAD.pack(_SERIAL.size, _NUMBERS[type(message)]) + _SERIAL.pack(message.serial)
    if isinstance(message, Gather):
        head = _GATHER.pack(message.serial, message.generation, message.unit, len(message.look))
        return _framed(GATHER, head, message.look, _PLACE.pack(*message.place), message.data)
    if isinstance(message, RowsAnswer):
        counts = (len(message.look), len(message.places))
        head = _ROWS_ANSWER.pack(message.serial, message.first, message.callers, *counts)
        return _framed(ROWS_ANSWER, head, message.look, _packed(message.places), message.data)
    if isinstance(message, AbandonRow):
        return _framed(ABANDON_ROW, _CALLER.pack(*message))
    body = json.dumps(asdict(message)).encode()
    return HEAD.pack(len(body), message.KIND) + body


def decode(kind: int, body: bytes) -> Message:
    """Turn the kind and the bytes of a frame back into a message; raises ValueError."""
    try:
        if kind == CLAIM:
            return _decode_claim(body)
        if kind == ANSWER:
            return _decode_answer(body)
        if kind == GATHER:
            return _decode_gather(body)
        if kind == ROWS_ANSWER:
            return _decode_rows_answer(body)
        if kind == ABANDON_ROW:
            return AbandonRow(*_CALLER.unpack(body))
        number = _OF_NUMBER.get(kind)
        if number is not None:
            return number(*_SERIAL.unpack(body))
        message: Message = _AS_JSON[kind](**json.loads(body))
        return message
    except (struct.error, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"{len(body)} bytes of kind {kind} are no message: {error}") from error


def _framed(kind: int, *parts: bytes) -> bytes:
    return b"".join((HEAD.pack(sum(map(len, parts)), kind), *parts))


def _encode_claim(claim: Claim) -> bytes:
    id = claim.id.encode("utf-8", "surrogatepass")
    deadline = math.nan if claim.deadline is None else claim.deadline
    head = _CLAIM.pack(
        claim.serial, claim.generation, deadline, claim.priority,
        len(claim.look), len(id), len(claim.afar), len(claim.places),
    )  # fmt: skip
    return _framed(CLAIM, head, claim.look, id, claim.afar, _packed(claim.places), claim.data)


def _decode_claim(body: bytes) -> Claim:
    serial, generation, deadline, priority, look, id, far, count = _CLAIM.unpack_from(body)
    at = _CLAIM.size
    words = body[at : at + look]
    at += look
    name = body[at : at + id].decode("utf-8", "surrogatepass") if id else ""
    at += id
    afar = body[at : at + far]
    places, at = _unpacked(body, at + far, count)
    due = None if math.isnan(deadline) else deadline
    return Claim(serial, generation, due, priority, words, name, places, body[at:], afar)


def _decode_answer(body: bytes) -> Answer:
    serial, held, look, count = _ANSWER.unpack_from(body)
    at = _ANSWER.size
    words = body[at : at + look]
    places, at = _unpacked(body, at + look, count)
    return Answer(serial, bool(held), words, places, body[at:])


def _decode_gather(body: bytes) -> Gather:
    serial, generation, unit, look = _GATHER.unpack_from(body)
    at = _GATHER.size + look
    (place,), end = _unpacked(body, at, 1)
    return Gather(serial, generation, unit, body[_GATHER.size : at], place, body[end:])


def _decode_rows_answer(body: bytes) -> RowsAnswer:
    serial, first, callers, look, number = _ROWS_ANSWER.unpack_from(body)
    at = _ROWS_ANSWER.size + look
    places, end = _unpacked(body, at, number)
    return RowsAnswer(serial, first, callers, body[_ROWS_ANSWER.size : at], places, body[end:])


def _packed(places: tuple[Place, ...]) -> bytes:
    if len(places) == 1:
        return _PLACE.pack(*places[0])
    return b"".join([_PLACE.pack(*place) for place in places])


def _unpacked(body: bytes, at: int, count: int) -> tuple[tuple[Place, ...], int]:
    end = at + count * _PLACE.size
    if end > len(body):
        raise ValueError("a message promises more places than it has")
    return tuple([Place(*found) for found in _PLACE.iter_unpack(body[at:end])]), end
