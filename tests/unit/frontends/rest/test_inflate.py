"""Compressed bodies."""

from __future__ import annotations

import gzip
import time
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import InvalidRequest, TooLarge, UnsupportedMedia
from serving.frontends.rest.inflate import inflate

MIB = 1 << 20


def bare_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


@given(st.binary(max_size=2000))
def test_every_coding_gives_the_body_back(data: bytes) -> None:
    assert inflate(gzip.compress(data), b"gzip", MIB) == data
    assert inflate(gzip.compress(data), b"X-GZIP", MIB) == data
    assert inflate(zlib.compress(data), b"deflate", MIB) == data
    assert inflate(data, b"identity", MIB) == data
    assert inflate(data, b"", MIB) == data


def test_bare_deflate_data_is_recognised() -> None:
    data = b"a body of some length, " * 50
    assert inflate(bare_deflate(data), b"deflate", MIB) == data


def test_gzip_members_follow_one_another() -> None:
    assert inflate(gzip.compress(b"ab") + gzip.compress(b"") + gzip.compress(b"c"), b"gzip", 9) == (
        b"abc"
    )


@pytest.mark.parametrize("size", [100, 3 * MIB])
def test_the_limit_is_exact(size: int) -> None:
    packed = gzip.compress(bytes(size))
    assert len(inflate(packed, b"gzip", size)) == size
    with pytest.raises(TooLarge):
        inflate(packed, b"gzip", size - 1)


def test_a_bomb_is_refused_in_little_memory() -> None:
    bomb = gzip.compress(bytes(200 * MIB), 9)
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            inflate(bomb, b"gzip", 4 * MIB)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * MIB


def test_thousands_of_empty_members_are_refused_quickly() -> None:
    many = gzip.compress(b"") * 100_000
    start = time.monotonic()
    with pytest.raises(InvalidRequest):
        inflate(many, b"gzip", MIB)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("coding", [b"gzip", b"deflate"])
@pytest.mark.parametrize("kind", ["empty", "text", "cut", "damaged", "trailing"])
def test_damaged_data_is_the_callers_mistake(coding: bytes, kind: str) -> None:
    good = (gzip.compress if coding == b"gzip" else zlib.compress)(b"some text" * 100)
    body = {
        "empty": b"",
        "text": b'{"inputs": []}',
        "cut": good[:-3],
        "damaged": good[:12] + b"\xff\xff" + good[14:],
        "trailing": good + b"more",
    }[kind]
    with pytest.raises(InvalidRequest) as caught:
        inflate(body, coding, MIB)
    assert caught.value.code == "bad_compression"


@pytest.mark.parametrize("coding", [b"br", b"gzip, gzip", b"\xff", b"zstd"])
def test_other_codings_are_unsupported(coding: bytes) -> None:
    with pytest.raises(UnsupportedMedia):
        inflate(b"x", coding, MIB)
