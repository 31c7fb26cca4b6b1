"""Bodies of one instance, as TensorFlow's and MindSpore's clients send them, seen as rows."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.frontends.mindspore.target import Target as MsTarget
from serving.frontends.rest import ms_row_form, tf_row_form
from serving.frontends.rest.row_form import Cut, RowForm
from serving.frontends.rows import rows_of
from serving.frontends.tensorflow.target import Target
from serving.request import Description, InferResponse
from serving.tensor import FP32, INT64, Tensor
from tests.unit.frontends.rest.served import describe_as, spec

X = (spec("x", FP32, "n", 2),)
ONE = describe_as(X, (spec("y", FP32, "n", 2),), name="m")
TWO = describe_as(X, (spec("y", FP32, "n", 2), spec("a", INT64, "n")), name="m")
WHOLE = describe_as((spec("x", INT64, "n", 2),), (spec("y", FP32, "n", 2),), name="m")
IMAGE = describe_as((spec("x", FP32, "n", 2, 1, 2),), (spec("y", FP32, "n", 2),), name="m")


def tf_cut(body: str, known: Description = ONE, media: bytes | None = None) -> Cut | None:
    headers = {} if media is None else {b"content-type": media}
    return tf_row_form.cut(Target("m"), body.encode(), headers, lambda *_: known)


def ms_cut(body: str, known: Description = ONE) -> Cut | None:
    return ms_row_form.cut(MsTarget("m", "predict", 0), body.encode(), lambda *_: known)


@pytest.mark.parametrize(
    ("body", "numbers"),
    [
        ('{"instances": [[1.5, 2]]}', "1.5, 2"),
        ('{"instances":[{"x":[1,2]}]}', "1,2"),
        ('{"signature_name": "serving_default", "instances": [[3, 4]]}', "3, 4"),
        ('{"instances": [[3, 4]], "signature_name": ""}', "3, 4"),
        (' { "instances" : [ { "x" : [ 1 , 2 ] } ] } ', " 1 , 2 "),
    ],
)
def test_numbers_of_a_tensorflow_body_are_found(body: str, numbers: str) -> None:
    found = tf_cut(body)
    assert found is not None
    assert body[found.before : len(body) - found.behind] == numbers


@pytest.mark.parametrize(
    "body",
    [
        '{"instances": [[1, 2], [3, 4]]}',
        '{"instances": [[1, 2]], "instances": [[1, 2]]}',
        '{"signature_name": "other", "instances": [[1, 2]]}',
        '{"signature_name": "a", "signature_name": "", "instances": [[1, 2]]}',
        '{"instances": [{"z": [1, 2]}]}',
        '{"instances": [{"x": [1, 2], "x": [1, 2]}]}',
        '{"instances": [[1, 2]], "servable": "m"}',
        '{"inputs": [[1, 2]]}',
        '{"instances": [[[1, 2]]]}',
        '{"instances": [[1, 2]]',
        '{"instances": [], "x": [1, 2]}',
        '{"\\u0069nstances": [[1, 2]]}',
        "[[1, 2]]",
        "[" * 600,
    ],
)
def test_other_tensorflow_bodies_have_no_rows(body: str) -> None:
    assert tf_cut(body) is None


def test_rows_are_those_of_json_alone() -> None:
    assert tf_cut('{"instances": [[1, 2]]}', media=b"application/json") is not None
    assert tf_cut('{"instances": [[1, 2]]}', media=b"text/plain") is None


@pytest.mark.parametrize(
    "body",
    [
        '{"instances": {"x": [1.5, 2.5]}}',
        '{"instances": [{"x": [1.5, 2.5]}, {"x": [1.5, 2.5]}]}',
        '{"instances": [{"x": [1.5, 2.5], "other": 1}]}',
        '{"instances": [{"x": [1.5, 2.5]}], "other": 1}',
        '{"instances": [[1.5, 2.5]]}',
        '{"instances": [{"y": [1.5, 2.5]}]}',
    ],
)
def test_other_mindspore_bodies_have_no_rows(body: str) -> None:
    assert ms_cut('{"instances": [{"x": [1.5, 2.5]}]}') is not None
    assert ms_cut(body) is None


def form_of(found: Cut | None) -> RowForm:
    assert found is not None
    return found.form


def test_rows_of_several_axes_keep_their_shape() -> None:
    form = form_of(tf_cut('{"instances": [[[[1, 2]], [[3, 4]]]]}', IMAGE))
    request = form.request([b"[[1, 2]], [[3, 4]]", b"[[5, 6]], [[7, 8]]"])
    assert request is not None
    array = request.inputs[0].array
    assert array is not None
    assert array.tolist() == [[[[1, 2]], [[3, 4]]], [[[5, 6]], [[7, 8]]]]
    assert form.request([b"[[1, 2, 3]], [[4]]"]) is None


@pytest.mark.parametrize(
    ("known", "text", "fits"),
    [
        (ONE, b"1.5, 2.5", True),
        (ONE, b"1.5, 2", False),  # an integer is no fraction to these clients
        (ONE, b"1e5, 2.0", False),
        (ONE, b"1.5", False),
        (WHOLE, b"1, 2", True),
        (WHOLE, b"1.0, 2", False),
        (WHOLE, b"true, 2", False),
    ],
)
def test_mindspore_rows_hold_numbers_of_the_right_kind(
    known: Description, text: bytes, fits: bool
) -> None:
    start = "[1, 2]" if known is WHOLE else "[1.5, 2.5]"
    form = form_of(ms_cut(f'{{"instances": [{{"x": {start}}}]}}', known))
    assert (form.request([text]) is not None) is fits


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(
    st.lists(st.tuples(FLOATS, FLOATS, st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=5)
)
def test_answers_to_rows_together_are_the_answers_to_each(
    rows: Sequence[tuple[float, float, int]],
) -> None:
    y = np.array([row[:2] for row in rows], np.float32)
    a = np.array([row[2] for row in rows], np.int64)
    tensors = (Tensor("y", FP32, y.shape, y), Tensor("a", INT64, a.shape, a))
    for known in (ONE, TWO):
        response = InferResponse("m", 1, "", tensors[: len(known.signature.outputs)])
        for form in (
            form_of(tf_cut('{"instances": [[1.5, 2.5]]}', known)),
            form_of(ms_cut('{"instances": [{"x": [1.5, 2.5]}]}', known)),
        ):
            written = form.written(response)
            assert written is not None
            for row, text in enumerate(written.texts):
                alone = form.one(rows_of(response, row))
                assert alone is not None
                assert written.before + text + written.after == alone.body
                json.loads(alone.body)


def test_numbers_that_json_does_not_have_are_written_one_by_one() -> None:
    y = np.array([[np.nan, np.inf], [1, 2]], np.float32)
    response = InferResponse("m", 1, "", (Tensor("y", FP32, y.shape, y),))
    tensorflow = form_of(tf_cut('{"instances": [[1.5, 2.5]]}'))
    mindspore = form_of(ms_cut('{"instances": [{"x": [1.5, 2.5]}]}'))
    assert tensorflow.written(response) is mindspore.written(response) is None
    alone = tensorflow.one(rows_of(response, 0))
    assert alone is not None
    assert alone.body == b'{"predictions":[[NaN,Infinity]]}'
    alone = mindspore.one(rows_of(response, 0))
    assert alone is not None
    assert alone.body == b'{"instances":[{"y":[null,null]}]}'
