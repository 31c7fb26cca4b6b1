"""Messages of MindSpore Serving: what is read out of them, refused, and written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from serving.errors import InvalidRequest, ServingError, Unimplemented
from serving.frontends.grpc import ms_codec
from serving.frontends.grpc.stubs import ms_service_pb2 as pb
from serving.frontends.mindspore import types
from serving.frontends.mindspore.failures import Failure
from serving.frontends.mindspore.instances import MAX_INSTANCES, Common
from serving.frontends.mindspore.target import Target
from serving.request import Description, InferRequest, InferResponse
from serving.tensor import BF16, BOOL, BYTES, FP32, Tensor, TensorSpec
from tests.unit.frontends.rest.served import describe_as, spec

TARGET = Target("m", "predict", 0)
NUMBERS = [kind for kind in types.TYPES if kind.dtype is not BYTES]


def tensor(number: int, *shape: int, data: bytes = b"", items: tuple[bytes, ...] = ()) -> pb.Tensor:
    message = pb.Tensor(shape=pb.TensorShape(dims=shape), bytes_val=items)
    message.dtype = number  # type: ignore[assignment]
    if not items:
        message.data = data
    return message


def request(**inputs: pb.Tensor) -> pb.PredictRequest:
    message = pb.PredictRequest(servable_spec=pb.ServableSpec(name="m", method_name="predict"))
    items = message.instances.add().items
    for name, value in inputs.items():
        items[name].CopyFrom(value)
    return message


def decode(description: Description, message: pb.PredictRequest) -> Any:
    parsed = ms_codec.parse(message.SerializeToString())
    return ms_codec.decode(parsed, TARGET, description, Common("", None))


def encode(description: Description, *outcomes: InferResponse | ServingError) -> pb.PredictReply:
    data = ms_codec.encode(request(), TARGET, description, outcomes)
    return pb.PredictReply.FromString(data)


def answer(*outputs: Tensor) -> InferResponse:
    return InferResponse("m", 1, "", outputs)


@pytest.mark.parametrize("kind", NUMBERS, ids=lambda kind: kind.word)
def test_numbers_of_every_type_come_and_go_bit_for_bit(kind: types.MsType) -> None:
    described = describe_as((spec("x", kind.dtype, "n", 2, 3),))
    array = np.arange(6).astype(kind.dtype.numpy)
    (found,) = decode(described, request(x=tensor(kind.number, 2, 3, data=array.tobytes())))
    assert isinstance(found, InferRequest)
    assert np.array_equal(found.inputs[0].array, array.reshape(1, 2, 3))
    reply = encode(described, answer(*found.inputs))
    assert reply.instances[0].items["x"] == tensor(kind.number, 2, 3, data=array.tobytes())


def test_numbers_of_the_wire_are_those_of_the_message() -> None:
    assert {kind.number: f"MS_{kind.word.upper()}" for kind in types.TYPES} == {
        number: name.replace("STRING", "STR") for name, number in pb.DataType.items() if number
    }
    reply, item = pb.PredictReply.DESCRIPTOR, pb.Instance.DESCRIPTOR
    known = pb.Tensor.DESCRIPTOR.fields_by_name
    assert pb.PredictRequest.DESCRIPTOR.fields_by_name["instances"].number == ms_codec._GIVEN
    assert reply.fields_by_name["instances"].number == ms_codec._INSTANCES
    assert item.fields_by_name["items"].number == ms_codec._ITEMS
    assert known["data"].number == ms_codec._DATA
    assert known["bytes_val"].number == ms_codec._STRINGS


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (tensor(11, 2, data=bytes(7)), "Tensor check failed: input data size 7 invalid"),
        (tensor(11, -1, 2, data=bytes(8)), "Tensor check failed: input  shape [-1, 2] invalid"),
        (tensor(11, 0, 2), "Tensor check failed: input  shape [0, 2] invalid"),
        (tensor(11, *[2] * 100_000), "Tensor check failed: input  shape of more than 32 axes"),
        (tensor(0, 2, data=bytes(8)), "input data type proto::MS_UNKNOWN invalid"),
        (tensor(77, 2, data=bytes(8)), "input data type proto::77 invalid"),
        (tensor(1, 2, data=b"\1\2"), "Tensor check failed: a bool is neither 0 nor 1"),
        (tensor(13, 1, items=(b"\xff",)), "Tensor check failed: a string is not UTF-8"),
        (tensor(13, 2, items=(b"a", b"b")), "shape batch size can only be 1"),
        (tensor(14, 2, items=(b"a",)), "but given shape is [2]"),
        (tensor(14, 1), "shape batch size can only be 1"),
    ],
)
def test_a_tensor_that_is_none_refuses_its_request(given: pb.Tensor, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode(describe_as((spec("x", FP32, "n", 2),)), request(x=given))
    assert str(refused.value).startswith("Instances input x check failed, detail: ")
    assert said in str(refused.value)


def test_a_shape_that_no_tensor_can_have_is_refused_where_sizes_vary() -> None:
    described = describe_as((TensorSpec("x", FP32, None),))
    (found,) = decode(described, request(x=tensor(11, *[2**40] * 31, 0)))
    assert isinstance(found, InvalidRequest)


def test_bytes_may_be_anything_and_come_back_as_bytes() -> None:
    described = describe_as((spec("x", BYTES, "n"),))
    (found,) = decode(described, request(x=tensor(14, items=(b"\xff\0",))))
    reply = encode(described, answer(*found.inputs))
    assert reply.instances[0].items["x"] == tensor(14, items=(b"\xff\0",))


def test_text_comes_back_as_a_string_and_several_as_several() -> None:
    described = describe_as((spec("x", BYTES, "n", 2),))
    words = Tensor("x", BYTES, (1, 2), items=["é".encode(), b""])
    reply = encode(described, answer(words))
    assert reply.instances[0].items["x"] == tensor(13, 2, items=("é".encode(), b""))


def by_input(message: pb.PredictRequest) -> None:
    message.instances[0].items["x"].shm_data.memory_key = "x"


def by_output(message: pb.PredictRequest) -> None:
    message.instances[0].output_buffers["y"].memory_key = "y"


@pytest.mark.parametrize("share", [by_input, by_output])
def test_shared_memory_is_refused(share: Callable[[pb.PredictRequest], None]) -> None:
    message = request(x=tensor(11, 2, data=bytes(8)))
    share(message)
    with pytest.raises(Unimplemented, match="Shared memory is not opened"):
        decode(describe_as((spec("x", FP32, "n", 2),)), message)


def test_bytes_that_are_no_message_are_refused() -> None:
    with pytest.raises(ms_codec.Unreadable):
        ms_codec.parse(b"\xff\xff\xff\xff\x01\x02")


def test_too_many_instances_are_refused_before_they_take_memory() -> None:
    with pytest.raises(InvalidRequest, match="too many instances; expected at most 16384"):
        ms_codec.parse(b"\x12\x00" * 10_000_000)
    most = pb.PredictRequest(instances=[pb.Instance()] * MAX_INSTANCES)
    most.servable_spec.name = "n" * ms_codec.HEAVY_BYTES
    assert len(ms_codec.parse(most.SerializeToString()).instances) == MAX_INSTANCES


def test_a_large_message_that_is_cut_short_is_refused() -> None:
    message = request(x=tensor(11, 2**17, data=bytes(2**19))).SerializeToString()
    with pytest.raises(ms_codec.Unreadable):
        ms_codec.parse(message[:-1])


def test_a_mixed_reply_has_an_entry_for_each_instance() -> None:
    described = describe_as((spec("x", FP32, "n", 1),))
    good = answer(Tensor("x", FP32, (1, 1), np.ones((1, 1), np.float32)))
    reply = encode(described, good, InvalidRequest("wrong"), good)
    assert [len(instance.items) for instance in reply.instances] == [1, 0, 1]
    assert [(e.error_code, e.error_msg) for e in reply.error_msg] == [
        (0, b""), (2, b"wrong"), (0, b""),
    ]  # fmt: skip


def test_a_reply_of_one_failure_has_no_instances() -> None:
    described = describe_as((spec("x", FP32, "n", 1),))
    reply = encode(described, InvalidRequest("wrong"))
    assert (len(reply.instances), len(reply.error_msg)) == (0, 1)


def test_a_refusal_repeats_what_was_asked_for() -> None:
    message = request()
    message.servable_spec.version_number = 7
    reply = pb.PredictReply.FromString(
        ms_codec.refusal(ms_codec.spec(message), Failure(2, "no \ud800"))
    )
    assert reply.servable_spec == message.servable_spec
    assert [(e.error_code, e.error_msg) for e in reply.error_msg] == [(2, b"no ?")]


def test_an_output_of_no_elements_has_a_shape_and_no_data() -> None:
    described = describe_as((spec("x", FP32, "n", 2, 0),))
    reply = encode(described, answer(Tensor("x", FP32, (1, 2, 0), np.zeros((1, 2, 0), "<f4"))))
    found = reply.instances[0].items["x"]
    assert not found.HasField("data")
    assert list(found.shape.dims) == [2, 0]


def test_a_scalar_has_a_shape_without_axes() -> None:
    described = describe_as((spec("x", BOOL, "n"),))
    reply = encode(described, answer(Tensor("x", BOOL, (1,), np.ones(1, bool))))
    assert reply.instances[0].items["x"] == tensor(1, data=b"\1")
    assert reply.instances[0].items["x"].HasField("shape")


def test_bf16_goes_out_as_the_float32_it_is() -> None:
    described = describe_as((spec("x", BF16, "n"),))
    reply = encode(described, answer(Tensor("x", BF16, (1,), np.array([0x3FC0], "<u2"))))
    assert reply.instances[0].items["x"] == tensor(11, data=np.float32(1.5).tobytes())


def test_an_output_that_all_rows_share_goes_to_each() -> None:
    described = describe_as(
        (spec("x", FP32, "n"),), (spec("t", FP32, 3),), axes=(0,), out_axes=(None,)
    )
    reply = encode(described, answer(Tensor("t", FP32, (3,), np.ones(3, "<f4"))))
    assert list(reply.instances[0].items["t"].shape.dims) == [3]
