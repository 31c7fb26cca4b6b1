"""Messages of the lane: cut out of a stream of bytes, unpacked, bounded."""

from __future__ import annotations

import gzip
import random
import sys
import tracemalloc
import zlib
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.frontends.grpc.lane import messages as lane_messages
from serving.frontends.grpc.lane.messages import (
    BadMessage,
    Inbox,
    Packed,
    check_encoding,
    unpacked,
)
from serving.frontends.grpc.status_code import StatusCode

from .raw import message

LIMIT = 1000


def given_to(inbox: Inbox, piece: bytes) -> None:
    """Hand a piece over as a connection does, and spoil it afterwards."""
    read = bytearray(piece)
    (inbox.put if len(piece) < inbox.room else inbox.feed)(memoryview(read))
    read[:] = b"\xaa" * len(read)


@pytest.mark.parametrize(("large", "share"), [(1 << 14, 64), (16, 1), (16, 4), (1, 64)])
@given(st.lists(st.tuples(st.binary(max_size=80), st.booleans()), max_size=8), st.data())
def test_messages_come_out_whatever_the_pieces(
    large: int, share: int, messages: list[tuple[bytes, bool]], data: st.DataObject
) -> None:
    """Also those that are put into a place of their own, from any size and part on."""
    whole = b"".join(message(*each) for each in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    with mock.patch.multiple(lane_messages, _LARGE=large, _SHARE=share):
        inbox = Inbox(LIMIT)
        found: list[Packed] = []
        fed = 0
        for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
            given_to(inbox, whole[start:end])
            fed += end - start
            assert inbox.held == fed - sum(5 + len(packed.data) for packed in found)
            while inbox.ready and data.draw(st.booleans()):
                found.append(inbox.take())
    while inbox.ready:
        found.append(inbox.take())
    assert [(bytes(packed.data), packed.compressed) for packed in found] == messages
    assert (inbox.within, inbox.held, inbox.room) == (False, 0, 0)


@pytest.mark.parametrize("size", [1, 7, 1023, 1024, 5000])
def test_a_large_message_is_put_together_from_pieces_of_any_size(size: int) -> None:
    content = random.Random(size).randbytes(300_000)
    inbox = Inbox(1 << 20)
    whole = message(content)
    for start in range(0, len(whole), size):
        assert inbox.within is (start > 0)
        given_to(inbox, whole[start : start + size])
    assert bytes(inbox.take().data) == content


def test_pieces_of_one_byte_do_not_cost_an_object_each() -> None:
    inbox = Inbox(1 << 20)
    inbox.feed(message(bytes(100_000))[:5])
    for _ in range(50_000):
        given_to(inbox, b"x")
    begun = sys.getallocatedblocks()
    for _ in range(10_000):
        given_to(inbox, b"x")
    assert sys.getallocatedblocks() - begun < 100


def test_a_message_that_is_only_announced_takes_no_memory() -> None:
    inbox = Inbox(1 << 30)
    inbox.feed(b"\0" + (1 << 30).to_bytes(4))
    for _ in range(100):
        inbox.feed(bytes(1000))
    assert inbox.room == 0
    tracemalloc.start()
    try:
        inbox.feed(bytes((1 << 24) - 200_000))
        assert tracemalloc.get_traced_memory()[0] < 40 << 20
        inbox.feed(bytes(200_000))
        assert inbox.room == (1 << 30) - (1 << 24) - 100_000
    finally:
        tracemalloc.stop()


def test_a_message_that_no_memory_is_left_for_is_refused() -> None:
    inbox = Inbox(1 << 20)
    with (
        mock.patch.object(lane_messages.body_memory, "room", side_effect=MemoryError),
        pytest.raises(BadMessage) as refused,
    ):
        inbox.feed(message(bytes(100_000)))
    assert refused.value.code is StatusCode.RESOURCE_EXHAUSTED


def test_a_message_over_the_limit_is_refused_by_its_prefix() -> None:
    inbox = Inbox(LIMIT)
    with pytest.raises(BadMessage) as refused:
        inbox.feed(b"\0" + (LIMIT + 1).to_bytes(4))
    assert refused.value.code is StatusCode.RESOURCE_EXHAUSTED
    assert str(refused.value) == "SERVER: Received message larger than max (1001 vs. 1000)"


def test_a_message_at_the_limit_is_taken() -> None:
    inbox = Inbox(LIMIT)
    inbox.feed(message(bytes(LIMIT)))
    assert len(inbox.take().data) == LIMIT


def test_a_prefix_that_is_none_is_refused() -> None:
    with pytest.raises(BadMessage) as refused:
        Inbox(LIMIT).feed(b"\2\0\0\0\0")
    assert refused.value.code is StatusCode.INTERNAL


@pytest.mark.parametrize("size", [0, 1, 999, 1000])
@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
def test_packed_messages_are_unpacked(encoding: bytes, size: int) -> None:
    content = random.Random(size).randbytes(size)
    packed = gzip.compress(content, mtime=0) if encoding == b"gzip" else zlib.compress(content)
    assert unpacked(Packed(True, packed), encoding, LIMIT) == content


def test_a_message_that_unpacks_to_too_much_is_refused_before_it_does() -> None:
    bomb = gzip.compress(bytes(300 << 20), 9, mtime=0)
    assert len(bomb) < 400_000
    with pytest.raises(BadMessage) as refused:
        unpacked(Packed(True, bomb), b"gzip", LIMIT)
    assert refused.value.code is StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not gzip at all",
        gzip.compress(b"x" * 500, mtime=0)[:-1],
        gzip.compress(b"x" * 500, mtime=0) + b"more",
        gzip.compress(b"x", mtime=0) + gzip.compress(b"y", mtime=0),
        gzip.compress(b"x" * 500, mtime=0)[:-8] + bytes(8),
        zlib.compress(b"other"),
    ],
)
def test_damaged_messages_are_refused(data: bytes) -> None:
    with pytest.raises(BadMessage) as refused:
        unpacked(Packed(True, data), b"gzip", LIMIT)
    assert refused.value.code is StatusCode.INTERNAL


def test_a_packed_message_needs_an_encoding() -> None:
    with pytest.raises(BadMessage) as refused:
        unpacked(Packed(True, b""), b"identity", LIMIT)
    assert refused.value.code is StatusCode.INTERNAL


@pytest.mark.parametrize("encoding", [b"br", b"snappy", b"GZIP", b""])
def test_other_encodings_are_not_read(encoding: bytes) -> None:
    with pytest.raises(BadMessage) as refused:
        check_encoding(encoding)
    assert refused.value.code is StatusCode.UNIMPLEMENTED
