"""TensorFlow Serving's JSON: what a body means, and how its answer is written."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from serving.errors import InvalidRequest, NotFound, ServingError, UnsupportedMedia
from serving.frontends.rest import tf_codec
from serving.frontends.rest.tf_codec import TfCall
from serving.frontends.tensorflow.target import Target
from serving.request import Description, InferRequest
from serving.tensor import BYTES, FP32, INT64, Tensor
from tests.unit.frontends.rest.served import NOW, answer, describe_as, only, spec

ONE = describe_as((spec("x", FP32, "n", 2),))
TWO = describe_as((spec("x", FP32, "n", 2), spec("k", INT64, "n")))
TEXTS = describe_as((spec("s", BYTES, "n"),), (spec("s", BYTES, "n"), spec("s_bytes", BYTES, "n")))
LONG = describe_as((spec("x", FP32, "n", "len"),))
ALONE = describe_as((spec("x", FP32, "n", 2),), batched=False)


def decode(description: Description, body: Any, **headers: str) -> TfCall:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {k.replace("_", "-").encode(): v.encode() for k, v in headers.items()}
    return tf_codec.decode(Target("m"), raw, fields, only(description), NOW)


def values(request: InferRequest) -> list[Any]:
    return [t.items if t.array is None else t.array.tolist() for t in request.inputs]


def told(call: TfCall, *outputs: tuple[Tensor, ...]) -> Any:
    """Return the answer's JSON; each request is answered with its inputs, or with the outputs."""
    given = outputs or (None,) * len(call.requests)
    responses = [answer(r, o) for r, o in zip(call.requests, given, strict=True)]
    reply = call.encode(responses)
    assert (reply.status, reply.content_type) == (200, b"application/json")
    return json.loads(reply.body)


def refused(description: Description, body: Any) -> ServingError:
    with pytest.raises(ServingError) as failed:
        decode(description, body)
    return failed.value


@pytest.mark.parametrize(
    "instances",
    [[[1, 2], [3, 4]], [{"x": [1, 2]}, {"x": [3, 4]}], [[1.0, 2], [3, 4e0]]],
)
@pytest.mark.parametrize("signature", [{}, {"signature_name": "serving_default"}])
def test_rows_of_one_input_stand_with_or_without_its_name(
    instances: Any, signature: dict[str, str]
) -> None:
    call = decode(ONE, {"instances": instances, **signature})
    assert [values(r) for r in call.requests] == [[[[1, 2], [3, 4]]]]
    assert told(call) == {"predictions": [[1.0, 2.0], [3.0, 4.0]]}


def test_rows_of_several_inputs_and_outputs_are_objects() -> None:
    rows = [{"x": [1.0, 2.0], "k": 7}, {"x": [3.0, 4.0], "k": -8}]
    call = decode(TWO, {"instances": rows})
    assert [values(r) for r in call.requests] == [[[[1, 2], [3, 4]], [7, -8]]]
    assert told(call) == {"predictions": rows}


def test_columns_are_whole_tensors() -> None:
    columns = {"x": [[1.0, 2.0], [3.0, 4.0]], "k": [7, 8]}
    call = decode(TWO, {"inputs": columns})
    assert [values(r) for r in call.requests] == [[[[1, 2], [3, 4]], [7, 8]]]
    assert told(call) == {"outputs": columns}


@pytest.mark.parametrize("given", [[[1, 2]], {"x": [[1, 2]]}])
def test_columns_of_one_input_stand_with_or_without_its_name(given: Any) -> None:
    assert told(decode(ONE, {"inputs": given})) == {"outputs": [[1.0, 2.0]]}


def test_binary_strings_come_and_go_as_base64() -> None:
    odd = base64.b64encode(b"\xff\0").decode()
    call = decode(TEXTS, {"instances": ["a", {"b64": odd}, {"s": {"b64": "Yg=="}}]})
    assert values(call.requests[0]) == [[b"a", b"\xff\0", b"b"]]
    items = [b"a", b"\xff\0", b"b"]
    outputs = tuple(Tensor(name, BYTES, (3,), items=items) for name in ("s", "s_bytes"))
    assert told(call, outputs)["predictions"] == [
        {"s": "a", "s_bytes": {"b64": "YQ=="}},
        {"s": {"b64": odd}, "s_bytes": {"b64": odd}},
        {"s": "b", "s_bytes": {"b64": "Yg=="}},
    ]
    whole = decode(TEXTS, {"inputs": {"s": ["a"]}})
    outputs = tuple(Tensor(name, BYTES, (1,), items=[b"a"]) for name in ("s", "s_bytes"))
    assert told(whole, outputs) == {"outputs": {"s": ["a"], "s_bytes": [{"b64": "YQ=="}]}}


def test_a_bare_binary_value_is_the_only_input_s() -> None:
    scalar = describe_as((spec("s", BYTES),), batched=False)
    assert values(decode(scalar, {"inputs": {"b64": "YWI="}}).requests[0]) == [[b"ab"]]


@pytest.mark.parametrize("form", ["instances", "inputs"])
def test_nan_and_infinities_are_bare_words_both_ways(form: str) -> None:
    call = decode(ONE, b'{"%b": [[NaN, Infinity], [-Infinity, 0.1]]}' % form.encode())
    (found,) = values(call.requests[0])
    assert math.isnan(found[0][0])
    assert found[0][1] == -found[1][0] == math.inf
    body = call.encode([answer(r) for r in call.requests]).body
    key = b"predictions" if form == "instances" else b"outputs"
    assert body == b'{"%b":[[NaN,Infinity],[-Infinity,0.1]]}' % key


def test_rows_of_several_lengths_are_answered_in_their_order() -> None:
    call = decode(LONG, {"instances": [[1, 2], [3], [4, 5]]})
    assert len(call.requests) == 2
    assert told(call) == {"predictions": [[1.0, 2.0], [3.0], [4.0, 5.0]]}


def test_instances_of_a_servable_without_batches_are_slices_of_one_tensor() -> None:
    call = decode(ALONE, {"instances": [[1, 2], [3, 4], [5, 6]]})
    assert [values(r) for r in call.requests] == [[[[1, 2], [3, 4], [5, 6]]]]
    outputs = (Tensor.of("x", np.ones((2, 1), np.float32)),)
    assert told(call, outputs) == {"predictions": [[1.0], [1.0]]}


def test_outputs_without_rows_ask_for_columns() -> None:
    call = decode(ALONE, {"instances": [[1, 2]]})
    both = Tensor.of("x", np.ones((2, 1), np.float32)), Tensor.of("x", np.ones(1, np.float32))
    for outputs in ((Tensor.of("x", np.array(1, np.float32)),), both):
        with pytest.raises(InvalidRequest, match="no row for each instance.*'inputs'"):
            told(call, outputs)


def test_outputs_that_all_rows_share_are_repeated() -> None:
    shared = describe_as(
        (spec("x", FP32, "n"),), (spec("y", FP32, "n"), spec("z", FP32)), out_axes=(0, None)
    )
    outputs = Tensor.of("y", np.float32([1, 2])), Tensor.of("z", np.array(9, np.float32))
    call = decode(shared, {"instances": [1, 2]})
    assert told(call, outputs)["predictions"] == [{"y": 1.0, "z": 9.0}, {"y": 2.0, "z": 9.0}]


def test_rows_are_counted_where_the_batch_axis_is() -> None:
    second = describe_as(
        (spec("x", FP32, 2, "n"),), (spec("s", BYTES, 2, "n"),), axes=(1,), out_axes=(1,)
    )
    call = decode(second, {"instances": [[1, 2], [3, 4]]})
    assert values(call.requests[0]) == [[[1, 3], [2, 4]]]
    strings = (Tensor("s", BYTES, (2, 2), items=[b"a", b"c", b"b", b"d"]),)
    assert told(call, strings) == {"predictions": [["a", "b"], ["c", "d"]]}


def test_a_signature_is_a_method() -> None:
    first = dataclasses.replace(ONE, method="scale", methods=("scale",))
    call = decode(first, {"signature_name": "scale", "instances": [[1, 2], [3, 4]]})
    assert [r.method for r in call.requests] == ["scale", "scale"]  # each may fail by itself
    assert told(call) == {"predictions": [[1.0, 2.0], [3.0, 4.0]]}


def test_what_the_head_says_goes_with_the_request() -> None:
    for body in ({"instances": [[1, 2]]}, {"inputs": {"x": [[1, 2]]}}, {"instances": [[1, 2.5]]}):
        call = decode(ONE, body, x_request_id="a1", x_request_timeout_ms="500")
        (request,) = call.requests
        assert (request.id, request.deadline) == ("a1", NOW + 0.5)


@pytest.mark.parametrize("version", [1, "stable"])
@pytest.mark.parametrize("body", [b'{"instances": [[1, 2]]}', b'{"inputs": [[1, 2]]}'])
def test_the_version_of_the_path_is_asked_for(version: int | str, body: bytes) -> None:
    asked = []

    def describe(*what: Any) -> Description:
        asked.append(what)
        return ONE

    call = tf_codec.decode(Target("m", version), body, {}, describe, NOW)
    assert set(asked) == {("m", version, None)}
    assert call.requests[0].version == version


WRONG = {
    "neither": ({}, "bad_body", "body"),
    "both": ({"instances": [[1, 2]], "inputs": [[1, 2]]}, "bad_body", "body"),
    "other_field": ({"instances": [[1, 2]], "signatur_name": "x"}, "unknown_field", "body"),
    "servable": ({"servable": "m", "instances": [[1, 2]]}, "unknown_field", "body"),
    "signature_of_another_type": (
        {"signature_name": 1, "instances": [[1, 2]]}, "wrong_type", "signature_name"
    ),
    "no_instances": ({"instances": []}, "no_instances", "instances"),
    "instances_no_list": ({"instances": {"x": [1, 2]}}, "wrong_type", "instances"),
    "ragged": ({"instances": [[1, 2], [3]]}, "wrong_shape", "instances[1]"),
    "nested": ({"instances": [[1, [2]]]}, "ragged", "instances[0][1]"),
    "too_deep": ({"instances": [[[1, 2]]]}, "wrong_rank", "instances[0]"),
    "text": ({"instances": [["a", 2]]}, "bad_element", "instances[0][0]"),
    "misnamed": ({"instances": [{"y": [1, 2]}]}, "unknown_input", "instances[0]"),
    "surplus": ({"instances": [{"x": [1, 2], "y": 1}]}, "unknown_input", "instances[0]"),
    "missing": ({"instances": [{}]}, "missing_input", "instances[0]"),
    "missing_column": ({"inputs": {}}, "missing_input", "inputs"),
    "surplus_column": ({"inputs": {"x": [[1, 2]], "y": 1}}, "unknown_input", "inputs"),
    "column_shape": ({"inputs": [[1, 2, 3]]}, "wrong_shape", "inputs.x"),
    "base64": ({"inputs": {"x": {"b64": "!!!"}}}, "bad_base64", "inputs.x.b64"),
    "null": ({"inputs": None}, "bad_body", "body"),
    "not_json": (b'{"instances": [1,', "bad_json", "body"),
    "not_an_object": ([[1, 2]], "wrong_type", "body"),
    "empty": (b"", "bad_json", "body"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_body_is_named(name: str) -> None:
    body, code, where = WRONG[name]
    error = refused(ONE, body)
    assert isinstance(error, InvalidRequest)
    assert (error.code, error.where) == (code, where)


def test_a_plain_value_does_not_do_for_several_inputs() -> None:
    assert refused(TWO, {"instances": [[1, 2]]}).where == "instances[0]"
    assert refused(TWO, {"inputs": [[1, 2]]}).where == "inputs"


@pytest.mark.parametrize(
    ("batch", "count", "fix"),
    [
        (1, 2, "send them one by one (the model is frozen to batch 1)"),
        (4, 3, "send 4 at a time (the model is frozen to batch 4)"),
    ],
)
def test_instances_of_a_frozen_model_are_as_many_as_its_batch(
    batch: int, count: int, fix: str
) -> None:
    fixed = describe_as((spec("x", FP32, batch, 2),), batched=False)
    error = refused(fixed, {"instances": [[1, 2]] * count})
    assert (error.code, error.where) == ("wrong_shape", "instances")
    assert (error.expected, error.given) == (str(batch), str(count))
    assert error.fix == f"{fix}, or export it with a dynamic batch axis"
    call = decode(fixed, {"instances": [[1, 2]] * batch})
    assert [t.shape for t in call.requests[0].inputs] == [(batch, 2)]


def test_null_is_as_good_as_absent() -> None:
    body = {"signature_name": None, "instances": [[1, 2]], "inputs": None}
    assert told(decode(ONE, body)) == {"predictions": [[1.0, 2.0]]}
    body = {"instances": None, "inputs": [[1, 2]]}
    assert told(decode(ONE, body)) == {"outputs": [[1.0, 2.0]]}


def test_slices_of_one_tensor_have_one_shape() -> None:
    free = describe_as((spec("x", FP32, "n", "len"),), batched=False)
    assert refused(free, {"instances": [[1, 2], [3]]}).code == "ragged"


def test_an_unknown_signature_names_those_that_there_are() -> None:
    error = refused(ONE, {"signature_name": "scale", "instances": [[1, 2]]})
    assert isinstance(error, NotFound)
    assert (error.code, error.where) == ("unknown_method", "signature_name")
    assert "no signature 'scale'" in str(error)


def test_other_content_types_are_refused() -> None:
    with pytest.raises(UnsupportedMedia):
        decode(ONE, {"instances": [[1, 2]]}, content_type="image/png")
    for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
        assert decode(ONE, {"instances": [[1, 2]]}, content_type=kind).requests
