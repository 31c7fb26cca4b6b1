"""A head seen before decodes to the same request, with the values of the call at hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import InvalidRequest
from serving.frontends.grpc import v2_codec, wire
from serving.frontends.grpc.known_heads import KnownHeads
from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from serving.request import Description, InferRequest
from serving.tensor import BOOL, BYTES, FP32, INT64, BatchAxes, Signature, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("x", FP32, ("n", 2)), TensorSpec("k", INT64, ("n",)), TensorSpec("b", BOOL, ())),
    (TensorSpec("y", FP32, ("n", 2)), TensorSpec("z", FP32, ("n", 2))),
)
MODEL = Description("m", 3, SIGNATURE, BatchAxes(True, "test", (0, 0, None), (0, 0)), 8, "p")


def message(value: float, rows: int = 1, **fields: object) -> bytes:
    """Give the inputs in another order than the signature's."""
    tensor = pb.ModelInferRequest.InferInputTensor
    inputs = [
        tensor(name="k", datatype="INT64", shape=[rows]),
        tensor(name="b", datatype="BOOL", shape=[]),
        tensor(name="x", datatype="FP32", shape=[rows, 2]),
    ]
    raw = [
        np.full(rows, value, np.int64).tobytes(),
        b"\x01",
        np.full((rows, 2), value, np.float32).tobytes(),
    ]
    request = pb.ModelInferRequest(
        model_name="m",
        inputs=inputs,
        raw_input_contents=raw,
        **fields,  # type: ignore[arg-type]
    )
    return request.SerializeToString()


def learned(data: bytes) -> tuple[KnownHeads, InferRequest]:
    heads = KnownHeads()
    parcel = wire.split(data)
    request = pb.ModelInferRequest.FromString(parcel.head)
    decoded = v2_codec.decode(request, parcel.raw, MODEL, now=0.0, id="first")
    heads.learn(parcel, request, MODEL, decoded)
    return heads, decoded


def test_known_head_gives_the_request_with_the_values_at_hand() -> None:
    output = pb.ModelInferRequest.InferRequestedOutputTensor(name="z")
    heads, first = learned(message(1, outputs=[output]))
    parcel = wire.split(message(5, outputs=[output]))
    known = heads.find(parcel)
    assert known is not None
    assert known.description is MODEL
    again = known.request(parcel.raw, 7.0, "second")
    assert again is not None
    assert (again.id, again.deadline, again.outputs) == ("second", 7.0, ("z",))
    values = {tensor.name: tensor for tensor in again.inputs}
    assert values["x"].array is not None
    assert values["x"].array.tolist() == [[5.0, 5.0]]
    assert values["k"].array is not None
    assert values["k"].array.tolist() == [5]
    for tensor in first.inputs:
        assert (tensor.dtype, tensor.shape) == (
            values[tensor.name].dtype, values[tensor.name].shape,
        )  # fmt: skip


def test_known_head_of_another_shape_is_another_head() -> None:
    heads, _ = learned(message(1))
    assert heads.find(wire.split(message(1, rows=2))) is None


@pytest.mark.parametrize("fields", [{"id": "mine"}, {"parameters": {}}])
def test_known_heads_are_not_those_that_carry_values_of_one_call(fields: dict[str, object]) -> None:
    if "parameters" in fields:
        fields = {"parameters": {"priority": pb.InferParameter(int64_param=1)}}
    data = message(1, **fields)
    heads, _ = learned(data)
    assert heads.find(wire.split(data)) is None


@pytest.mark.parametrize("sized", [False, True])
def test_known_heads_do_not_say_how_long_strings_are(sized: bool) -> None:
    signature = Signature((TensorSpec("s", BYTES, ("n",)),), (TensorSpec("y", BYTES, ("n",)),))
    model = Description("m", 3, signature, BatchAxes(True, "test", (0,), (0,)), 8, "p")
    request = pb.ModelInferRequest(model_name="m", raw_input_contents=[b"\x03\0\0\0abc"])
    tensor = request.inputs.add(name="s", datatype="BYTES", shape=[1])
    if sized:
        tensor.parameters["binary_data_size"].int64_param = 7
    heads, parcel = KnownHeads(), wire.split(request.SerializeToString())
    head = pb.ModelInferRequest.FromString(parcel.head)
    heads.learn(parcel, head, model, v2_codec.decode(head, parcel.raw, model, now=0.0))
    assert (heads.find(parcel) is None) is sized


def test_known_head_with_too_few_bytes_is_refused_as_an_unknown_one_is() -> None:
    heads, _ = learned(message(1))
    parcel = wire.split(message(1))
    known = heads.find(parcel)
    assert known is not None
    short = (parcel.raw[0], parcel.raw[1], parcel.raw[2][:4])
    with pytest.raises(InvalidRequest) as caught:
        known.request(short, None, "")
    assert (caught.value.code, caught.value.where) == ("wrong_size", "inputs.x")
    assert known.request(parcel.raw[:2], None, "") is None


def test_known_heads_are_forgotten_rather_than_piled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.frontends.grpc.known_heads._MOST", 4)
    heads, _ = learned(message(1))
    for rows in range(2, 8):
        parcel = wire.split(message(1, rows=rows))
        request = pb.ModelInferRequest.FromString(parcel.head)
        heads.learn(parcel, request, MODEL, v2_codec.decode(request, parcel.raw, MODEL, now=0.0))
    assert heads.find(wire.split(message(1, rows=7))) is not None
    assert heads.find(wire.split(message(1))) is None


def lone(value: float, rows: int = 1, **fields: object) -> bytes:
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[rows, 2])
    raw = np.full((rows, 2), value, np.float32).tobytes()
    return pb.ModelInferRequest(
        model_name="one",
        inputs=[tensor],
        raw_input_contents=[raw],
        **fields,  # type: ignore[arg-type]
    ).SerializeToString()


LONE = Description(
    "one", 1, Signature(SIGNATURE.inputs[:1], SIGNATURE.outputs), BatchAxes.refused("no"), 1, "p"
)


def knowing(data: bytes) -> KnownHeads:
    heads = KnownHeads()
    parcel = wire.split(data)
    request = pb.ModelInferRequest.FromString(parcel.head)
    heads.learn(parcel, request, LONE, v2_codec.decode(request, parcel.raw, LONE, now=0.0))
    return heads


def test_message_that_begins_as_one_before_is_cut_without_being_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heads, data = knowing(lone(1)), lone(7)
    expected = wire.split(data)
    monkeypatch.setattr(wire, "split", None)
    assert heads.split(data) == expected
    known = heads.find(heads.split(data))
    assert known is not None
    (x,) = known.request(expected.raw, None, "").inputs  # type: ignore[union-attr]
    assert x.array is not None
    assert x.array.tolist() == [[7.0, 7.0]]


@given(st.binary(max_size=80), st.integers(0, 60), st.integers(0, 255))
def test_messages_are_cut_alike_whatever_came_before(other: bytes, at: int, byte: int) -> None:
    data = lone(1)
    heads = knowing(data)
    changed = data[:at] + bytes((byte,)) + data[at + 1 :]
    for message in (data, changed, data + other, other, lone(2, rows=2), message_behind(data)):
        assert _cut(heads, message) == _cut(KnownHeads(), message)


def message_behind(data: bytes) -> bytes:
    """Return a message whose tensor does not stand last."""
    return data + pb.ModelInferRequest(model_version="1").SerializeToString()


def test_message_with_something_behind_its_tensor_is_always_read() -> None:
    heads = knowing(message_behind(lone(1)))
    assert not heads._starts


def _cut(heads: KnownHeads, message: bytes) -> object:
    try:
        return heads.split(message)
    except InvalidRequest as refused:
        return refused.code
