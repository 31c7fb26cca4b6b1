"""Open Inference Protocol messages, to requests and from responses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import InvalidRequest, NotFound, ServingError
from serving.frontends import v2_metadata
from serving.frontends.grpc import v2_codec, wire
from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from serving.request import Description, InferRequest, InferResponse
from serving.tensor import (
    BF16,
    BOOL,
    BY_NAME,
    BYTES,
    DTYPES,
    FP16,
    FP32,
    INT8,
    BatchAxes,
    DType,
    Signature,
    Tensor,
    TensorSpec,
)

from .served import echo, raw_request

NUMBERS = [d for d in DTYPES if d is not BYTES]
TYPED = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)


def decode(message: pb.ModelInferRequest, description: Description, **extra: Any) -> InferRequest:
    parcel = wire.split(message.SerializeToString())
    head = v2_codec.parse(pb.ModelInferRequest, parcel.head)
    return v2_codec.decode(head, parcel.raw, description, **{"now": 100.0, **extra})


def refusal(message: pb.ModelInferRequest, description: Description) -> ServingError:
    with pytest.raises(ServingError) as refused:
        decode(message, description)
    return refused.value


def typed_request(
    datatype: str, shape: tuple[int, ...], values: list[Any], field: str = ""
) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="m")
    tensor = message.inputs.add(name="x0", datatype=datatype, shape=shape)
    getattr(tensor.contents, field or TYPED[datatype]).extend(values)
    return message


def random_array(dtype: DType, shape: tuple[int, ...], seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    if dtype is BOOL:
        return random.integers(0, 2, shape).astype(bool)
    size = int(np.prod(shape))
    return np.frombuffer(random.bytes(size * dtype.itemsize), dtype.numpy).reshape(shape)


@given(st.lists(st.tuples(st.sampled_from(NUMBERS), shapes), max_size=3), st.integers(0, 99))
def test_raw_numbers_arrive_bit_for_bit(
    tensors: list[tuple[DType, tuple[int, ...]]], seed: int
) -> None:
    arrays = [(d.name, random_array(d, shape, seed)) for d, shape in tensors]
    request = decode(raw_request("m", *arrays), echo("m", *(d for d, _ in tensors)))
    assert len(request.inputs) == len(arrays)
    for index, (tensor, (name, array)) in enumerate(zip(request.inputs, arrays, strict=True)):
        assert (tensor.name, tensor.dtype.name, tensor.shape) == (f"x{index}", name, array.shape)
        assert tensor.array is not None
        assert tensor.array.shape == array.shape
        assert tensor.array.tobytes() == array.tobytes()


def test_raw_numbers_are_views_of_the_message() -> None:
    data = raw_request("m", ("FP32", np.ones((64, 64), np.float32))).SerializeToString()
    parcel = wire.split(data)
    head = v2_codec.parse(pb.ModelInferRequest, parcel.head)
    (tensor,) = v2_codec.decode(head, parcel.raw, echo("m", FP32), now=0.0).inputs
    assert tensor.array is not None
    assert np.shares_memory(tensor.array, np.frombuffer(data, np.uint8))


@given(st.lists(st.binary(max_size=9), max_size=9))
def test_raw_strings_arrive(items: list[bytes]) -> None:
    message = pb.ModelInferRequest(model_name="m")
    message.inputs.add(name="x0", datatype="BYTES", shape=[len(items), 1])
    raw = b"".join(len(item).to_bytes(4, "little") + item for item in items)
    message.raw_input_contents.append(raw)
    (tensor,) = decode(message, echo("m", BYTES)).inputs
    assert tensor.items == items
    assert tensor.shape == (len(items), 1)


@given(st.sampled_from(sorted(TYPED)), shapes, st.integers(0, 99))
def test_typed_contents_arrive(datatype: str, shape: tuple[int, ...], seed: int) -> None:
    dtype = BY_NAME[datatype]
    if dtype is BYTES:
        strings = [b"%d" % i for i in range(int(np.prod(shape)))]
        (tensor,) = decode(typed_request(datatype, shape, strings), echo("m", dtype)).inputs
        assert (tensor.items, tensor.shape) == (strings, shape)
        return
    array = random_array(dtype, shape, seed)
    message = typed_request(datatype, shape, array.ravel().tolist())
    (tensor,) = decode(message, echo("m", dtype)).inputs
    assert tensor.array is not None
    assert tensor.array.dtype == dtype.numpy
    np.testing.assert_array_equal(tensor.array, array)


def test_typed_contents_longer_than_one_chunk_keep_their_order() -> None:
    values = list(range(50_000))
    (tensor,) = decode(
        typed_request("UINT64", (50_000,), values), echo("m", BY_NAME["UINT64"])
    ).inputs
    assert tensor.array is not None
    assert tensor.array.tolist() == values


def test_typed_uint64_keeps_the_largest_number_beside_small_ones() -> None:
    values = [1, 2**64 - 1, 2**63]
    (tensor,) = decode(typed_request("UINT64", (3,), values), echo("m", BY_NAME["UINT64"])).inputs
    assert tensor.array is not None
    assert tensor.array.tolist() == values


@pytest.mark.parametrize(
    ("datatype", "value"),
    [("INT8", 128), ("INT8", -129), ("INT16", 32768), ("UINT8", 256), ("UINT16", 65536)],
)
def test_typed_number_out_of_range_is_refused_by_place(datatype: str, value: int) -> None:
    error = refusal(typed_request(datatype, (3,), [0, value, 0]), echo("m", BY_NAME[datatype]))
    assert (error.code, error.where) == ("out_of_range", "inputs.x0.contents[1]")
    assert error.given == str(value)


@pytest.mark.parametrize("dtype", [FP16, BF16])
def test_half_precision_has_no_typed_contents(dtype: DType) -> None:
    error = refusal(typed_request(dtype.name, (1,), [1.0], "fp32_contents"), echo("m", dtype))
    assert error.code == "no_typed_contents"
    assert "raw_input_contents" in error.fix


def test_typed_contents_in_the_wrong_field_are_named() -> None:
    error = refusal(typed_request("FP32", (1,), [1.0], "fp64_contents"), echo("m", FP32))
    assert error.code == "wrong_contents"
    assert "fp32_contents" in error.expected
    assert error.given == "fp64_contents"


def test_typed_count_that_differs_from_the_shape_is_refused() -> None:
    error = refusal(typed_request("FP32", (2, 2), [1.0] * 3), echo("m", FP32))
    assert (error.code, error.expected, error.given) == (
        "wrong_size", "4 for [2,2]", "3 in fp32_contents",
    )  # fmt: skip


def test_input_without_any_contents_is_refused_unless_it_is_empty() -> None:
    assert refusal(typed_request("FP32", (1,), []), echo("m", FP32)).code == "wrong_size"
    (tensor,) = decode(typed_request("FP32", (0, 7), []), echo("m", FP32)).inputs
    assert tensor.shape == (0, 7)


def test_mixed_raw_and_typed_contents_are_refused() -> None:
    message = typed_request("FP32", (1,), [1.0])
    message.raw_input_contents.append(b"\0\0\0\0")
    error = refusal(message, echo("m", FP32))
    assert (error.code, error.where) == ("mixed_contents", "inputs.x0.contents")


def test_empty_contents_beside_raw_ones_are_no_contents() -> None:
    message = raw_request("m", ("FP32", np.float32([1.5])))
    message.inputs[0].contents.SetInParent()
    (tensor,) = decode(
        pb.ModelInferRequest.FromString(message.SerializeToString()), echo("m", FP32)
    ).inputs
    assert tensor.array.tolist() == [1.5]  # type: ignore[union-attr]


def test_raw_contents_for_some_inputs_and_typed_for_others_are_refused() -> None:
    message = raw_request("m", ("FP32", np.zeros(1, np.float32)), ("FP32", np.zeros(1, np.float32)))
    del message.raw_input_contents[1]
    message.inputs[1].contents.fp32_contents.append(1.0)
    error = refusal(message, echo("m", FP32, FP32))
    assert (error.code, error.where) == ("mixed_contents", "inputs.x1.contents")


@pytest.mark.parametrize("count", [1, 3])
def test_raw_contents_must_be_as_many_as_inputs(count: int) -> None:
    array = np.zeros(1, np.float32)
    message = raw_request("m", ("FP32", array), ("FP32", array))
    del message.raw_input_contents[:]
    message.raw_input_contents.extend([array.tobytes()] * count)
    error = refusal(message, echo("m", FP32, FP32))
    assert (error.code, error.given) == ("wrong_count", str(count))


@pytest.mark.parametrize("size", [0, 15, 17, 32])
def test_raw_bytes_that_do_not_fit_the_shape_are_refused(size: int) -> None:
    message = pb.ModelInferRequest(model_name="m", raw_input_contents=[b"\0" * size])
    message.inputs.add(name="x0", datatype="FP32", shape=[2, 2])
    error = refusal(message, echo("m", FP32))
    assert error.where == "inputs.x0"
    assert "16 bytes" in error.expected
    assert f"{size} bytes" in error.given


@pytest.mark.parametrize(
    "shape",
    [(-1,), (2, -3), (2**62, 2**62, 4), (2**63 - 1,), (0, 2**62, 2**62), (1,) * 33],
)
def test_impossible_shapes_are_refused_by_name(shape: tuple[int, ...]) -> None:
    message = pb.ModelInferRequest(model_name="m", raw_input_contents=[b""])
    message.inputs.add(name="x0", datatype="FP32", shape=shape)
    error = refusal(message, echo("m", FP32))
    assert (error.code, error.where) == ("bad_shape", "inputs.x0.shape")


def test_bool_bytes_other_than_0_and_1_are_refused() -> None:
    message = pb.ModelInferRequest(model_name="m", raw_input_contents=[b"\0\1\2"])
    message.inputs.add(name="x0", datatype="BOOL", shape=[3])
    assert refusal(message, echo("m", BOOL)).where == "inputs.x0"


def test_inputs_are_put_into_the_signatures_order() -> None:
    message = pb.ModelInferRequest(model_name="m")
    for name, value in (("x1", 1), ("x0", 2)):
        message.inputs.add(name=name, datatype="INT8", shape=[1])
        message.raw_input_contents.append(bytes([value]))
    inputs = decode(message, echo("m", INT8, INT8)).inputs
    assert [(t.name, int(np.ravel(t.array)[0])) for t in inputs] == [("x0", 2), ("x1", 1)]


def test_unknown_input_is_named_with_the_nearest_known() -> None:
    description = Description(
        "m", 1, Signature((TensorSpec("image", FP32, (1,)),), ()), BatchAxes.refused(""), 1, ""
    )
    message = pb.ModelInferRequest(raw_input_contents=[b"\0\0\0\0"])
    message.inputs.add(name="imagee", datatype="FP32", shape=[1])
    error = refusal(message, description)
    assert error.code == "unknown_input"
    assert "'imagee'" in error.message
    assert error.fix == "did you mean 'image'?"


def test_missing_input_is_named() -> None:
    error = refusal(raw_request("m", ("INT8", np.zeros(1, np.int8))), echo("m", INT8, FP32))
    assert error.code == "missing_input"
    assert "'x1'" in error.message


def test_duplicate_input_is_refused() -> None:
    array = np.zeros(1, np.int8)
    message = raw_request("m", ("INT8", array), ("INT8", array))
    message.inputs[1].name = "x0"
    assert refusal(message, echo("m", INT8, INT8)).code == "duplicate_input"


def test_another_datatype_is_refused_and_a_misspelt_one_corrected() -> None:
    message = raw_request("m", ("FP16", np.zeros(2, np.float16)))
    error = refusal(message, echo("m", FP32))
    assert (error.code, error.expected, error.given) == ("wrong_dtype", "FP32", "'FP16'")
    message.inputs[0].datatype = "FP_32"
    assert refusal(message, echo("m", FP32)).fix == "did you mean 'FP32'?"


def test_outputs_are_selected_in_the_order_asked_for() -> None:
    message = raw_request("m", *[("INT8", np.zeros(1, np.int8))] * 2)
    assert decode(message, echo("m", INT8, INT8)).outputs is None
    message.outputs.add(name="x1")
    message.outputs.add(name="x0")
    assert decode(message, echo("m", INT8, INT8)).outputs == ("x1", "x0")


@pytest.mark.parametrize(
    ("names", "code"), [(["x0", "x0"], "duplicate_output"), (["y"], "unknown_output")]
)
def test_outputs_unknown_or_asked_for_twice_are_refused(names: list[str], code: str) -> None:
    message = raw_request("m", ("INT8", np.zeros(1, np.int8)))
    for name in names:
        message.outputs.add(name=name)
    assert refusal(message, echo("m", INT8)).code == code


def test_parameters_set_priority_deadline_and_sequence_and_the_rest_is_passed_on() -> None:
    message = raw_request("m", ("INT8", np.zeros(1, np.int8)))
    message.parameters["priority"].uint64_param = 3
    message.parameters["timeout"].int64_param = 2_500_000
    message.parameters["sequence_id"].string_param = "s-1"
    message.parameters["temperature"].double_param = 0.5
    message.parameters["flag"].bool_param = True
    message.parameters["unset"].SetInParent()
    request = decode(message, echo("m", INT8))
    assert (request.priority, request.deadline, request.sequence) == (2, 102.5, "s-1")
    assert request.parameters == {"temperature": 0.5, "flag": True}


@pytest.mark.parametrize(("call", "expected"), [(101.0, 101.0), (103.0, 102.0), (None, 102.0)])
def test_the_earlier_of_timeout_and_call_deadline_wins(call: float | None, expected: float) -> None:
    message = raw_request("m", ("INT8", np.zeros(1, np.int8)))
    message.parameters["timeout"].int64_param = 2_000_000
    assert decode(message, echo("m", INT8), deadline=call).deadline == expected


@pytest.mark.parametrize("name", ["priority", "timeout"])
@pytest.mark.parametrize(("field", "value"), [("int64_param", -1), ("string_param", "1")])
def test_parameters_of_the_wrong_type_are_refused(name: str, field: str, value: Any) -> None:
    message = raw_request("m", ("INT8", np.zeros(1, np.int8)))
    setattr(message.parameters[name], field, value)
    error = refusal(message, echo("m", INT8))
    assert (error.code, error.where) == ("bad_parameter", f"parameters.{name}")


def rest_parameters(place: str, name: str, value: Any) -> pb.ModelInferRequest:
    message = raw_request("m", ("INT8", np.zeros(3, np.int8)))
    message.outputs.add(name="x0")
    holders = {"request": message, "input": message.inputs[0], "output": message.outputs[0]}
    field = "bool_param" if isinstance(value, bool) else "int64_param"
    setattr(holders[place].parameters[name], field, value)
    return message


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        ("request", "binary_data_output", True),
        ("request", "binary_data_output", False),
        ("output", "binary_data", True),
        ("output", "binary_data", False),
        ("input", "binary_data_size", 3),
    ],
)
def test_parameters_of_rest_that_agree_are_taken(place: str, name: str, value: Any) -> None:
    found = decode(rest_parameters(place, name, value), echo("m", INT8))
    assert found.inputs[0].array.tolist() == [0, 0, 0]  # type: ignore[union-attr]
    assert found.parameters == {}


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("request", "binary_data"),
        ("request", "binary_data_size"),
        ("input", "binary_data"),
        ("input", "binary_data_output"),
        ("output", "binary_data_size"),
        ("output", "binary_data_output"),
    ],
)
def test_parameters_of_rest_in_other_places_are_refused(place: str, name: str) -> None:
    error = refusal(rest_parameters(place, name, True), echo("m", INT8))
    assert isinstance(error, InvalidRequest)
    assert error.where.endswith(f".{name}")
    assert "REST" in error.message


@pytest.mark.parametrize(
    ("place", "name", "value", "code"),
    [
        ("request", "binary_data_output", 1, "bad_parameter"),
        ("output", "binary_data", 1, "bad_parameter"),
        ("input", "binary_data_size", True, "bad_parameter"),
        ("input", "binary_data_size", 4, "wrong_size"),
    ],
)
def test_parameters_of_rest_that_say_otherwise_are_refused(
    place: str, name: str, value: Any, code: str
) -> None:
    error = refusal(rest_parameters(place, name, value), echo("m", INT8))
    assert error.code == code
    assert error.where.endswith(f".{name}")


def test_size_of_binary_data_beside_typed_contents_is_refused() -> None:
    message = typed_request("FP32", (1,), [1.0])
    message.inputs[0].parameters["binary_data_size"].int64_param = 4
    error = refusal(message, echo("m", FP32))
    assert (error.code, error.expected) == ("wrong_size", "no such parameter")


def test_classes_are_wanted_of_outputs() -> None:
    known = echo("m", INT8, INT8)
    message = raw_request("m", ("INT8", np.zeros(1, np.int8)), ("INT8", np.zeros(1, np.int8)))
    assert v2_codec.classes_of(message, known) is None
    message.outputs.add(name="x1").parameters["classification"].int64_param = 2
    message.outputs.add(name="x0").parameters["classification"].int64_param = 0
    found = v2_codec.classes_of(message, known)
    assert found is not None
    assert found.counts == {"x1": 2}
    message.outputs[1].parameters["classification"].int64_param = -1
    with pytest.raises(InvalidRequest) as refused:
        v2_codec.classes_of(message, known)
    assert refused.value.where == "outputs[1].parameters.classification"


def test_classes_of_an_input_are_refused() -> None:
    message = raw_request("m", ("INT8", np.zeros(1, np.int8)))
    message.inputs[0].parameters["classification"].int64_param = 2
    error = refusal(message, echo("m", INT8))
    assert isinstance(error, InvalidRequest)
    assert error.where.endswith(".parameters.classification")


def test_inputs_in_shared_memory_have_no_raw_contents() -> None:
    message = raw_request("m", ("INT8", np.full(1, 7, np.int8)), ("INT8", np.zeros(1, np.int8)))
    message.inputs[0].parameters["shared_memory_region"].string_param = "r"
    assert "raw_input_contents" in refusal(message, echo("m", INT8, INT8)).where
    del message.raw_input_contents[1]
    first, second = decode(message, echo("m", INT8, INT8)).inputs
    assert (first.array, first.items) == (None, None)
    assert second.array.tolist() == [7]  # type: ignore[union-attr]
    found = v2_codec.sharing_of(message)
    assert found == ({"x0": {"shared_memory_region": "r"}}, {})
    assert found.where == "inputs.x0.parameters.shared_memory_region"


def test_classification_of_no_classes_is_the_plain_output() -> None:
    message = raw_request("m", ("INT8", np.zeros(1, np.int8)))
    message.outputs.add(name="x0").parameters["classification"].int64_param = 0
    assert decode(message, echo("m", INT8)).outputs == ("x0",)


def test_the_messages_own_id_goes_before_the_other() -> None:
    message = raw_request("m", ("INT8", np.zeros(1, np.int8)))
    assert decode(message, echo("m", INT8), id="other").id == "other"
    message.id = "own"
    assert decode(message, echo("m", INT8), id="other").id == "own"


def test_version_is_a_positive_integer_a_label_or_none() -> None:
    assert v2_codec.version_number("") is None
    assert v2_codec.version_number("12") == 12
    assert v2_codec.version_number("canary-2.x") == "canary-2.x"
    for bad in ("0", "-1", "1.0", "-x", "a" * 64, "a b", "1" * 19, "²", " 1"):
        with pytest.raises(NotFound):
            v2_codec.version_number(bad)


def test_parse_refuses_what_protobuf_refuses() -> None:
    with pytest.raises(InvalidRequest, match="not a valid protobuf message"):
        v2_codec.parse(pb.ModelReadyRequest, b"\x0a\x05abc")
    with pytest.raises(InvalidRequest, match="not a valid protobuf message"):
        v2_codec.parse(pb.ModelReadyRequest, b"\x0a\x01\xff")


def test_only_element_by_element_work_counts_as_heavy() -> None:
    big = v2_codec.HEAVY_BYTES
    zeros = np.zeros(big, np.float32)

    def heavy(message: pb.ModelInferRequest) -> bool:
        return v2_codec.is_heavy(wire.split(message.SerializeToString()))

    assert not heavy(raw_request("m", ("FP32", zeros)))
    assert heavy(typed_request("FP32", (big,), zeros.tolist()))
    strings = pb.ModelInferRequest(raw_input_contents=[b"\0" * 4 * big])
    strings.inputs.add(name="x0", datatype="BYTES", shape=[big])
    assert heavy(strings)
    strings.raw_input_contents[0] = b"\0" * 8
    assert not heavy(strings)


def answered(*outputs: Tensor, id: str = "", **parameters: Any) -> pb.ModelInferResponse:
    response = InferResponse("m", 7, id, outputs)
    response.parameters.update(parameters)
    return pb.ModelInferResponse.FromString(v2_codec.encode("m", response))


@given(st.lists(st.tuples(st.sampled_from(NUMBERS), shapes), max_size=3), st.integers(0, 99))
def test_answers_carry_every_number_bit_for_bit(
    tensors: list[tuple[DType, tuple[int, ...]]], seed: int
) -> None:
    arrays = [random_array(d, shape, seed) for d, shape in tensors]
    outputs = [
        Tensor(f"y{i}", d, shape, array)
        for i, ((d, shape), array) in enumerate(zip(tensors, arrays, strict=True))
    ]
    message = answered(*outputs, id="i")
    assert (message.model_name, message.model_version, message.id) == ("m", "7", "i")
    assert [(t.name, t.datatype, tuple(t.shape)) for t in message.outputs] == [
        (f"y{i}", d.name, shape) for i, (d, shape) in enumerate(tensors)
    ]
    assert list(message.raw_output_contents) == [array.tobytes() for array in arrays]


def test_answers_carry_strings_after_their_lengths() -> None:
    message = answered(Tensor("y", BYTES, (2,), items=[b"{}", b""]))
    assert message.outputs[0].datatype == "BYTES"
    assert list(message.raw_output_contents) == [b"\x02\0\0\0{}\0\0\0\0"]


def test_answers_carry_parameters_by_type() -> None:
    message = answered(a=True, b=-1, c="text", d=0.5, e=2**63)
    assert {name: p.WhichOneof("parameter_choice") for name, p in message.parameters.items()} == {
        "a": "bool_param",
        "b": "int64_param",
        "c": "string_param",
        "d": "double_param",
        "e": "uint64_param",
    }
    assert message.parameters["c"].string_param == "text"
    assert message.parameters["e"].uint64_param == 2**63


def test_answers_after_a_change_of_shape_describe_the_new_one() -> None:
    for rows in (1, 2, 1):
        message = answered(Tensor("y", INT8, (rows,), np.zeros(rows, np.int8)))
        assert list(message.outputs[0].shape) == [rows]


def test_metadata_shows_varying_sizes_as_minus_one() -> None:
    signature = Signature(
        (TensorSpec("image", FP32, ("batch", 3, "")), TensorSpec("any", BF16, None)),
        (TensorSpec("probabilities", BYTES, ("batch",), json=True),),
    )
    description = Description("m", 2, signature, BatchAxes.refused(""), 1, "onnx", versions=(1, 2))
    told = v2_codec.model_metadata(v2_metadata.model_metadata(description, "m"))
    message = pb.ModelMetadataResponse.FromString(told)
    assert (message.name, list(message.versions), message.platform) == ("m", ["1", "2"], "onnx")
    assert [(t.name, t.datatype, list(t.shape)) for t in message.inputs] == [
        ("image", "FP32", [-1, 3, -1]),
        ("any", "BF16", [-1]),
    ]
    assert [(t.name, t.datatype, list(t.shape)) for t in message.outputs] == [
        ("probabilities", "BYTES", [-1]),
    ]
