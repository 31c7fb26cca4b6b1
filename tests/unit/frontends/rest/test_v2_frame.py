"""Bodies and answers of V2 calls that fit a frame are what the long way reads and writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import ServingError
from serving.frontends.rest import v2_answer, v2_codec, v2_frame
from serving.frontends.rest.v2_call import V2Call
from serving.frontends.rest.wire import Reply
from serving.request import Description, InferResponse
from serving.tensor import BF16, BOOL, BYTES, FP16, FP32, FP64, INT64, DType, Tensor
from tests.unit.frontends.rest.served import NOW, describe_as, only, spec

KNOWN = describe_as((spec("x", FP32, "n", 3),), (spec("y", FP32, "n"), spec("z", INT64, "n")))
FIRST = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}


@pytest.fixture(autouse=True)
def _no_frames() -> Iterator[None]:
    v2_frame._frames.clear()
    yield
    v2_frame._frames.clear()


def decode(body: Any, known: Description = KNOWN) -> V2Call:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return v2_codec.decode("m", None, data, {}, only(known), NOW)


def learn(body: Any, known: Description = KNOWN) -> None:
    decode(body, known)
    assert len(v2_frame._frames) == 1


numbers = st.floats(width=32) | st.integers(-(2**40), 2**40) | st.booleans() | st.none()
values = st.lists(numbers | st.text(max_size=2), max_size=4) | st.lists(
    st.lists(numbers, max_size=2), max_size=3
)


@given(values | numbers | st.text(max_size=3))
def test_a_framed_body_means_what_the_long_way_reads(value: Any) -> None:
    v2_frame._frames.clear()
    learn(FIRST)
    body = json.dumps({"inputs": [{**FIRST["inputs"][0], "data": value}]}).encode()
    framed = v2_frame.read(body, KNOWN)
    v2_frame._frames.clear()
    if framed is None:
        return
    other = decode(body).request
    (mine,), (tensor,) = framed.inputs, other.inputs
    assert (mine.name, mine.dtype, mine.shape) == (tensor.name, tensor.dtype, tensor.shape)
    np.testing.assert_array_equal(mine.array, tensor.array)
    assert (framed.outputs, framed.id) == (other.outputs, "")


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3))
def test_numbers_of_a_body_like_one_before_are_read_by_its_frame(value: list[float]) -> None:
    v2_frame._frames.clear()
    asked = {**FIRST, "outputs": [{"name": "z"}]}
    body = json.dumps({"outputs": asked["outputs"], "inputs": asked["inputs"]}).encode()
    learn(body)
    again = body.replace(b"[1, 2, 3]", json.dumps(value).encode())
    found = v2_frame.read(again, KNOWN)
    assert found is not None
    assert found.outputs == ("z",)
    np.testing.assert_array_equal(found.inputs[0].array, np.array([value], np.float32))


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs":[{"name":"x","datatype":"FP32","data":[1,3,1],"shape":[1,3]}]}',
        b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[[1,2,3]]}]}',
        b'{"id":"a","inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}',
        b'{"id":"","inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}',
        b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}],"outputs":[]}',
        b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}], "id":"data"}',
    ],
    ids=["shape last", "nested", "id", "empty id", "outputs last", "id last"],
)
def test_bodies_whose_last_list_may_not_be_the_numbers_have_no_frame(body: bytes) -> None:
    decode(body)
    assert not v2_frame._frames


def test_frames_are_not_used_for_another_loading_of_the_model() -> None:
    learn(FIRST)
    other = describe_as((spec("x", FP64, "n", 3),))
    assert v2_frame.read(json.dumps(FIRST).encode(), other) is None
    with pytest.raises(ServingError):
        decode(FIRST, other)


def test_v2_frames_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v2_frame, "_MOST_FRAMES", 16)
    v2_frame._frames.clear()
    for rows in range(1, 40):
        item = {"name": "x", "shape": [rows, 3], "datatype": "FP32", "data": [0] * 3 * rows}
        decode({"inputs": [item]})
    assert 0 < len(v2_frame._frames) <= 16


# answers

FLOATS = (FP16, FP32, FP64)


@st.composite
def outputs(draw: st.DrawFn, names: tuple[str, ...] = ("y", 'ü "z"')) -> tuple[Tensor, ...]:
    found = []
    for name in names:
        shape = draw(st.sampled_from([(), (1,), (2, 3), (0, 2), (1, 2, 2)]))
        dtype: DType = draw(st.sampled_from([*FLOATS, INT64, BOOL, BF16, BYTES]))
        if dtype is BYTES:
            items = [b"a"] * int(np.prod(shape))
            found.append(Tensor(name, dtype, shape, items=items))
            continue
        special = [np.nan, np.inf, -np.inf] if dtype in FLOATS else []
        element = st.sampled_from([0, 1, *special]) | st.integers(0, 1)
        size = int(np.prod(shape))
        array = np.array(draw(st.lists(element, min_size=size, max_size=size)), dtype.numpy)
        found.append(Tensor(name, dtype, shape, array.reshape(shape)))
    return tuple(found)


@given(
    outputs(),
    st.booleans(),
    st.sampled_from([{}, {"y": True}, {"y": False}]),
    st.sampled_from(["", 'i"d']),
)
def test_a_framed_answer_is_what_the_long_way_writes(
    given_: tuple[Tensor, ...], default: bool, binary: dict[str, bool], id: str
) -> None:
    request = decode(FIRST).request
    call = V2Call('m"', KNOWN, request, id, default, binary)
    response = InferResponse("m", 3, id, given_)
    short = call.encode([response])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(v2_answer, "write", lambda *_: None)
        assert short == call.encode([response])


@pytest.mark.parametrize("default", [False, True])
def test_plain_numbers_are_answered_in_a_frame(default: bool) -> None:
    y = Tensor("y", FP32, (1, 2), np.array([[1.5, 2]], np.float32))
    written = v2_answer.write("m", "", InferResponse("m", 3, "", (y,)), {}, default)
    assert written is not None
    known = {"name": "y", "datatype": "FP32", "shape": [1, 2]}
    values: dict[str, Any] = {"data": [1.5, 2.0]}
    if default:
        values = {"parameters": {"binary_data_size": 8}}
        assert b"".join(written.tail) == np.array([1.5, 2], "<f4").tobytes()
    assert json.loads(written.head) == {
        "model_name": "m", "model_version": "3", "outputs": [known | values],
    }  # fmt: skip


def test_parameters_of_an_answer_are_written_the_long_way() -> None:
    y = Tensor("y", FP32, (1,), np.zeros(1, np.float32))
    response = InferResponse("m", 3, "", (y,))
    response.parameters["final"] = True
    assert v2_answer.write("m", "", response, {}, False) is None
    reply = V2Call("m", KNOWN, decode(FIRST).request, "", False, {}).encode([response])
    assert isinstance(reply, Reply)
    assert json.loads(reply.body)["parameters"] == {"final": True}
