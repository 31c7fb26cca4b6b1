"""Which given values are an instance of a model, and what is said of those that are not."""

from __future__ import annotations

import numpy as np
import pytest

from serving.errors import InvalidRequest, ServingError
from serving.frontends.mindspore import instances, types
from serving.frontends.mindspore.instances import Common, Given, Typed
from serving.frontends.mindspore.target import Target
from serving.request import Description, InferRequest
from serving.tensor import BF16, BYTES, FP16, FP32, FP64, INT64, DType
from tests.unit.frontends.rest.served import describe_as, spec

TARGET = Target("m", "predict", 0)
PAIR = describe_as((spec("x", FP32, "n", 2),))


def typed(word: str, *shape: int, values: object = None) -> Typed:
    kind = types.BY_WORD[word]
    array = np.zeros(shape) if values is None else np.asarray(values)
    return Typed(kind, shape, array.astype(kind.dtype.numpy).reshape(-1))


def text(item: bytes, *shape: int) -> Typed:
    return Typed(types.STRING, shape, None, item)


def run(
    description: Description, *given: dict[str, Given]
) -> tuple[InferRequest | ServingError, ...]:
    return instances.requests(TARGET, description, given, lambda _, v: v, Common("id7", 9.0))


def one(description: Description, **given: Given) -> InferRequest:
    (found,) = run(description, given)
    assert isinstance(found, InferRequest), found
    return found


def refusal(description: Description, **given: Given) -> str:
    (found,) = run(description, given)
    assert isinstance(found, InvalidRequest)
    return str(found)


@pytest.mark.parametrize("shape", [(2,), (1, 2), (2, 1), (1, 1, 2)])
def test_bytes_decide_what_an_instance_is_and_not_its_shape(shape: tuple[int, ...]) -> None:
    (tensor,) = one(PAIR, x=typed("float32", *shape, values=[3, 4])).inputs
    assert (tensor.name, tensor.dtype, tensor.shape) == ("x", FP32, (1, 2))
    assert np.array_equal(tensor.array, [[3, 4]])


def test_an_instance_of_a_model_without_batch_axis_is_the_whole_tensor() -> None:
    whole = describe_as((spec("x", FP32, 2, 2),), batched=False)
    (tensor,) = one(whole, x=typed("float32", 4, values=[1, 2, 3, 4])).inputs
    assert np.array_equal(tensor.array, [[1, 2], [3, 4]])


def test_size_is_looked_at_before_the_type_and_the_type_exactly() -> None:
    size = "Given model input 0 size 16 not match the size 8 defined in model"
    kind = (
        "Given model input 0 data type kMSI_Int32 "
        "not match the data type kMSI_Float32 defined in model"
    )
    assert refusal(PAIR, x=typed("float64", 2)) == size
    assert refusal(PAIR, x=typed("int32", 2)) == kind
    assert refusal(PAIR, x=text(b"ab")).startswith("Given model input 0 size 0 not match")


def test_an_error_names_the_place_of_the_input_in_the_model() -> None:
    two = describe_as((spec("x", FP32, "n", 2), spec("y", FP32, "n", 3)))
    said = refusal(two, y=typed("float32", 2), x=typed("float32", 2))
    assert said == "Given model input 1 size 8 not match the size 12 defined in model"


def test_inputs_the_model_does_not_have_are_not_looked_at() -> None:
    def read(_name: str, value: Given | None) -> Given:
        assert value is not None
        return value

    given = {"x": typed("float32", 2), "zzz": None}
    (found,) = instances.requests(TARGET, PAIR, [given], read, Common("", None))
    assert isinstance(found, InferRequest)


def test_a_missing_input_refuses_the_whole_request() -> None:
    with pytest.raises(InvalidRequest) as refused:
        run(PAIR, {"x": typed("float32", 2)}, {"y": typed("float32", 2)})
    assert str(refused.value) == (
        "Cannot find input x in instance input , servable m, method predict"
    )


def test_no_instances_are_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        run(PAIR)
    assert str(refused.value) == "Request servable(m) method(predict) , instances count is 0"


def test_too_many_instances_are_refused() -> None:
    given = {"x": typed("float32", 2)}
    assert len(run(PAIR, *[given] * 16384)) == 16384
    with pytest.raises(InvalidRequest, match="instances count exceeds the limit 16384"):
        run(PAIR, *[given] * 16385)


def test_a_bad_instance_leaves_the_others_their_requests() -> None:
    good, bad = typed("float32", 2), typed("float32", 3)
    found = run(PAIR, {"x": good}, {"x": bad}, {"x": good})
    assert [isinstance(entry, InferRequest) for entry in found] == [True, False, True]


def test_requests_carry_id_deadline_version_and_generation() -> None:
    target = Target("m", "predict", 3)
    given = [{"x": typed("float32", 2)}]
    (found,) = instances.requests(target, PAIR, given, lambda _, v: v, Common("a", 5.0))
    assert isinstance(found, InferRequest)
    assert (found.id, found.deadline, found.version) == ("a", 5.0, 3)
    assert found.generation == PAIR.generation
    assert one(PAIR, x=typed("float32", 2)).version is None


def test_a_size_that_varies_is_taken_from_the_shape() -> None:
    wide = describe_as((spec("x", FP32, "n", "length", 2),))
    (tensor,) = one(wide, x=typed("float32", 3, 2)).inputs
    assert tensor.shape == (1, 3, 2)
    (tensor,) = one(wide, x=typed("float32", 1, 3, 2)).inputs
    assert tensor.shape == (1, 3, 2)
    assert refusal(wide, x=typed("float32", 6)) == (
        "Given model input 0 shape [6] not match the shape [length,2] defined in model"
    )
    assert refusal(wide, x=typed("float32", 2, 3, 2)).startswith("Given model input 0 shape")


def test_the_batch_axis_goes_where_the_model_has_it() -> None:
    state = describe_as((spec("x", FP32, 4, "n", 2),), axes=(1,))
    (tensor,) = one(state, x=typed("float32", 4, 2)).inputs
    assert tensor.shape == (4, 1, 2)


def test_a_value_beside_the_batch_keeps_its_shape() -> None:
    beside = describe_as((spec("x", FP32, "n", 2), spec("v", FP32, 2)), axes=(0, None))
    inputs = one(beside, x=typed("float32", 2), v=typed("float32", 2)).inputs
    assert [tensor.shape for tensor in inputs] == [(1, 2), (2,)]


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_string_is_one_element_whatever_the_input_calls_it(shape: tuple[int, ...]) -> None:
    for dims in ((), (1,), ("words",)):
        words = describe_as((spec("x", BYTES, "n", *dims),))
        (tensor,) = one(words, x=text("é".encode(), *shape)).inputs
        assert (tensor.items, tensor.shape) == (["é".encode()], (1,) * (1 + len(dims)))


def test_strings_and_numbers_are_not_taken_for_each_other() -> None:
    words = describe_as((spec("x", BYTES, "n"),))
    assert refusal(words, x=typed("float32")) == (
        "Given model input 0 data type kMSI_Float32 "
        "not match the data type kMSI_String defined in model"
    )
    wide = describe_as((spec("x", FP32, "n", "length"),))
    assert "data type kMSI_String not match" in refusal(wide, x=text(b"a"))
    several = describe_as((spec("x", BYTES, "n", 3),))
    assert refusal(several, x=text(b"a")) == (
        "Given model input 0 is one string, not match the shape [3] defined in model"
    )


def test_bf16_inputs_take_float32_which_is_rounded() -> None:
    half = describe_as((spec("x", BF16, "n", 2),))
    (tensor,) = one(half, x=typed("float32", 2, values=[1.0, -2.5])).inputs
    assert tensor.dtype is BF16
    assert np.array_equal(tensor.array, [[0x3F80, 0xC020]])  # sign, 8 of exponent, 7 of fraction
    assert "size 4 not match the size 8" in refusal(half, x=typed("float16", 2))


@pytest.mark.parametrize("dtype", [FP16, FP64, INT64])
def test_numbers_keep_their_type(dtype: DType) -> None:
    described = describe_as((spec("x", dtype, "n", 2),))
    (tensor,) = one(described, x=typed(types.of(dtype).word, 2, values=[1, 2])).inputs
    assert tensor.dtype is dtype
    assert tensor.array is not None
    assert tensor.array.dtype == dtype.numpy
