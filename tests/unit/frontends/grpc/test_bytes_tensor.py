"""The length-prefixed strings of V2's binary data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import InvalidRequest
from serving.frontends.bytes_tensor import pack, unpack


def test_pack_writes_little_endian_lengths_before_each_element() -> None:
    assert pack([b"cat", b"", b"\x00x"]) == b"\x03\0\0\0cat\0\0\0\0\x02\0\0\0\x00x"


def test_pack_of_nothing_is_empty() -> None:
    assert pack([]) == b""
    assert unpack(memoryview(b""), 0, "x") == []


@given(st.lists(st.binary(max_size=300)))
def test_unpack_returns_what_was_packed(items: list[bytes]) -> None:
    assert unpack(memoryview(pack(items)), len(items), "x") == items


@pytest.mark.parametrize(
    ("data", "count", "fault"),
    [
        (b"\x03\0\0\0cat", 2, "at least 8 bytes"),
        (b"\x03\0\0\0cat\x01\0\0", 2, "3 bytes without a length"),
        (b"\x04\0\0\0cat", 1, "the length 4"),
        (b"\xff\xff\xff\xffcat", 1, "the length 4294967295"),
        (b"\x03\0\0\0cat\0\0\0\0", 1, "4 bytes after the last one"),
        (b"x", 0, "1 bytes after the last one"),
        (b"", 2**40, "at least"),
    ],
)
def test_unpack_refuses_lies_and_names_the_tensor(data: bytes, count: int, fault: str) -> None:
    with pytest.raises(InvalidRequest, match="BYTES tensor 'words'") as refused:
        unpack(memoryview(data), count, "words")
    assert fault in str(refused.value)
    assert refused.value.where == "inputs.words"
