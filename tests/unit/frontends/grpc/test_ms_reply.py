"""A reply to a message like one before is, byte for byte, what the codec writes."""

from __future__ import annotations

import numpy as np
import pytest

from serving.errors import ExecutionFailed, InternalError
from serving.frontends.grpc import ms_reply
from serving.frontends.grpc.ms_reply import Reply
from serving.frontends.grpc.stubs import ms_service_pb2 as pb
from serving.frontends.mindspore.target import Target
from serving.request import Description, InferResponse
from serving.tensor import (
    ANY,
    BF16,
    BOOL,
    BYTES,
    FP16,
    FP32,
    INT64,
    TEXT,
    BatchAxes,
    DType,
    Signature,
    Tensor,
    TensorSpec,
)

TARGET = Target("kinds", "many", 3)
SPEC = pb.PredictReply(
    servable_spec=pb.ServableSpec(name="kinds", method_name="many", version_number=3)
).SerializeToString()


def described(*names: str, dtype: DType = ANY, axis: int | None = 0) -> Description:
    specs = tuple(TensorSpec(name, dtype, None) for name in names)
    axes = BatchAxes(True, "test", (), (axis,) * len(names))
    return Description("kinds", 3, Signature((), specs), axes, 8, "", method="many")


def response(*tensors: Tensor) -> InferResponse:
    return InferResponse("kinds", 3, "", tensors)


def tensor(name: str, dtype: DType, shape: tuple[int, ...], start: float = 0) -> Tensor:
    assert dtype.numpy is not None
    count = int(np.prod(shape))
    array = (np.arange(count) + start).astype(dtype.numpy).reshape(shape)
    return Tensor(name, dtype, shape, array)


@pytest.mark.parametrize(
    ("description", "tensors"),
    [
        (described("y"), [tensor("y", FP32, (1, 2, 2))]),
        (described("y"), [tensor("y", INT64, (1,))]),
        (described("a", "b"), [tensor("a", FP16, (1, 300)), tensor("b", BOOL, (1, 2))]),
        (described("y", axis=None), [tensor("y", FP32, (4,))]),
        (described("y", axis=1), [tensor("y", FP32, (3, 1, 2))]),
    ],
    ids=["matrix", "scalar", "two", "no axis", "axis 1"],
)
def test_reply_written_again_is_that_of_the_codec(
    description: Description, tensors: list[Tensor]
) -> None:
    reply = Reply(SPEC, TARGET, description)
    for turn in range(3):
        given = [response(*[tensor(t.name, t.dtype, t.shape, turn) for t in tensors])]
        written = reply.write_again(given)
        assert written == reply.write(given)
        message = pb.PredictReply.FromString(written or b"")
        assert message.servable_spec.version_number == 3
        for t in given[0].outputs:
            assert t.array is not None
            assert message.instances[0].items[t.name].data == t.array.tobytes()


def test_outputs_of_another_look_are_not_taken_for_those_before() -> None:
    reply = Reply(SPEC, TARGET, described("y"))
    for dtype, shape in [(FP32, (1, 4)), (FP32, (1, 2, 2)), (INT64, (1, 2)), (FP32, (1, 4))]:
        given = [response(tensor("y", dtype, shape))]
        assert reply.write_again(given) == reply.write(given)


@pytest.mark.parametrize(
    ("description", "outcomes"),
    [
        (described("y"), [response(Tensor("y", TEXT, (1,), items=[b"text"]))]),
        (described("y", dtype=BYTES), [response(Tensor("y", BYTES, (1,), items=[b"\xff"]))]),
        (described("y"), [response(tensor("y", FP32, (1, 0)))]),
        (described("y"), [response(Tensor("y", BF16, (1,), np.zeros(1, np.uint16)))]),
        (described(), [response()]),
        (described("y"), [ExecutionFailed("no")]),
        (described("y"), [response(tensor("y", FP32, (1,)))] * 2),
    ],
    ids=["text", "bytes", "empty", "bf16", "none", "error", "several"],
)
def test_what_is_not_one_instance_of_numbers_is_left_to_the_codec(
    description: Description, outcomes: list[InferResponse | ExecutionFailed]
) -> None:
    reply = Reply(SPEC, TARGET, description)
    assert reply.write_again(outcomes) is None
    assert reply.write_again(outcomes) is None
    assert pb.PredictReply.FromString(reply.write(outcomes)).servable_spec.name == "kinds"


def test_outputs_of_several_rows_are_a_fault_every_time() -> None:
    reply = Reply(SPEC, TARGET, described("y"))
    for _ in range(2):
        with pytest.raises(InternalError, match="'y'"):
            reply.write_again([response(tensor("y", FP32, (2, 2)))])


def test_looks_are_bounded() -> None:
    reply = Reply(SPEC, TARGET, described("y"))
    for size in range(1, 3 * ms_reply._MOST_LOOKS):
        given = [response(tensor("y", FP32, (1, size)))]
        assert reply.write_again(given) == reply.write(given)
        assert len(reply._starts) <= ms_reply._MOST_LOOKS
