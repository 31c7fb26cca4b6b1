"""Packets survive the way through a segment, and what is damaged is refused, not believed."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving.channel.packet import MOST_TENSORS, Outcome, read, size_of, write
from serving.tensor import BF16, BYTES, DTYPES, TEXT, Array, Tensor

shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
numeric = [d for d in DTYPES if d.numpy is not None]


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    dtype = draw(st.sampled_from([*numeric, BYTES, TEXT]))
    shape = draw(shapes)
    count = int(np.prod(shape))
    if dtype.numpy is not None:
        raw = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
        return Tensor("", dtype, shape, np.frombuffer(raw, dtype.numpy).reshape(shape))
    text = st.text(max_size=20).map(str.encode)
    item = text if dtype is TEXT else st.binary(max_size=20)
    return Tensor("", dtype, shape, items=draw(st.lists(item, min_size=count, max_size=count)))


outcomes = st.lists(st.lists(tensors(), max_size=3).map(tuple) | st.text(max_size=50), max_size=5)


def packed(instances: list[Outcome], spare: int = 0) -> Array:
    memory = np.full(size_of(instances) + spare, 0xEE, np.uint8)
    write(memory, instances)
    return memory


def content(outcome: Outcome) -> object:
    if isinstance(outcome, str):
        return outcome
    return [
        (t.dtype, t.shape, t.array.tobytes() if t.array is not None else list(t.items or ()))
        for t in outcome
    ]


@given(outcomes, st.integers(0, 100))
def test_packet_gives_back_what_was_written(instances: list[Outcome], spare: int) -> None:
    found = read(packed(instances, spare))
    assert [content(o) for o in found] == [content(o) for o in instances]


@given(outcomes)
def test_packet_needs_exactly_the_memory_it_says(instances: list[Outcome]) -> None:
    memory = packed(instances, 64)
    assert (memory[size_of(instances) :] == 0xEE).all()


def test_packet_is_read_as_views_at_64_byte_borders() -> None:
    memory = packed([(Tensor.of("", np.arange(3)), Tensor.of("", np.float32(2.5)))])
    [values] = read(memory)
    assert not isinstance(values, str)
    begin = memory.__array_interface__["data"][0]
    for tensor in values:
        assert tensor.array is not None
        assert np.shares_memory(tensor.array, memory)
        assert (tensor.array.__array_interface__["data"][0] - begin) % 64 == 0


def test_packet_takes_arrays_that_do_not_lie_in_c_order() -> None:
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    [values] = read(packed([(Tensor("", numeric[7], (3, 2), array.T),)]))
    assert not isinstance(values, str)
    assert values[0].array is not None
    assert values[0].array.tolist() == [[0, 3], [1, 4], [2, 5]]


def test_packet_cuts_a_long_error_text() -> None:
    [text] = read(packed(["x" * 10_000]))
    assert isinstance(text, str)
    assert text.startswith("xxx")
    assert len(text) <= 4096


@given(outcomes, st.data())
def test_packet_that_was_tampered_with_is_refused_or_stays_inside(
    instances: list[Outcome], data: st.DataObject
) -> None:
    memory = packed(instances)
    before = memory.size
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, memory.size - 1))
        memory[at] = data.draw(st.integers(0, 255))
    memory = memory[: data.draw(st.integers(0, before))]
    try:
        found = read(memory)
    except ValueError:
        return
    held = 0
    for outcome in found:
        for tensor in () if isinstance(outcome, str) else outcome:
            held += tensor.nbytes
            if tensor.array is not None and tensor.array.size:
                assert np.shares_memory(tensor.array, memory)
            if tensor.dtype is TEXT:
                assert all(item.decode() is not None for item in tensor.items or ())
    assert held <= before


def record(dtype: int, offset: int, nbytes: int, *shape: int) -> bytes:
    return struct.pack("<BBQQ", dtype, len(shape), offset, nbytes) + struct.pack(
        f"<{len(shape)}q", *shape
    )


def forged(entries: bytes, instances: int = 1, size: int = 4096, claim: int | None = None) -> Array:
    memory = np.zeros(size, np.uint8)
    length = len(entries) if claim is None else claim
    head = struct.pack("<II", instances, length) + entries
    memory[: len(head)] = np.frombuffer(head, np.uint8)
    return memory


ONE = struct.pack("<I", 1)
FP32_CODE, TEXT_CODE = 11, 15


@pytest.mark.parametrize(
    "memory",
    [
        np.zeros(0, np.uint8),
        np.zeros(7, np.uint8),
        forged(b"", instances=1),
        forged(b"", instances=2**32 - 1),
        forged(b"", claim=2**32 - 1),
        forged(ONE + record(FP32_CODE, 0, 8, 1)),
        forged(ONE + record(FP32_CODE, 0, 4, 2)),
        forged(ONE + record(FP32_CODE, 4096, 4, 1)),
        forged(ONE + record(FP32_CODE, 2**64 - 64, 64, 16)),
        forged(ONE + record(FP32_CODE, 1, 4, 1)),
        forged(ONE + record(FP32_CODE, 64, 4, -1, -1)),
        forged(ONE + record(FP32_CODE, 64, 0, 0, 2**62, 2**62)),
        forged(ONE + record(FP32_CODE, 64, 4, *[1] * 40)),
        forged(ONE + record(0, 64, 4, 1)),
        forged(ONE + record(200, 64, 4, 1)),
        forged(ONE + record(TEXT_CODE, 64, 16, 2**60)),
        forged(struct.pack("<II", 2**32 - 1, 5000)),
        forged(struct.pack("<I", MOST_TENSORS + 1)),
        forged(struct.pack("<I", 2) + 2 * record(FP32_CODE, 0, 4096, 1024)),
    ],
    ids=lambda memory: str(memory.size),
)
def test_packet_that_does_not_hold_together_is_refused(memory: Array) -> None:
    with pytest.raises(ValueError):
        read(memory)


@pytest.mark.parametrize("entry", [(0, 5000), (2**64 - 1, 2), (4000, 97), (0, 2**64 - 1)])
def test_packet_with_a_string_outside_of_it_is_refused(entry: tuple[int, int]) -> None:
    memory = forged(ONE + record(TEXT_CODE, 64, 4032, 1))
    memory[64:80] = np.frombuffer(struct.pack("<QQ", *entry), np.uint8)
    with pytest.raises(ValueError, match="string"):
        read(memory)


def test_packet_whose_strings_share_their_bytes_is_refused() -> None:
    """Copied apart, a few of them could fill the memory of whoever reads."""
    memory = forged(ONE + record(TEXT_CODE, 64, 4032, 200))
    entries = struct.pack("<QQ", 0, 4000) * 200
    memory[64 : 64 + len(entries)] = np.frombuffer(entries, np.uint8)
    with pytest.raises(ValueError, match="string"):
        read(memory)


def test_packet_with_text_that_is_not_utf8_is_refused() -> None:
    memory = packed([(Tensor("", BYTES, (), items=[b"\xff\xfe"]),)])
    at = memory.tobytes().index(bytes((BYTES.code, 0)), 8)
    memory[at] = TEXT.code
    with pytest.raises(ValueError, match="utf-8"):
        read(memory)


def test_packet_carries_bfloat16_patterns() -> None:
    [values] = read(packed([(Tensor("", BF16, (2,), np.array([0x3F80, 0xC000], np.uint16)),)]))
    assert not isinstance(values, str)
    assert values[0].dtype is BF16
    assert values[0].array is not None
    assert values[0].array.tolist() == [0x3F80, 0xC000]
