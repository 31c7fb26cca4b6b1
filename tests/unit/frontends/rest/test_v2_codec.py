"""The wire format of V2 inference, without a server."""

from __future__ import annotations

import json
import struct
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import (
    InvalidRequest,
    NotFound,
    ServingError,
    UnsupportedMedia,
)
from serving.frontends import v2_metadata, v2_parameters
from serving.frontends.rest import v2_codec
from serving.frontends.rest.v2_call import HEADER_LENGTH, V2Call
from serving.frontends.rest.wire import Headers, Reply
from serving.request import Description
from serving.tensor import BF16, BOOL, BYTES, DTYPES, FP16, FP32, INT64, DType, Tensor
from tests.unit.frontends.rest.served import NOW, answer, describe_as, only, spec

PAIR = describe_as((spec("a", FP32, "n", 2), spec("s", BYTES, "n")))
ONE = describe_as((spec("x", FP32, "n", 2),))


def tensor(name: str, shape: list[Any], datatype: str, data: Any = None, **more: Any) -> Any:
    found = {"name": name, "shape": shape, "datatype": datatype, **more}
    return found if data is None else {**found, "data": data}


def body_of(document: Any, *binary: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    head = document if isinstance(document, bytes) else json.dumps(document).encode()
    headers = {HEADER_LENGTH: b"%d" % len(head)} if binary else {}
    return b"".join([head, *binary]), headers


def decode(
    description: Description, document: Any, *binary: bytes, headers: Headers | None = None
) -> V2Call:
    body, found = body_of(document, *binary)
    return v2_codec.decode("m", None, body, {**found, **(headers or {})}, only(description), NOW)


def reply(call: V2Call, *outputs: Tensor) -> Reply:
    return call.encode([answer(call.request, outputs or None)])


def parts(found: Reply) -> tuple[Any, bytes]:
    length = int(dict(found.headers).get(HEADER_LENGTH, b"%d" % len(found.body)))
    return orjson.loads(found.body[:length]), found.body[length:]


def array(found: Tensor) -> Any:
    assert found.array is not None
    return found.array


def outcome(document: Any, tail: bytes) -> str:
    """Return "decoded" or the refusal's status; anything but a ServingError is a failure."""
    try:
        decode(ONE, document, tail)
    except ServingError as error:
        return error.status.value
    return "decoded"


X = tensor("x", [1, 2], "FP32", [1, 2])


def test_v2_json_is_read_flat_or_nested_and_answered_flat() -> None:
    for data in ([1, 2, 3, 4], [[1, 2], [3, 4]]):
        call = decode(ONE, {"id": "7", "inputs": [tensor("x", [2, 2], "FP32", data)]})
        np.testing.assert_array_equal(array(call.request.inputs[0]), [[1, 2], [3, 4]])
        found = reply(call)
        assert found.content_type == b"application/json"
        assert parts(found)[0] == {
            "model_name": "m",
            "model_version": "3",
            "id": "7",
            "outputs": [
                {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1.0, 2.0, 3.0, 4.0]}
            ],
        }


def test_v2_inputs_come_in_any_order_and_leave_in_the_signatures() -> None:
    inputs = [tensor("s", [1], "BYTES", ["é"]), tensor("a", [1, 2], "FP32", [1, 2])]
    request = decode(PAIR, {"inputs": inputs}).request
    assert [t.name for t in request.inputs] == ["a", "s"]
    assert request.inputs[1].items == ["é".encode()]
    assert (request.id, request.version, request.outputs) == ("", None, None)


def test_v2_binary_tensors_follow_the_json_in_its_order() -> None:
    strings = b"\2\0\0\0\xff\0" + b"\0\0\0\0"
    floats = np.array([[1, 2], [3, 4]], "<f4").tobytes()
    inputs = [
        tensor("s", [2], "BYTES", parameters={"binary_data_size": len(strings)}),
        tensor("a", [2, 2], "FP32", parameters={"binary_data_size": len(floats)}),
    ]
    call = decode(PAIR, {"inputs": inputs}, strings, floats)
    a, s = call.request.inputs
    np.testing.assert_array_equal(array(a), [[1, 2], [3, 4]])
    assert s.items == [b"\xff\0", b""]
    assert not array(a).flags.owndata


def test_v2_binary_and_json_inputs_mix() -> None:
    inputs = [
        tensor("a", [1, 2], "FP32", parameters={"binary_data_size": 8}),
        tensor("s", [1], "BYTES", ["t"]),
    ]
    request = decode(PAIR, {"inputs": inputs}, struct.pack("<2f", 5, 6)).request
    np.testing.assert_array_equal(array(request.inputs[0]), [[5, 6]])


@pytest.mark.parametrize(
    ("default", "chosen", "binary"),
    [(None, None, False), (True, None, True), (True, False, False), (None, True, True)],
)
def test_v2_binary_outputs_are_chosen_per_request_or_per_output(
    default: bool | None, chosen: bool | None, binary: bool
) -> None:
    document: dict[str, Any] = {"inputs": [X]}
    if default is not None:
        document["parameters"] = {"binary_data_output": default}
    if chosen is not None:
        document["outputs"] = [{"name": "x", "parameters": {"binary_data": chosen}}]
    found = reply(decode(ONE, document))
    head, tail = parts(found)
    output = head["outputs"][0]
    if binary:
        assert found.content_type == b"application/octet-stream"
        assert output["parameters"] == {"binary_data_size": 8}
        assert "data" not in output
        assert tail == struct.pack("<2f", 1, 2)
    else:
        assert (found.headers, tail, output["data"]) == ((), b"", [1.0, 2.0])


def test_v2_outputs_are_selected_in_the_wanted_order() -> None:
    inputs = [tensor("a", [1, 2], "FP32", [1, 2]), tensor("s", [1], "BYTES", ["t"])]
    outputs = [{"name": "s"}, {"name": "a"}]
    assert decode(PAIR, {"inputs": inputs, "outputs": outputs}).request.outputs == ("s", "a")
    assert decode(PAIR, {"inputs": inputs, "outputs": []}).request.outputs is None


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=repr)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_v2_tensors_survive_the_way_there_and_back(
    binary: bool, dtype: DType, data: st.DataObject
) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    description = describe_as((free_spec(dtype, shape),), batched=False)
    if dtype is BYTES:
        size = int(np.prod(shape))
        text = st.binary(max_size=4) if binary else st.text(max_size=4).map(str.encode)
        sent = Tensor(
            "x", BYTES, shape, None, data.draw(st.lists(text, min_size=size, max_size=size))
        )
    else:
        drawn = data.draw(hnp.arrays(dtype.numpy, shape))
        if dtype is BF16:
            drawn = np.where((drawn & 0x7F80) == 0x7F80, np.uint16(0), drawn).astype("<u2")
        sent = Tensor("x", dtype, shape, drawn)
    asking = decode(
        description,
        {
            "parameters": {"binary_data_output": binary},
            "inputs": [neutral(dtype, shape)],
        },
    )
    head, tail = parts(reply(asking, sent))
    again = {"inputs": head["outputs"]}
    request = decode(description, again, *([tail] if binary else [])).request
    back = request.inputs[0]
    assert back.shape == shape
    if dtype is BYTES:
        assert back.items == list(sent.items or ())
    else:
        np.testing.assert_array_equal(array(back), array(sent))
        assert array(back).dtype == dtype.numpy


def free_spec(dtype: DType, shape: tuple[int, ...]) -> Any:
    return spec("x", dtype, *("" for _ in shape))


def neutral(dtype: DType, shape: tuple[int, ...]) -> Any:
    element: Any = {BYTES: "", BOOL: False}.get(dtype, 0)
    return tensor("x", list(shape), dtype.name, [element] * int(np.prod(shape)))


def test_v2_integers_are_exact_and_floats_of_16_bits_are_numbers() -> None:
    description = describe_as((spec("i", INT64, "n"), spec("h", FP16, "n"), spec("b", BF16, "n")))
    inputs = [
        tensor("i", [1], "INT64", [2**53 + 1]),
        tensor("h", [1], "FP16", [1.5]),
        tensor("b", [1], "BF16", [-2.5]),
    ]
    head, _ = parts(reply(decode(description, {"inputs": inputs})))
    assert [o["data"] for o in head["outputs"]] == [[2**53 + 1], [1.5], [-2.5]]


def test_v2_a_string_that_is_no_text_is_asked_for_as_binary() -> None:
    call = decode(
        PAIR, {"inputs": [tensor("a", [1, 2], "FP32", [1, 2]), tensor("s", [1], "BYTES", ["t"])]}
    )
    with pytest.raises(InvalidRequest) as caught:
        reply(call, Tensor("s", BYTES, (1,), None, [b"\xff"]))
    assert caught.value.code == "not_text"
    assert "binary_data" in caught.value.fix


def test_v2_parameters_become_fields_of_the_request() -> None:
    parameters = {"priority": 3, "timeout": 2_000_000, "sequence_id": 9, "mine": "x"}
    request = decode(ONE, {"inputs": [X], "parameters": parameters}).request
    assert (request.priority, request.deadline, request.sequence) == (2, NOW + 2.0, "9")
    assert request.parameters == {"mine": "x"}


def test_v2_the_earlier_of_two_deadlines_counts() -> None:
    headers = {b"x-request-timeout-ms": b"1000"}
    for timeout, expected in ((2_000_000, 1.0), (500_000, 0.5), (0, 1.0)):
        document = {"inputs": [X], "parameters": {"timeout": timeout}}
        assert decode(ONE, document, headers=headers).request.deadline == NOW + expected


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"priority": -1}, "bad_parameter"),
        ({"priority": 1.0}, "bad_parameter"),
        ({"priority": True}, "bad_parameter"),
        ({"timeout": "1"}, "bad_parameter"),
        ({"timeout": 2**62}, "bad_parameter"),
        ({"sequence_id": -3}, "bad_parameter"),
        ({"sequence_id": 1.5}, "bad_parameter"),
        ({"binary_data_output": 1}, "bad_parameter"),
        ({"headers": "x"}, "reserved_parameter"),
        ({"triton_final_response": True}, "reserved_parameter"),
        ({"x": {}}, "wrong_type"),
        ([], "wrong_type"),
    ],
)
def test_v2_parameters_of_the_wrong_kind_are_refused(parameters: Any, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(ONE, {"inputs": [X], "parameters": parameters})
    assert caught.value.code == code


def test_v2_null_is_as_good_as_absent() -> None:
    given = {**X, "parameters": {"binary_data_size": None, "content_type": None}}
    wanted = {"name": "x", "parameters": None}
    document = {
        "id": None,
        "parameters": {"headers": None, "content_type": None, "timeout": None, "mine": 1},
        "inputs": [given],
        "outputs": [wanted],
    }
    call = decode(ONE, document)
    assert (call.request.id, call.request.outputs, call.request.deadline) == ("", ("x",), None)
    assert call.request.parameters == {"mine": 1}
    call = decode(ONE, {"id": None, "parameters": None, "inputs": [X], "outputs": None})
    assert (call.request.outputs, call.request.inputs[0].shape) == (None, (1, 2))


def test_v2_null_data_stands_beside_binary_data() -> None:
    x = {**tensor("x", [1, 2], "FP32", parameters={"binary_data_size": 8}), "data": None}
    binary = np.array([1, 2], "<f4").tobytes()
    found = decode(ONE, {"inputs": [x]}, binary).request.inputs[0].array
    assert found is not None
    assert found.tolist() == [[1.0, 2.0]]


def test_v2_priority_counts_from_one_and_zero_means_default() -> None:
    found = [v2_parameters.understand({"priority": p}).priority for p in (0, 1, 2)]
    assert found == [0, 0, 1]


def test_v2_output_is_wanted_as_classes() -> None:
    wanted = {"name": "x", "parameters": {"classification": 3}}
    call = decode(ONE, {"inputs": [X], "outputs": [wanted]})
    assert call.classes is not None
    assert call.classes.counts == {"x": 3}
    assert not call.encodes_fast
    wanted["parameters"] = {"classification": 0}
    assert decode(ONE, {"inputs": [X], "outputs": [wanted]}).classes is None


@pytest.mark.parametrize("place", ["inputs", "outputs"])
def test_v2_classes_where_there_can_be_none_are_refused(place: str) -> None:
    document: dict[str, Any] = {"inputs": [dict(X)], "outputs": [{"name": "x"}]}
    document[place][0]["parameters"] = {"classification": 3 if place == "inputs" else -3}
    with pytest.raises(InvalidRequest) as caught:
        decode(ONE, document)
    assert caught.value.where.endswith("parameters.classification")


def test_v2_tensors_in_shared_memory_are_left_to_be_read_and_make_no_recipe() -> None:
    places = {"shared_memory_region": "r", "shared_memory_byte_size": 8}
    given = {**{k: v for k, v in X.items() if k != "data"}, "parameters": places}
    for _ in range(2):
        call = decode(ONE, {"inputs": [given], "outputs": [{"name": "x", "parameters": places}]})
        assert call.sharing == ({"x": places}, {"x": places})
        assert [(t.array, t.items) for t in call.request.inputs] == [(None, None)]


def test_v2_input_in_shared_memory_has_no_other_data() -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(ONE, {"inputs": [{**X, "parameters": {"shared_memory_region": "r"}}]})
    assert (caught.value.code, caught.value.where) == ("bad_input", "inputs.x")


@pytest.mark.parametrize(
    ("document", "code", "where"),
    [
        (b"[]", "wrong_type", "body"),
        (b"\xff", "bad_json", "body"),
        ({}, "wrong_type", "inputs"),
        ({"inputs": {}}, "wrong_type", "inputs"),
        ({"inputs": [X], "id": 5}, "wrong_type", "id"),
        ({"inputs": []}, "missing_input", "inputs"),
        ({"inputs": [3]}, "wrong_type", "inputs[0]"),
        ({"inputs": [{}]}, "wrong_type", "inputs[0].name"),
        ({"inputs": [X, X]}, "duplicate_input", "inputs"),
        ({"inputs": [{**X, "name": "xx"}]}, "unknown_input", "inputs[0]"),
        ({"inputs": [{**X, "datatype": "FP64"}]}, "wrong_dtype", "inputs.x.datatype"),
        ({"inputs": [{**X, "datatype": 1}]}, "wrong_type", "inputs.x.datatype"),
        ({"inputs": [{**X, "shape": None}]}, "wrong_type", "inputs.x.shape"),
        ({"inputs": [{**X, "shape": [1, -2]}]}, "bad_shape", "inputs.x.shape[1]"),
        ({"inputs": [{**X, "shape": [1, True]}]}, "bad_shape", "inputs.x.shape[1]"),
        ({"inputs": [{**X, "shape": [2**32, 2**31]}]}, "bad_shape", "inputs.x.shape"),
        ({"inputs": [{**X, "shape": [2**64, 2]}]}, "bad_shape", "inputs.x.shape[0]"),
        ({"inputs": [{**X, "shape": [2]}]}, "wrong_rank", "inputs.x.shape"),
        ({"inputs": [{**X, "shape": [1, 3]}]}, "wrong_shape", "inputs.x.shape"),
        ({"inputs": [{**X, "shape": [2, 2]}]}, "wrong_size", "inputs.x.data"),
        ({"inputs": [{**X, "data": [[1], [2]]}]}, "wrong_size", "inputs.x.data"),
        ({"inputs": [{**X, "data": [1, "2"]}]}, "bad_element", "inputs.x.data[1]"),
        ({"inputs": [{**X, "data": [1, [2]]}]}, "ragged", "inputs.x.data[1]"),
        ({"inputs": [{**X, "data": {}}]}, "bad_element", "inputs.x.data"),
        ({"inputs": [tensor("x", [1, 2], "FP32")]}, "bad_input", "inputs.x"),
        ({"inputs": [{**X, "parameters": {"binary_data_size": 8}}]}, "bad_input", "inputs.x"),
        ({"inputs": [X], "outputs": {}}, "wrong_type", "outputs"),
        ({"inputs": [X], "outputs": ["x"]}, "wrong_type", "outputs[0]"),
        ({"inputs": [X], "outputs": [{"name": "y"}]}, "unknown_output", "outputs[0]"),
        ({"inputs": [X], "outputs": [{"name": "x"}] * 2}, "duplicate_output", "outputs[1]"),
        (
            {"inputs": [X], "outputs": [{"name": "x", "parameters": {"binary_data": 1}}]},
            "bad_parameter",
            "outputs[0].parameters.binary_data",
        ),
    ],
)
def test_v2_names_what_is_wrong_and_where(document: Any, code: str, where: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(ONE, document)
    assert (caught.value.code, caught.value.where) == (code, where)


def test_v2_a_row_without_its_batch_axis_is_shown_with_it() -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(ONE, {"inputs": [{**X, "shape": [2]}]})
    assert caught.value.fix == "axis 0 counts the rows: one row has the shape [1,2]"


@pytest.mark.parametrize("size", [0, 7, 9, -8, 2**63, 8.0, "8", True])
def test_v2_a_lying_binary_size_is_refused(size: Any) -> None:
    document = {"inputs": [tensor("x", [1, 2], "FP32", parameters={"binary_data_size": size})]}
    with pytest.raises(InvalidRequest) as caught:
        decode(ONE, document, bytes(8))
    assert caught.value.code == "wrong_size"


def test_v2_bytes_left_over_are_refused() -> None:
    document = {"inputs": [tensor("x", [1, 2], "FP32", parameters={"binary_data_size": 8})]}
    with pytest.raises(InvalidRequest) as caught:
        decode(ONE, document, bytes(9))
    assert (caught.value.code, caught.value.given) == ("wrong_size", "1 more")


@pytest.mark.parametrize("length", [b"-1", b"99999", b"x", b"", b"1e2", b"9" * 40, b" 5"])
def test_v2_a_lying_header_length_is_refused(length: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(ONE, {"inputs": [X]}, headers={HEADER_LENGTH: length})
    assert caught.value.code == "bad_header_length"


@pytest.mark.parametrize("length", [b"1", b"40"])
def test_v2_a_header_length_inside_the_json_is_bad_json(length: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(ONE, {"inputs": [X]}, headers={HEADER_LENGTH: length})
    assert caught.value.code == "bad_json"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\1\0\0",
        b"\5\0\0\0ab",
        b"\xff\xff\xff\xff",
        b"\0\0\0\0",
        b"\1\0\0\0a\0\0\0\0\0\0\0\0",
    ],
)
def test_v2_lying_string_lengths_are_refused(data: bytes) -> None:
    texts = describe_as((spec("s", BYTES, "n"),))
    document = {"inputs": [tensor("s", [2], "BYTES", parameters={"binary_data_size": len(data)})]}
    with pytest.raises(InvalidRequest):
        decode(texts, document, data)


def test_v2_a_bool_byte_is_0_or_1() -> None:
    flags = describe_as((spec("f", BOOL, "n"),))
    document = {"inputs": [tensor("f", [2], "BOOL", parameters={"binary_data_size": 2})]}
    found = decode(flags, document, b"\1\0").request.inputs[0]
    assert array(found).tolist() == [True, False]
    with pytest.raises(InvalidRequest):
        decode(flags, document, b"\2\0")


def test_v2_a_raw_body_is_the_only_input_and_is_answered_in_binary() -> None:
    body = struct.pack("<4f", 1, 2, 3, 4)
    call = v2_codec.decode("m", None, body, {HEADER_LENGTH: b"0"}, only(ONE), NOW)
    np.testing.assert_array_equal(array(call.request.inputs[0]), [[1, 2], [3, 4]])
    head, tail = parts(reply(call))
    assert (head["outputs"][0]["shape"], tail) == ([2, 2], body)


@pytest.mark.parametrize("description", [PAIR, describe_as((spec("x", FP32, "a", "b", "c"),))])
def test_v2_a_raw_body_whose_shape_does_not_follow_is_refused(description: Description) -> None:
    with pytest.raises(InvalidRequest) as caught:
        v2_codec.decode("m", None, bytes(8), {HEADER_LENGTH: b"0"}, only(description), NOW)
    assert caught.value.code == "bad_header_length"


@pytest.mark.parametrize("version", ["0", "-1", "x", "1.0", "", "²", "9" * 50, "2"])
def test_v2_a_version_that_cannot_be_is_not_found(version: str) -> None:
    with pytest.raises(NotFound) as caught:
        v2_codec.decode("m", version, b"{}", {}, only(ONE), NOW)
    assert caught.value.code == "unknown_version"


def test_v2_a_form_upload_is_unsupported() -> None:
    with pytest.raises(UnsupportedMedia):
        decode(ONE, {"inputs": [X]}, headers={b"content-type": b"multipart/form-data"})


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["x", "FP32"]),
        lambda c: (
            st.lists(c, max_size=3)
            | st.dictionaries(
                st.sampled_from(["name", "shape", "datatype", "data", "parameters", "inputs"]), c
            )
        ),
        max_leaves=10,
    ),
    st.binary(max_size=9),
)
def test_v2_any_json_is_decoded_or_refused_by_a_serving_error(document: Any, tail: bytes) -> None:
    for found in (document, {"inputs": document}, {"inputs": [X], "outputs": document}):
        assert outcome(found, tail) in ("decoded", "INVALID_ARGUMENT", "UNIMPLEMENTED")


@given(st.binary(max_size=60), st.binary(max_size=4))
def test_v2_any_bytes_are_refused_by_a_serving_error(body: bytes, length: bytes) -> None:
    with pytest.raises(ServingError) as caught:
        v2_codec.decode("m", None, body, {HEADER_LENGTH: length}, only(PAIR), NOW)
    assert caught.value.status.value in ("INVALID_ARGUMENT", "UNSUPPORTED_MEDIA_TYPE")


def test_v2_metadata_says_minus_one_for_every_size_that_varies() -> None:
    description = describe_as(
        (spec("x", FP32, 8, 3, "h"), spec("t", INT64)),
        (spec("y", BYTES, "n", json=True),),
        axes=(0, None),
    )
    found = v2_metadata.model_metadata(description, "m")
    assert found["name"] == "m"
    assert found["versions"] == ["1", "3"]
    assert found["platform"] == "stub"
    assert found["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [-1, 3, -1]},
        {"name": "t", "datatype": "INT64", "shape": []},
    ]
    assert found["outputs"] == [{"name": "y", "datatype": "BYTES", "shape": [-1]}]
    assert "binary_tensor_data" in v2_metadata.server_metadata()["extensions"]


@pytest.mark.parametrize(
    ("description", "length", "fast"),
    [
        (ONE, b"100", True),
        (ONE, b"0", True),
        (ONE, b"70000", False),
        (ONE, None, False),
        (ONE, b"x", False),
        (PAIR, b"100", False),
    ],
)
def test_v2_only_numbers_in_binary_are_decoded_without_work_per_element(
    description: Description, length: bytes | None, fast: bool
) -> None:
    headers = {} if length is None else {HEADER_LENGTH: length}
    found = v2_codec.decodes_fast("m", None, 10**6, headers, only(description))
    assert found is fast
    assert v2_codec.decodes_fast("other", None, 10**6, headers, only(description)) is False


def test_v2_only_binary_numbers_are_encoded_without_work_per_element() -> None:
    inputs = [tensor("a", [1, 2], "FP32", [1, 2]), tensor("s", [1], "BYTES", ["t"])]
    all_binary = {"binary_data_output": True}
    both = decode(PAIR, {"inputs": inputs, "parameters": all_binary})
    numbers = decode(PAIR, {"inputs": inputs, "parameters": all_binary, "outputs": [{"name": "a"}]})
    text = decode(PAIR, {"inputs": inputs, "outputs": [{"name": "a"}]})
    assert [call.encodes_fast for call in (both, numbers, text)] == [False, True, False]
