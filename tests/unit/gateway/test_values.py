"""Tensors and looks come through as they were, and nothing is read outside its memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving.channel.arena import Arena
from serving.gateway import values
from serving.gateway.looks import Reader, RequestLook, Spec, Writer
from serving.request import InferRequest, InferResponse
from serving.tensor import BF16, BYTES, DTYPES, FP32, TEXT, UINT8, Tensor, element_count

numbers = [dtype for dtype in DTYPES if dtype.numpy is not None]
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    shape = draw(shapes)
    name = draw(st.text(max_size=5))
    if draw(st.booleans()):
        dtype = draw(st.sampled_from(numbers))
        assert dtype.numpy is not None
        raw = draw(st.binary(min_size=64 * 8, max_size=64 * 8))
        array = np.frombuffer(raw, np.uint8)[: element_count(shape) * dtype.itemsize]
        if dtype.name == "BOOL":
            array = (array & 1).astype(np.uint8)
        return Tensor(name, dtype, shape, array.view(dtype.numpy).reshape(shape))
    count = element_count(shape)
    items = draw(st.lists(st.binary(max_size=9), min_size=count, max_size=count))
    return Tensor(name, BYTES, shape, items=items)


def spec(tensor: Tensor) -> Spec:
    return Spec(tensor.name, tensor.dtype, tensor.shape)


def same(one: Tensor, other: Tensor) -> bool:
    if (one.name, one.dtype, one.shape) != (other.name, other.dtype, other.shape):
        return False
    if one.array is None:
        return list(one.items or ()) == list(other.items or ())
    assert other.array is not None
    return one.array.tobytes() == other.array.tobytes()


@given(st.lists(tensors(), max_size=4))
def test_tensors_survive_a_message(given_: list[Tensor]) -> None:
    places, data = values.inline(given_)
    back = [values.read(spec(t), data, p.offset, p.nbytes) for t, p in zip(given_, places)]  # noqa: B905
    assert all(map(same, given_, back))


@given(st.lists(tensors(), max_size=4))
def test_tensors_survive_a_segment(given_: list[Tensor]) -> None:
    memory = np.zeros(values.room_for(given_), np.uint8)
    places = values.write(memory, 7, given_)
    back = [values.read(spec(t), memory, p.offset, p.nbytes) for t, p in zip(given_, places)]  # noqa: B905
    assert all(map(same, given_, back))
    assert {place.segment for place in places} <= {7}


@given(
    hnp.arrays(np.uint8, st.integers(0, 40)),
    st.sampled_from([FP32, BYTES, TEXT, UINT8, BF16]),
    st.lists(st.integers(-1, 2**40), max_size=3).map(tuple),
    st.integers(0, 50),
    st.integers(0, 50),
)
def test_what_does_not_lie_in_its_memory_is_a_value_error(
    memory: np.ndarray[Any, Any], dtype: Any, shape: tuple[int, ...], offset: int, nbytes: int
) -> None:
    try:
        found = values.read(Spec("x", dtype, shape), memory, offset, nbytes)
    except ValueError:
        return
    assert offset + nbytes <= len(memory)
    assert values.size_of(found) == nbytes


def test_tensor_in_a_segment_is_found_and_not_copied() -> None:
    arena = Arena(1 << 24)
    segment = arena.take(100_000, writable_elsewhere=True)
    array = segment.bytes[4096 : 4096 + 40_000].view(np.float32)
    inside = Tensor("x", FP32, array.shape, array)
    small = Tensor("y", FP32, (2,), np.ones(2, np.float32))
    found = values.placed((inside, small), arena.locate)
    assert found is not None
    (place, inline), data = found
    assert place == (segment.id, 4096, 40_000)
    assert (inline.segment, data) == (0, small.array.tobytes() if small.array is not None else b"")
    outside = Tensor("z", FP32, (10_000,), np.ones(10_000, np.float32))
    assert values.placed((inside, outside), arena.locate) is None
    reaching_out = segment.address + segment.size - 8
    assert arena.locate(reaching_out, 9) is None
    assert arena.locate(reaching_out, 8) == (segment, segment.size - 8)
    del array, inside
    arena.close()
    assert arena.locate(reaching_out, 8) is None


names = st.none() | st.lists(st.text(max_size=4), max_size=3).map(tuple)
parameters = st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4), max_size=2)


@given(
    st.text(max_size=8), st.none() | st.integers(0, 9) | st.text(max_size=4),
    st.none() | st.text(max_size=4), names, st.text(max_size=4), parameters,
    st.lists(tensors(), max_size=3),
)  # fmt: skip
def test_look_of_a_request_survives(
    servable: str, version: int | str | None, method: str | None, outputs: tuple[str, ...] | None,
    sequence: str, given_: dict[str, Any], inputs: Sequence[Tensor],
) -> None:  # fmt: skip
    request = InferRequest(
        servable, tuple(inputs), version, method, outputs, sequence=sequence, parameters=given_
    )
    look = RequestLook(
        servable, version, method, outputs, sequence, given_, tuple(spec(t) for t in inputs)
    )
    writer, reader = Writer(), Reader()
    for _ in range(2):  # the second time both remember
        assert reader.request(writer.request(request)) == look


def test_looks_that_differ_are_not_taken_for_each_other() -> None:
    writer = Writer()
    one = Tensor("x", FP32, (1,), np.ones(1, np.float32))
    other = Tensor("x", FP32, (2,), np.ones(2, np.float32))
    asked = [
        InferRequest("m", (one,)), InferRequest("m", (other,)), InferRequest("m", (one,), 1),
        InferRequest("m", (one,), "1"), InferRequest("m", (one,), None, "1"),
        InferRequest("m", (one,), outputs=()), InferRequest("m", (one,), sequence="s"),
    ]  # fmt: skip
    assert len({writer.request(request) for request in asked}) == len(asked)


def test_look_of_a_response_survives() -> None:
    response = InferResponse("m", 3, "id", (Tensor("y", FP32, (1, 2), np.ones((1, 2))),))
    look = Reader().response(Writer().response(response))
    assert (look.servable, look.version, look.specs) == ("m", 3, (Spec("y", FP32, (1, 2)),))


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", b'["m",null,null,null,"",{},[[1]]]'])
def test_what_is_no_look_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        Reader().request(data)
