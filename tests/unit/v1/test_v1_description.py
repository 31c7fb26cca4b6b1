"""Descriptions survive the wire."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serving.request import Description
from serving.tensor import BYTES, DTYPES, BatchAxes, Signature, TensorSpec
from serving.v1 import description
from serving.v1.stubs import serving_v1_pb2 as pb

dims = st.one_of(st.integers(0, 2**40), st.text(max_size=8))
specs = st.builds(
    TensorSpec,
    name=st.text(max_size=20),
    dtype=st.sampled_from(DTYPES),
    shape=st.one_of(st.none(), st.lists(dims, max_size=4).map(tuple)),
    json=st.booleans(),
)


@st.composite
def descriptions(draw: st.DrawFn) -> Description:
    inputs = tuple(draw(st.lists(specs, max_size=3)))
    outputs = tuple(draw(st.lists(specs, max_size=3)))
    axis = st.one_of(st.none(), st.integers(0, 3))
    batch = BatchAxes.refused(draw(st.text(max_size=20)))
    if draw(st.booleans()):
        axes = [tuple(draw(axis) for _ in side) for side in (inputs, outputs)]
        batch = BatchAxes(True, "shown", *axes)
    return Description(
        servable=draw(st.text(max_size=9)),
        version=draw(st.integers(1, 2**40)),
        signature=Signature(inputs, outputs),
        batch=batch,
        max_batch_size=draw(st.integers(1, 512)) if batch.batched else 0,
        platform="p",
        ready=draw(st.booleans()),
        versions=tuple(draw(st.lists(st.integers(1, 9), max_size=3))),
    )


@given(descriptions())
def test_description_comes_back_as_it_was(sent: Description) -> None:
    data = description.to_message(sent).SerializeToString()
    assert description.from_message(pb.DescribeResponse.FromString(data)) == sent


def test_axis_0_is_told_from_no_axis() -> None:
    side = (TensorSpec("a", BYTES, ("n",)), TensorSpec("b", BYTES, ()))
    batch = BatchAxes(True, "shown", (0, None), (None, 0))
    known = Description("m", 1, Signature(side, side), batch, 4, "p")
    message = description.to_message(known)
    assert [spec.HasField("batch_axis") for spec in message.inputs] == [True, False]
    assert description.from_message(message).batch == batch
