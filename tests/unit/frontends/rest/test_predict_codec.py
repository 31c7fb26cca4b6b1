"""The wire format of /predict, without a server."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import InternalError, InvalidRequest, NotFound, ServingError, UnsupportedMedia
from serving.frontends.rest import predict_codec
from serving.frontends.rest.predict_codec import PredictCall
from serving.frontends.rest.wire import Headers
from serving.request import Description
from serving.tensor import BF16, BOOL, BYTES, DTYPES, FP32, INT64, UINT8, DType, Tensor
from tests.unit.frontends.rest.served import NOW, answer, describe_as, only, spec

PAIR = describe_as((spec("a", FP32, "n", 2), spec("b", INT64, "n", "len")))
ONE = describe_as((spec("x", FP32, "n", 2),))
ALONE = describe_as((spec("x", FP32, "h", "w"),), batched=False)


def decode(description: Description, document: Any, headers: Headers | None = None) -> PredictCall:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return predict_codec.decode(body, headers or {}, only(description), NOW)


def encode(call: PredictCall, outputs: Sequence[tuple[Tensor, ...]] | None = None) -> Any:
    given = outputs or [request.inputs for request in call.requests]
    pairs = zip(call.requests, given, strict=True)
    reply = call.encode([answer(request, tensors) for request, tensors in pairs])
    assert reply.content_type == b"application/json"
    return orjson.loads(reply.body)


def echo(description: Description, document: Any) -> Any:
    return encode(decode(description, document))


def refusal(description: Description, document: Any) -> ServingError:
    with pytest.raises(ServingError) as caught:
        decode(description, document)
    return caught.value


def outcome(description: Description, document: Any) -> str:
    """Return "decoded" or the refusal's status; anything but a ServingError is a failure."""
    try:
        decode(description, document)
    except ServingError as error:
        return error.status.value
    return "decoded"


def array(tensor: Tensor) -> Any:
    assert tensor.array is not None
    return tensor.array


def test_predict_stacks_instances_of_equal_shapes_into_one_request() -> None:
    instances = [{"a": [1, 2], "b": [7, 8, 9]}, {"b": [4, 5, 6], "a": [3, 4]}]
    call = decode(PAIR, {"instances": instances})
    (request,) = call.requests
    assert (request.servable, request.version, request.method) == ("m", None, None)
    assert [t.name for t in request.inputs] == ["a", "b"]
    np.testing.assert_array_equal(array(request.inputs[0]), [[1, 2], [3, 4]])
    np.testing.assert_array_equal(array(request.inputs[1]), [[7, 8, 9], [4, 5, 6]])
    assert encode(call) == {
        "servable": "m",
        "version": 3,
        "method": "predict",
        "instances": instances,
    }


def test_predict_groups_instances_by_shape_and_answers_in_order() -> None:
    instances = [{"a": [i, -i], "b": list(range(i % 3))} for i in range(7)]
    call = decode(PAIR, {"instances": instances})
    assert sorted(r.inputs[0].shape[0] for r in call.requests) == [2, 2, 3]
    assert encode(call)["instances"] == instances


def test_predict_splits_more_instances_than_fit_a_batch() -> None:
    small = describe_as((spec("x", FP32, "n", 2),), max_batch_size=3)
    instances = [[i, i] for i in range(8)]
    call = decode(small, {"instances": instances})
    assert [r.inputs[0].shape for r in call.requests] == [(3, 2), (3, 2), (2, 2)]
    assert [item["x"] for item in encode(call)["instances"]] == instances


@pytest.mark.parametrize("instances", [[[1, 2], [3, 4]], [{"x": [1, 2]}, [3, 4]]])
def test_predict_takes_bare_values_for_the_only_input(instances: Any) -> None:
    (request,) = decode(ONE, {"instances": instances}).requests
    np.testing.assert_array_equal(array(request.inputs[0]), [[1, 2], [3, 4]])


def test_predict_bare_rows_of_several_lengths_become_several_requests() -> None:
    free = describe_as((spec("x", FP32, "n", "len"),))
    call = decode(free, {"instances": [[1, 2], [3], [4, 5]]})
    assert [r.inputs[0].shape for r in call.requests] == [(2, 2), (1, 1)]
    assert [i["x"] for i in encode(call)["instances"]] == [[1, 2], [3], [4, 5]]


def test_predict_without_a_batch_axis_makes_a_request_of_each_instance() -> None:
    call = decode(ALONE, {"instances": [[[1, 2]], [[3], [4]]]})
    assert [r.inputs[0].shape for r in call.requests] == [(1, 2), (2, 1)]
    assert [i["x"] for i in encode(call)["instances"]] == [[[1, 2]], [[3], [4]]]


def test_predict_inputs_are_one_request_in_the_engines_shape() -> None:
    document = {"inputs": {"a": [[1, 2], [3, 4]], "b": [[1], [2]]}, "id": "q", "version": 1}
    call = decode(PAIR, document)
    (request,) = call.requests
    assert [t.shape for t in request.inputs] == [(2, 2), (2, 1)]
    assert (request.id, request.version) == ("q", 1)
    assert encode(call) == {
        "servable": "m",
        "version": 3,
        "method": "predict",
        "id": "q",
        "outputs": document["inputs"],
    }


def test_predict_stacks_and_splits_along_another_axis() -> None:
    inputs = (spec("x", FP32, 2, "n", 1), spec("s", BYTES, 2, "n"))
    moved = describe_as(inputs, axes=(1, 1), out_axes=(1, 1))
    instances = [{"x": [[i], [-i]], "s": [f"{i}", f"-{i}"]} for i in range(3)]
    call = decode(moved, {"instances": instances})
    x, s = call.requests[0].inputs
    np.testing.assert_array_equal(array(x), [[[0], [1], [2]], [[0], [-1], [-2]]])
    assert (s.shape, s.items) == ((2, 3), [b"0", b"1", b"2", b"-0", b"-1", b"-2"])
    assert encode(call)["instances"] == instances


def test_predict_shared_inputs_run_together_only_when_equal() -> None:
    shared = describe_as(
        (spec("x", FP32, "n", 1), spec("t", FP32)), axes=(0, None), out_axes=(0, None)
    )
    instances = [{"x": [i], "t": i // 2} for i in range(4)]
    call = decode(shared, {"instances": instances})
    assert [(r.inputs[0].shape, float(array(r.inputs[1]))) for r in call.requests] == [
        ((2, 1), 0.0),
        ((2, 1), 1.0),
    ]
    assert encode(call)["instances"] == instances


def test_predict_takes_a_scalar_where_a_row_is_one_element() -> None:
    column = describe_as((spec("age", FP32, "n", 1), spec("town", BYTES, "n", 1)))
    (request,) = decode(column, {"instances": [{"age": 40, "town": "Kiel"}]}).requests
    assert [t.shape for t in request.inputs] == [(1, 1), (1, 1)]
    assert request.inputs[1].items == [b"Kiel"]


@pytest.mark.parametrize("dtype", DTYPES, ids=repr)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_predict_rows_survive_the_way_there_and_back(dtype: DType, data: st.DataObject) -> None:
    row = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    rows = data.draw(st.integers(1, 4))
    description = describe_as((spec("x", dtype, "n", *row),))
    if dtype is BYTES:
        size = int(np.prod((rows, *row)))
        items = data.draw(st.lists(st.binary(max_size=4), min_size=size, max_size=size))
        tensor = Tensor("x", BYTES, (rows, *row), None, items)
    else:
        drawn = data.draw(hnp.arrays(dtype.numpy, (rows, *row)))
        if dtype is BF16:
            drawn = np.where((drawn & 0x7F80) == 0x7F80, np.uint16(0), drawn).astype("<u2")
        tensor = Tensor("x", dtype, (rows, *row), drawn)
    first = decode(description, {"instances": [neutral(dtype, row)] * rows})
    instances = encode(first, [(tensor,)])["instances"]
    again = decode(description, {"instances": instances})
    (request,) = again.requests
    back = request.inputs[0]
    assert back.shape == tensor.shape
    if dtype is BYTES:
        assert back.items == list(tensor.items or ())
    else:
        np.testing.assert_array_equal(array(back), array(tensor))


def neutral(dtype: DType, row: tuple[int, ...]) -> Any:
    element: Any = "" if dtype is BYTES else dtype is BOOL and False
    element = 0 if dtype not in (BYTES, BOOL) else element
    value = np.full(row, element, dtype=object).tolist()
    return {"x": value}


def b64(data: bytes, **more: Any) -> dict[str, Any]:
    return {"b64": base64.b64encode(data).decode(), **more}


@pytest.mark.parametrize(
    "value",
    [
        b64(b"\0\0\x80\x3f\0\0\0\x40"),
        b64(b"\0\0\x80\x3f\0\0\0\x40", dtype="FP32", shape=[2]),
    ],
)
@pytest.mark.parametrize("bare", [True, False])
def test_predict_reads_raw_elements_from_base64(value: Any, bare: bool) -> None:
    (request,) = decode(ONE, {"instances": [value if bare else {"x": value}]}).requests
    np.testing.assert_array_equal(array(request.inputs[0]), [[1.0, 2.0]])


def test_predict_base64_without_shape_fills_the_one_size_that_varies() -> None:
    image = describe_as((spec("x", UINT8, "n", "h", 4),))
    (request,) = decode(image, {"instances": [{"x": b64(bytes(12))}]}).requests
    assert request.inputs[0].shape == (1, 3, 4)


def test_predict_base64_for_bytes_is_one_element_or_prefixed_elements() -> None:
    texts = describe_as((spec("s", BYTES, "n"),))
    (request,) = decode(texts, {"instances": [{"s": b64(b"\xff\0")}, {"s": "x"}]}).requests
    assert request.inputs[0].items == [b"\xff\0", b"x"]
    whole = {"inputs": {"s": b64(b"\2\0\0\0hi\0\0\0\0", shape=[2])}}
    assert decode(texts, whole).requests[0].inputs[0].items == [b"hi", b""]


def test_predict_writes_what_is_no_text_as_base64() -> None:
    texts = describe_as((spec("s", BYTES, "n"),))
    call = decode(texts, {"instances": [{"s": "a"}, {"s": "b"}]})
    tensor = Tensor("s", BYTES, (2,), None, ["Ä\0".encode(), b"\xff"])
    assert [i["s"] for i in encode(call, [(tensor,)])["instances"]] == ["Ä\0", {"b64": "/w=="}]


def test_predict_embeds_json_outputs_as_json() -> None:
    maps = describe_as(
        (spec("x", FP32, "n", 1),), (spec("p", BYTES, "n", json=True),), out_axes=(0,)
    )
    tensor = Tensor("p", BYTES, (2,), None, [b'{"cat":0.5}', b"[1,2]"])
    rows = decode(maps, {"instances": [[1], [2]]})
    assert encode(rows, [(tensor,)])["instances"] == [{"p": {"cat": 0.5}}, {"p": [1, 2]}]
    whole = decode(maps, {"inputs": {"x": [[1], [2]]}})
    assert encode(whole, [(tensor,)])["outputs"] == {"p": [{"cat": 0.5}, [1, 2]]}


def test_predict_gives_an_output_without_batch_axis_to_every_instance() -> None:
    description = describe_as(
        (spec("x", FP32, "n", 1),), (spec("labels", BYTES, 2),), out_axes=(None,)
    )
    call = decode(description, {"instances": [[1], [2]]})
    tensor = Tensor("labels", BYTES, (2,), None, [b"a", b"b"])
    assert encode(call, [(tensor,)])["instances"] == [{"labels": ["a", "b"]}] * 2


def test_predict_outputs_with_too_few_rows_are_a_fault_of_the_server() -> None:
    call = decode(ONE, {"instances": [[1, 2], [3, 4]]})
    with pytest.raises(InternalError):
        encode(call, [(Tensor.of("x", np.zeros((1, 2), np.float32)),)])


def test_predict_carries_parameters_deadline_and_the_request_id() -> None:
    headers = {b"x-request-timeout-ms": b"1500", b"x-request-id": b"abc"}
    document = {"instances": [[1, 2]], "parameters": {"k": 1, "f": True, "s": "t"}}
    (request,) = decode(ONE, document, headers).requests
    assert request.deadline == NOW + 1.5
    assert (request.id, request.parameters) == ("abc", {"k": 1, "f": True, "s": "t"})


@pytest.mark.parametrize(
    ("document", "code", "where"),
    [
        ({"instances": [[1, 2]], "servable": "n"}, "unknown_servable", ""),
        ({"instances": [[1, 2]], "servable": "n" * 99999}, "unknown_servable", "servable"),
        ({"instances": [[1, 2]], "servable": ".."}, "unknown_servable", "servable"),
        ({"instances": [[1, 2]], "version": 9}, "unknown_version", ""),
        ({"instances": [[1, 2]], "method": "other"}, "unknown_method", "method"),
    ],
)
def test_predict_unknown_targets_are_not_found(document: Any, code: str, where: str) -> None:
    error = refusal(ONE, document)
    assert isinstance(error, NotFound)
    assert (error.code, error.where) == (code, where)
    assert len(str(error)) < 500


@pytest.mark.parametrize(
    ("body", "fix"),
    [
        (gzip.compress(b'{"instances": [[1, 2]]}'), "Content-Encoding: gzip"),
        (b"servable=n&instances=%5B%5B1%2C2%5D%5D", "a form"),
        (b"{instances: [[1, 2]]}", ""),
        (b'{"instances": [[NaN, 2]]}', '"NaN"'),
    ],
    ids=["gzip", "form", "neither", "NaN"],
)
def test_predict_says_what_a_body_is_that_is_no_json(body: bytes, fix: str) -> None:
    error = refusal(ONE, body)
    assert error.code == "bad_json"
    assert fix in error.fix
    assert bool(fix) is bool(error.fix)


@pytest.mark.parametrize(
    ("document", "code", "where"),
    [
        ([], "wrong_type", "body"),
        (b"3", "wrong_type", "body"),
        (b"", "bad_json", "body"),
        ({}, "bad_body", "body"),
        ({"instances": [[1, 2]], "inputs": {}}, "bad_body", "body"),
        ({"instanses": [[1, 2]]}, "unknown_field", "body"),
        ({"instances": []}, "no_instances", "instances"),
        ({"instances": {}}, "wrong_type", "instances"),
        ({"instances": "x"}, "wrong_type", "instances"),
        ({"instances": None}, "bad_body", "body"),
        ({"instances": [None]}, "bad_element", "instances[0]"),
        ({"instances": [[1, 2], {"y": [1, 2]}]}, "unknown_input", "instances[1]"),
        ({"instances": [[1, 2], {}]}, "missing_input", "instances[1]"),
        ({"instances": [[1, 2], [1, 2], [1]]}, "wrong_shape", "instances[2]"),
        ({"instances": [[1, 2], {"x": [1, "a"]}]}, "bad_element", "instances[1].x[1]"),
        ({"instances": [[1, 2], 3]}, "wrong_rank", "instances[1]"),
        ({"instances": [[[1, 2]]]}, "wrong_rank", "instances[0]"),
        ({"inputs": {"x": [1, 2]}}, "wrong_rank", "inputs.x"),
        ({"inputs": {"x": [[1, 2]], "y": 1}}, "unknown_input", "inputs"),
        ({"inputs": [[1, 2]]}, "wrong_type", "inputs"),
        ({"inputs": {}}, "missing_input", "inputs"),
        ({"instances": [[1, 2]], "version": "1"}, "wrong_type", "version"),
        ({"instances": [[1, 2]], "version": 0}, "wrong_type", "version"),
        ({"instances": [[1, 2]], "version": True}, "wrong_type", "version"),
        ({"instances": [[1, 2]], "servable": 1}, "wrong_type", "servable"),
        ({"instances": [[1, 2]], "id": 1}, "wrong_type", "id"),
        ({"instances": [[1, 2]], "method": []}, "wrong_type", "method"),
        ({"instances": [[1, 2]], "parameters": []}, "wrong_type", "parameters"),
        ({"instances": [[1, 2]], "parameters": {"a": []}}, "wrong_type", "parameters.a"),
        ({"instances": [{"b64": 1}]}, "wrong_type", "instances[0].b64"),
        ({"instances": [{"b64": "*"}]}, "bad_base64", "instances[0].b64"),
        ({"instances": [{"b64": "AAAA"}]}, "wrong_size", "instances[0]"),
        ({"instances": [{"x": {}}]}, "wrong_type", "instances[0].x"),
        ({"instances": [{"x": {"b64": "", "c": 1}}]}, "unknown_field", "instances[0].x"),
        ({"instances": [{"b64": "", "dtype": "INT8"}]}, "wrong_dtype", "instances[0].dtype"),
        ({"instances": [{"b64": "", "shape": [-1]}]}, "bad_shape", "instances[0].shape[0]"),
        ({"instances": [{"b64": "", "shape": [0, 2**62]}]}, "bad_shape", "instances[0].shape"),
        ({"instances": [{"b64": "", "shape": [2**63, 2**63]}]}, "bad_shape", "instances[0].shape"),
        ({"instances": [{"b64": "", "shape": [1] * 33}]}, "bad_shape", "instances[0].shape"),
        ({"instances": [{"b64": "", "shape": [1.0]}]}, "bad_shape", "instances[0].shape[0]"),
        ({"instances": [{"b64": "", "shape": 2}]}, "wrong_type", "instances[0].shape"),
        ({"instances": [{"b64": "", "shape": [0]}]}, "wrong_shape", "instances[0]"),
    ],
)
def test_predict_names_what_is_wrong_and_where(document: Any, code: str, where: str) -> None:
    error = refusal(ONE, document)
    assert isinstance(error, InvalidRequest)
    assert (error.code, error.where) == (code, where)


def test_predict_a_misspelt_name_is_corrected() -> None:
    assert refusal(ONE, {"instanses": [[1, 2]]}).fix == "did you mean 'instances'?"
    long = describe_as((spec("image", FP32, "n"),))
    assert refusal(long, {"instances": [{"imgae": 1}]}).fix == "did you mean 'image'?"


def test_predict_an_instance_with_a_batch_axis_is_told_to_leave_it_out() -> None:
    error = refusal(ONE, {"instances": [[[1, 2]]]})
    assert (error.expected, error.given) == ("1 axis [2]", "2 axes [1,2]")
    assert "leave the batch axis out" in error.fix


@pytest.mark.parametrize(
    ("shape", "instance", "said", "given"),
    [
        ((1, 4), [1, 2, 3, 4], "the model is frozen to batch 1", "1 axis [4]"),
        ((8, 4), [1, 2, 3, 4], "the model is frozen to batch 8", "1 axis [4]"),
        (("n", 4), [1, 2, 3, 4], "the model has no batch axis", "1 axis [4]"),
        ((8,), 1, "the model is frozen to batch 8", "no axes: one value"),
    ],
)
def test_predict_a_row_for_a_model_without_batch_axis_is_told_to_be_the_whole_tensor(
    shape: tuple[int | str, ...], instance: Any, said: str, given: str
) -> None:
    fixed = describe_as((spec("x", FP32, *shape),), batched=False)
    error = refusal(fixed, {"instances": [{"x": instance}]})
    assert (error.code, error.where, error.given) == ("wrong_rank", "instances[0].x", given)
    assert error.fix.startswith(said)
    assert f"the whole tensor [{','.join(map(str, shape))}]: put one more [ ]" in error.fix
    assert ("export it with a dynamic batch axis" in error.fix) == isinstance(shape[0], int)


@pytest.mark.parametrize(
    ("axis", "given", "whole"), [(0, [[0, 0]], "[1,1,2]"), (1, [[0, 0], [0, 0]], "[2,1,2]")]
)
def test_predict_a_row_among_whole_tensors_is_shown_with_its_batch_axis(
    axis: int, given: Any, whole: str
) -> None:
    shape = ("n", 1, 2) if axis == 0 else (2, "n", 2)
    batched = describe_as((spec("x", FP32, *shape),), axes=(axis,))
    error = refusal(batched, {"inputs": {"x": given}})
    assert (error.code, error.where) == ("wrong_rank", "inputs.x")
    assert error.fix == f"axis {axis} counts the rows: one row has the shape {whole}"
    assert refusal(batched, {"inputs": {"x": [0]}}).fix == ""


def test_predict_no_whole_tensor_is_advised_where_it_does_not_help() -> None:
    fixed = describe_as((spec("x", FP32, 1, 4),), batched=False)
    assert refusal(fixed, {"instances": [3]}).fix == ""
    assert refusal(fixed, {"instances": [[[[1, 2, 3, 4]]]]}).fix == ""
    assert decode(fixed, {"instances": [[[1, 2, 3, 4]]]}).requests[0].inputs[0].shape == (1, 4)


def test_predict_null_is_as_good_as_absent() -> None:
    nothing = dict.fromkeys(("servable", "version", "method", "id", "parameters", "inputs"))
    body = {**nothing, "instances": [[1, 2]]}
    assert echo(ONE, body) == echo(ONE, {"instances": [[1, 2]]})
    body = {"instances": None, "inputs": {"x": [[1, 2]]}, "parameters": {"mine": None, "k": 1}}
    call = decode(ONE, body)
    assert call.groups is None
    assert call.requests[0].parameters == {"k": 1}


def test_predict_a_version_in_quotes_is_told_to_lose_them() -> None:
    error = refusal(ONE, {"version": "1", "instances": [[1, 2]]})
    assert (error.code, error.where) == ("wrong_type", "version")
    assert error.fix == "write 1 without quotes"
    for version in ("0", "1.0", "-1", 0, True, "9" * 40, "²"):
        assert refusal(ONE, {"version": version, "instances": [[1, 2]]}).fix == ""


def test_predict_says_why_it_knows_no_outputs() -> None:
    error = refusal(ONE, {"instances": [[1, 2]], "outputs": ["x"]})
    assert (error.code, error.where) == ("unknown_field", "body")
    assert "gives all outputs" in error.fix
    assert "/v2/models/NAME/infer" in error.fix


def test_predict_a_bare_value_is_no_instance_of_two_inputs() -> None:
    error = refusal(PAIR, {"instances": [[1, 2]]})
    assert (error.code, error.where) == ("wrong_type", "instances[0]")


def test_predict_refuses_more_unbatched_instances_than_it_would_queue() -> None:
    error = refusal(ALONE, {"instances": [[[1]]] * 1025})
    assert error.code == "too_many_instances"


def test_predict_base64_needs_a_shape_when_two_sizes_vary() -> None:
    assert refusal(ALONE, {"instances": [b64(bytes(4))]}).code == "missing_shape"


@pytest.mark.parametrize(
    "kind", [b"application/xml", b"multipart/form-data; boundary=x", b"application/octet-stream"]
)
def test_predict_reads_no_other_media(kind: bytes) -> None:
    with pytest.raises(UnsupportedMedia):
        decode(ONE, {"instances": [[1, 2]]}, {b"content-type": kind})


def test_predict_reads_json_however_it_is_labelled() -> None:
    for kind in (b"application/json; charset=utf-8", b"application/vnd.x+json", b"text/plain"):
        assert decode(ONE, {"instances": [[1, 2]]}, {b"content-type": kind}).requests
    with pytest.raises(UnsupportedMedia):
        decode(ONE, {}, {b"content-type": b"application/json; charset=utf-16"})


@pytest.mark.parametrize("text", [b"0", b"-1", b"1.5", b"x", b"9" * 30])
def test_predict_a_timeout_that_cannot_be_read_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(ONE, {"instances": [[1, 2]]}, {b"x-request-timeout-ms": text})
    assert caught.value.code == "bad_timeout"


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda c: (
            st.lists(c, max_size=3)
            | st.dictionaries(
                st.sampled_from(["instances", "inputs", "x", "b64", "shape", "dtype", "id"]), c
            )
        ),
        max_leaves=8,
    )
)
def test_predict_any_json_is_decoded_or_refused_by_a_serving_error(document: Any) -> None:
    for description in (ONE, PAIR, ALONE):
        for body in (document, {"instances": document}, {"inputs": document}):
            assert outcome(description, body) in ("decoded", "INVALID_ARGUMENT", "NOT_FOUND")
