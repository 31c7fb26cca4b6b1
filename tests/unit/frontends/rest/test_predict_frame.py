"""Bodies that fit a frame mean, and are answered with, what the long way says."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import UnsupportedMedia
from serving.frontends.rest import predict_codec, predict_frame
from serving.frontends.rest.predict_call import PredictCall
from serving.frontends.rest.predict_frame import FramedCall
from serving.request import Description, InferResponse
from serving.tensor import BYTES, FP32, FP64, INT64, Array, Tensor
from tests.unit.frontends.rest.served import NOW, describe_as, only, spec

KNOWN = describe_as(
    (spec("x", FP32, "", 3),), (spec("y", FP32, "", 2), spec("n", INT64, "")), name="framed"
)
FIRST = {"servable": "framed", "instances": [{"x": [1, 2, 3]}]}
BARE = {"servable": "framed", "instances": [[1, 2, 3]]}


def decode(body: Any, known: Description = KNOWN, headers: dict[bytes, bytes] | None = None):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return predict_codec.decode(data, headers or {}, only(known), NOW)


@pytest.fixture(autouse=True)
def learned() -> None:
    predict_frame._frames.clear()
    assert isinstance(decode(FIRST), PredictCall)
    assert isinstance(decode(FIRST), FramedCall)


def answered(call: PredictCall | FramedCall, y: Array, n: Array) -> bytes:
    outputs = (Tensor("y", FP32, y.shape, y), Tensor("n", INT64, n.shape, n))
    return call.encode([InferResponse("framed", 3, "", outputs)]).body


numbers = st.floats(width=32) | st.integers(-(2**40), 2**40) | st.booleans() | st.none()
values = st.lists(numbers, max_size=4) | st.lists(st.lists(numbers, max_size=2), max_size=3)


@pytest.mark.parametrize("named", [True, False], ids=["named", "bare"])
@given(value=values | numbers | st.text(max_size=3))
def test_a_framed_body_means_what_the_long_way_reads(value: Any, named: bool) -> None:
    predict_frame._frames.clear()
    decode(FIRST if named else BARE)
    instance = {"x": value} if named else value
    body = json.dumps({"servable": "framed", "instances": [instance]}).encode()
    framed = predict_frame.decode(body, {}, only(KNOWN), NOW)
    if framed is None:
        return
    predict_frame._frames.clear()
    (mine,), (other,) = framed.requests, decode(body).requests
    assert mine._replace(inputs=()) == other._replace(inputs=())
    assert mine.inputs[0].shape == other.inputs[0].shape
    np.testing.assert_array_equal(mine.inputs[0].array, other.inputs[0].array)


@given(st.lists(st.floats(width=32), min_size=2, max_size=2), st.integers(-(2**63), 2**63 - 1))
def test_a_framed_answer_is_what_the_long_way_writes(row: list[float], number: int) -> None:
    framed = decode(FIRST)
    assert isinstance(framed, FramedCall)
    y, n = np.array([row], np.float32), np.array([number], np.int64)
    predict_frame._frames.clear()
    assert answered(framed, y, n) == answered(decode(FIRST), y, n)
    decode(FIRST)


@pytest.mark.parametrize(
    "body",
    [
        b'{"servable": "framed", "instances": [{"x": [1, 2, 3]}, {"x": [4, 5, 6]}]}',
        b'{"servable": "framed", "instances": [{"x": [1, 2]}]}',
        b'{"servable": "framed", "instances": [{"x": [1, 2, true]}]}',
        b'{"servable": "framed", "instances": [{"x": [1, 2, 3], "x": [1, 2, 3]}]}',
        b'{"servable": "framed", "instances": [{"x": [1, 2, "3"]}]}',
        b'{"servable": "framed", "instances": [{"x": [1, 2, 1e999]}]}',
        b'{"servable": "framed", "instances": [{"x": [1, 2, 3]}], "id": "a"}',
        b'{"servable": "framed", "instances": [{"x": [1, 2, 3}]}',
        b'{"servable": "framed"',
        b"",
    ],
)
def test_what_does_not_fit_is_left_to_the_long_way(body: bytes) -> None:
    assert predict_frame.decode(body, {}, only(KNOWN), NOW) is None


def test_a_bare_row_of_the_one_input_has_a_frame_of_its_own() -> None:
    assert isinstance(decode(BARE), PredictCall)
    framed = decode({"servable": "framed", "instances": [[4, 5, 6]]})
    assert isinstance(framed, FramedCall)
    np.testing.assert_array_equal(framed.requests[0].inputs[0].array, [[4, 5, 6]])
    two = decode({"servable": "framed", "instances": [[1, 2, 3], [4, 5, 6]]})
    assert isinstance(two, PredictCall)
    np.testing.assert_array_equal(two.requests[0].inputs[0].array, [[1, 2, 3], [4, 5, 6]])


def test_a_frame_ends_with_the_version_that_it_was_learned_from() -> None:
    newer = describe_as(KNOWN.signature.inputs, KNOWN.signature.outputs, name="framed")
    assert isinstance(decode(FIRST, newer), PredictCall)
    assert isinstance(decode(FIRST, newer), FramedCall)


def test_headers_count_in_a_framed_call_too() -> None:
    headers = {b"x-request-id": b"abc", b"x-request-timeout-ms": b"500"}
    (request,) = decode(FIRST, headers=headers).requests
    assert (request.id, request.deadline) == ("abc", NOW + 0.5)
    with pytest.raises(UnsupportedMedia):
        decode(FIRST, headers={b"content-type": b"image/png"})


@pytest.mark.parametrize(
    "known",
    [
        describe_as((spec("x", FP32, "", 3),), (spec("y", BYTES, ""),), name="framed"),
        describe_as((spec("x", FP32, "", 3),), (spec("y", FP64, "", ""),), name="framed"),
        describe_as((spec("x", FP32, "", 3),), (spec("y", FP64, "", 5000),), name="framed"),
        describe_as((spec("x", FP32, "", 3),), batched=False, name="framed"),
    ],
    ids=["strings", "sizes that vary", "many numbers", "no batch axis"],
)
def test_no_frame_is_kept_where_answers_may_not_fit_one(known: Description) -> None:
    predict_frame._frames.clear()
    body = FIRST if known.batch.batched else {"instances": [{"x": [[1, 2, 3]]}]}
    decode(body, known)
    assert not predict_frame._frames


def test_frames_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_frame, "_MOST_FRAMES", 16)
    predict_frame._frames.clear()
    for index in range(40):
        body = b'{"servable": "framed",' + b" " * index + b'"instances": [{"x": [1, 2, 3]}]}'
        decode(body)
    assert 0 < len(predict_frame._frames) <= 16
