"""Tensors in messages, written and read by hand, against protobuf's own reading and writing."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.protobuf import Malformed
from serving.tensor import BY_NAME, BYTES, DTYPES, Tensor, element_count
from serving.v1 import tensors
from serving.v1.stubs import serving_v1_pb2 as pb


@st.composite
def some_tensors(draw: st.DrawFn) -> list[tuple[Tensor, bool]]:
    found = []
    for _ in range(draw(st.integers(0, 4))):
        dtype = draw(st.sampled_from(DTYPES))
        shape = tuple(draw(st.lists(st.integers(0, 3), max_size=4)))
        count = element_count(shape)
        name = draw(st.text(max_size=20))
        if dtype.is_bytes:
            items = draw(st.lists(st.binary(max_size=9), min_size=count, max_size=count))
            found.append((Tensor(name, dtype, shape, items=items), draw(st.booleans())))
        else:
            data = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
            array = np.frombuffer(data, dtype.numpy).reshape(shape)
            found.append((Tensor(name, dtype, shape, array), False))
    return found


def message_of(tensor: Tensor, json: bool) -> pb.Tensor:
    message = pb.Tensor(name=tensor.name, dtype=tensor.dtype.name, shape=tensor.shape, json=json)
    if tensor.array is None:
        message.items.extend(tensor.items or ())
    else:
        message.data = tensor.array.tobytes()
    return message


@given(some_tensors())
def test_pack_writes_what_protobuf_reads(some: list[tuple[Tensor, bool]]) -> None:
    head = pb.PredictResponse(servable="m", version=3).SerializeToString()
    packed = tensors.pack(head, tensors.RESPONSE_OUTPUTS, some)
    assert pb.PredictResponse.FromString(packed) == pb.PredictResponse(
        servable="m", version=3, outputs=[message_of(t, json) for t, json in some]
    )


@given(some_tensors())
def test_unpack_reads_what_protobuf_writes(some: list[tuple[Tensor, bool]]) -> None:
    messages = [message_of(t, json) for t, json in some]
    whole = pb.PredictRequest(servable="m", inputs=messages, priority=2)
    parcel = tensors.unpack(whole.SerializeToString(), tensors.REQUEST_INPUTS)
    assert pb.PredictRequest.FromString(parcel.head) == pb.PredictRequest(servable="m", priority=2)
    for sealed, message in zip(parcel.tensors, messages, strict=True):
        rest, data = sealed.open()
        assert bytes(data) == message.data
        message.ClearField("data")
        assert rest == message


def test_numbers_are_views_of_the_message() -> None:
    array = np.arange(1000, dtype=np.float32)
    packed = tensors.pack(b"", tensors.REQUEST_INPUTS, [(Tensor.of("x", array), False)])
    sealed = tensors.unpack(packed, tensors.REQUEST_INPUTS).tensors[0]
    assert sealed.data is not None
    assert sealed.data.obj is packed
    assert len(sealed.head) < 30


def test_an_array_with_gaps_is_written_in_order() -> None:
    array = np.arange(12, dtype=np.int64).reshape(3, 4)[:, ::2]
    tensor = Tensor("x", BY_NAME["INT64"], (3, 2), array)
    packed = tensors.pack(b"", tensors.REQUEST_INPUTS, [(tensor, False)])
    assert pb.PredictRequest.FromString(packed).inputs[0].data == array.tobytes()


def test_many_strings_are_left_to_protobuf() -> None:
    items = [b"%d" % i for i in range(5000)]
    tensor = Tensor("x", BYTES, (5000,), items=items)
    packed = tensors.pack(b"", tensors.REQUEST_INPUTS, [(tensor, False)])
    sealed = tensors.unpack(packed, tensors.REQUEST_INPUTS).tensors[0]
    assert sealed.data is None
    message, data = sealed.open()
    assert list(message.items) == items
    assert len(data) == 0


def test_of_repeated_data_the_last_counts_as_protobuf_has_it() -> None:
    twice = pb.Tensor(data=b"abcd").SerializeToString() + pb.Tensor(data=b"ef").SerializeToString()
    assert pb.Tensor.FromString(twice).data == b"ef"
    body = tensors.protobuf.prefix(tensors.REQUEST_INPUTS, len(twice)) + twice
    _, data = tensors.unpack(body, tensors.REQUEST_INPUTS).tensors[0].open()
    assert bytes(data) == b"ef"


@given(st.binary(max_size=60))
def test_unpack_of_anything_ends_in_parts_or_malformed(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        for sealed in tensors.unpack(data, tensors.REQUEST_INPUTS).tensors:
            sealed.open()


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_message_cut_short_is_malformed(cut: int) -> None:
    array = np.arange(3, dtype=np.float32)
    packed = tensors.pack(b"", tensors.REQUEST_INPUTS, [(Tensor.of("x", array), False)])
    with pytest.raises(Malformed):
        tensors.unpack(packed[:-cut], tensors.REQUEST_INPUTS)
