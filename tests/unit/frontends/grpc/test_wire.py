"""Raw tensors cut out of requests and put into responses, against protobuf's own reading."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import protobuf
from serving.errors import InvalidRequest
from serving.frontends.grpc import wire
from serving.frontends.grpc.stubs import inference_v2_pb2 as pb

requests = st.builds(
    pb.ModelInferRequest,
    model_name=st.text(max_size=300),
    id=st.text(max_size=5),
    inputs=st.lists(
        st.builds(
            pb.ModelInferRequest.InferInputTensor,
            name=st.text(max_size=5),
            shape=st.lists(st.integers(0, 2**62), max_size=3),
        ),
        max_size=3,
    ),
    raw_input_contents=st.lists(st.binary(max_size=300), max_size=4),
)


@given(requests)
def test_split_agrees_with_protobuf(message: pb.ModelInferRequest) -> None:
    parcel = wire.split(message.SerializeToString())
    assert [bytes(r) for r in parcel.raw] == list(message.raw_input_contents)
    rest = pb.ModelInferRequest.FromString(parcel.head)
    assert not rest.raw_input_contents
    rest.raw_input_contents.extend(message.raw_input_contents)
    assert rest == message


@given(st.lists(requests, min_size=2, max_size=4))
def test_split_takes_raw_contents_from_any_place_in_the_message(
    messages: list[pb.ModelInferRequest],
) -> None:
    data = b"".join(m.SerializeToString() for m in messages)
    parcel = wire.split(data)
    whole = pb.ModelInferRequest.FromString(data)
    assert [bytes(r) for r in parcel.raw] == list(whole.raw_input_contents)
    whole.ClearField("raw_input_contents")
    assert pb.ModelInferRequest.FromString(parcel.head) == whole


def test_split_returns_views_of_the_message() -> None:
    data = pb.ModelInferRequest(raw_input_contents=[b"x" * 1000]).SerializeToString()
    (raw,) = wire.split(data).raw
    assert raw.obj is data


def test_split_passes_over_unknown_fields_of_every_kind() -> None:
    unknown = b"\x98\x06\x96\x01" + b"\x9d\x06abcd" + b"\x99\x06abcdefgh" + b"\x9a\x06\x02hi"
    parcel = wire.split(unknown + b"\x3a\x03abc")
    assert parcel.head == unknown
    assert [bytes(r) for r in parcel.raw] == [b"abc"]


def test_split_reads_a_tag_that_is_spelled_longer_than_needed() -> None:
    (raw,) = wire.split(b"\xba\x80\x00\x81\x00a").raw
    assert bytes(raw) == b"a"


@pytest.mark.parametrize(
    "data",
    [
        b"\x3a",
        b"\x3a\x05abc",
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01abc",
        b"\xff" * 20,
        b"\x0b\x0c",
        b"\x0d\x00",
        b"\x09\x00\x00\x00",
        b"not a message",
    ],
)
def test_split_refuses_what_is_no_message(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="not a valid protobuf message"):
        wire.split(data)


def test_split_stops_at_too_many_fields() -> None:
    assert len(wire.split(b"\x3a\x00" * wire.MAX_FIELDS).raw) == wire.MAX_FIELDS
    with pytest.raises(InvalidRequest, match="too many fields"):
        wire.split(b"\x3a\x00" * (wire.MAX_FIELDS + 1))


@given(st.lists(st.binary(max_size=300), max_size=4), st.text(max_size=5))
def test_join_writes_what_protobuf_reads(raw: list[bytes], id: str) -> None:
    head = pb.ModelInferResponse(id=id).SerializeToString()
    message = pb.ModelInferResponse.FromString(wire.join(head, raw))
    assert message == pb.ModelInferResponse(id=id, raw_output_contents=raw)


def test_join_counts_the_bytes_of_a_view_not_its_elements() -> None:
    view = np.arange(300, dtype=np.float32).data
    message = pb.ModelInferResponse.FromString(wire.join(b"", [view]))
    assert message.raw_output_contents[0] == view.tobytes()


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 16383, 16384, 2**31 - 1, 2**63])
def test_as_varint_is_the_length_protobuf_would_write(value: int) -> None:
    message = pb.InferParameter(uint64_param=value)
    assert message.SerializeToString() == b"\x28" + protobuf.as_varint(value)
