"""Values on their way to a method and back, of any type, as MindSpore Serving has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serving.errors import ExecutionFailed, InvalidRequest, NotFound
from serving.frontends.mindspore import failures, instances, outputs, types
from serving.frontends.mindspore.instances import Common, Given, Typed
from serving.frontends.mindspore.target import Target
from serving.frontends.rest import ms_json
from serving.request import Description, InferRequest, InferResponse
from serving.tensor import (
    BF16,
    BOOL,
    BYTES,
    FP16,
    FP32,
    FP64,
    INT8,
    INT32,
    INT64,
    TEXT,
    UINT64,
    DType,
    Tensor,
    TensorSpec,
)
from tests.doubles import methods
from tests.doubles.plane import StubPlane

TARGET = Target("kinds", "echo", 0)


def decode(description: Description, **given: Given) -> InferRequest:
    found = instances.requests(TARGET, description, [given], lambda _, v: v, Common("", None))
    assert isinstance(found[0], InferRequest), found
    return found[0]


def from_json(value: Any, description: Description = methods.ECHO) -> Tensor:
    (tensor,) = decode(description, x=ms_json.read("x", value)).inputs
    return tensor


@pytest.mark.parametrize(
    "kind", [k for k in types.TYPES if k.dtype is not BYTES], ids=lambda k: k.word
)
@pytest.mark.parametrize("shape", [(), (3,), (1, 3), (2, 0)])
def test_numbers_go_on_in_their_own_type_and_shape(
    kind: types.MsType, shape: tuple[int, ...]
) -> None:
    array = np.arange(np.prod(shape, dtype=int)).astype(kind.dtype.numpy)
    request = decode(methods.ECHO, x=Typed(kind, shape, array))
    (tensor,) = request.inputs
    assert (request.method, request.generation, request.servable) == ("echo", 7, "kinds")
    assert (tensor.name, tensor.dtype, tensor.shape) == ("x", kind.dtype, (1, *shape))
    assert tensor.array is not None
    assert tensor.array.tobytes() == array.tobytes()


@pytest.mark.parametrize(("kind", "dtype"), [(types.STRING, TEXT), (types.RAW, BYTES)])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_strings_and_bytes_stay_apart(
    kind: types.MsType, dtype: DType, shape: tuple[int, ...]
) -> None:
    (tensor,) = decode(methods.ECHO, x=Typed(kind, shape, None, b"ab")).inputs
    assert (tensor.dtype, tensor.shape, tensor.items) == (dtype, (1, *shape), [b"ab"])


@pytest.mark.parametrize(
    ("value", "dtype", "shape", "expected"),
    [
        (5, INT32, (1,), [5]),
        (-(2**31), INT32, (1,), [-(2**31)]),
        (2**31, INT64, (1,), [2**31]),
        ([1, 2**40], INT64, (1, 2), [[1, 2**40]]),
        (2**63, UINT64, (1,), [2**63]),
        (1.5, FP32, (1,), [1.5]),
        ([[1.5], [2.5]], FP32, (1, 2, 1), [[[1.5], [2.5]]]),
        (1e300, FP64, (1,), [1e300]),
        (True, BOOL, (1,), [True]),
        ([True, False], BOOL, (1, 2), [[True, False]]),
        ({"b64": "AAE=", "type": "int8", "shape": [2]}, INT8, (1, 2), [[0, 1]]),
    ],
)
def test_json_numbers_have_the_narrowest_of_mindspore_s_types_that_holds_them(
    value: Any, dtype: DType, shape: tuple[int, ...], expected: Any
) -> None:
    tensor = from_json(value)
    assert (tensor.dtype, tensor.shape) == (dtype, shape)
    assert np.array_equal(tensor.array, expected)


def test_json_strings_are_text_and_base64_is_bytes() -> None:
    assert [(t.dtype, t.shape, t.items) for t in map(from_json, ("é", ["a"]))] == [
        (TEXT, (1,), ["é".encode()]),
        (TEXT, (1, 1), [b"a"]),
    ]
    for value, dtype, shape in (
        ({"b64": "YWJj"}, BYTES, (1,)),
        ({"b64": "YWJj", "shape": [1]}, BYTES, (1, 1)),
        ({"b64": "YWJj", "type": "str"}, TEXT, (1,)),
        ([{"b64": "YWJj", "type": "str"}], TEXT, (1, 1)),
    ):
        tensor = from_json(value)
        assert (tensor.dtype, tensor.shape, tensor.items) == (dtype, shape, [b"abc"])


def test_integers_that_no_type_holds_are_refused() -> None:
    (found,) = instances.requests(
        TARGET,
        methods.ECHO,
        [{"x": ms_json.read("x", [-1, 2**63])}],
        lambda _, v: v,
        Common("", None),
    )
    assert isinstance(found, InvalidRequest)
    assert "not in the range of the data type kMSI_Uint64" in str(found)


@pytest.mark.parametrize(("dtype", "value"), [(INT64, 3), (FP16, 1.5), (BF16, 1.5)])
def test_json_numbers_for_a_model_take_its_type(dtype: DType, value: float) -> None:
    known = methods.method(
        "echo", (TensorSpec("x", dtype, ("", 2)),), methods.ECHO.signature.outputs
    )
    assert from_json([value, value], known).dtype is dtype


def test_what_a_model_will_refuse_goes_on_as_it_is() -> None:
    """Where stages follow one another only they know the words; sizes are counted there."""
    text = decode(methods.ADD, x1=ms_json.read("x1", "a"), x2=ms_json.read("x2", [1, 2, 3]))
    assert [(t.dtype, t.shape) for t in text.inputs] == [(TEXT, (1,)), (INT32, (1, 3))]


def test_more_axes_than_there_may_be_are_refused() -> None:
    given = {"x": Typed(types.BY_WORD["int8"], (1,) * 32, np.zeros(1, np.int8))}
    (found,) = instances.requests(TARGET, methods.ECHO, [given], lambda _, v: v, Common("", None))
    assert isinstance(found, InvalidRequest)


def answered(*tensors: Tensor) -> list[tuple[str, types.MsType, tuple[int, ...]]]:
    response = InferResponse("kinds", 1, "", tensors)
    return [(o.name, o.type, o.shape) for o in outputs.of(response, methods.ECHO)]


def test_outputs_are_what_the_method_gave() -> None:
    assert answered(Tensor("y", TEXT, (1,), items=[b"a"])) == [("y", types.STRING, ())]
    assert answered(Tensor("y", BYTES, (1,), items=[b"a"])) == [("y", types.RAW, ())]
    assert answered(Tensor("y", BYTES, (1, 1), items=[b"a"])) == [("y", types.RAW, (1,))]
    half = Tensor.of("y", np.zeros((1, 2, 0), np.float16))
    assert answered(half) == [("y", types.BY_WORD["float16"], (2, 0))]


def test_a_function_s_error_is_one_of_the_system() -> None:
    assert failures.told(ExecutionFailed("x", code="stage_failed"), TARGET) == (3, "x")
    assert failures.told(ExecutionFailed("x"), TARGET) == (1, "x")


@pytest.mark.parametrize("name", ["nope", "", "e" * 256])
def test_a_method_that_is_not_there_is_told_in_known_words(name: str) -> None:
    plane = StubPlane(methods.ECHO, methods.ADD)
    target = Target("kinds", name, 0)
    with pytest.raises(NotFound) as refused:
        target.find(plane.describe)
    expected = f"Request servable(kinds) method({name[:255]}) , method is not available"
    assert failures.told(refused.value, target) == (2, expected)
    assert Target("kinds", "add", 0).find(plane.describe) is methods.ADD


def test_the_only_method_must_be_named_here() -> None:
    plane = StubPlane(methods.ECHO)
    with pytest.raises(NotFound):
        Target("kinds", "", 0).find(plane.describe)
    assert plane.describe("kinds") is methods.ECHO


def test_a_big_float_is_not_taken_for_a_smaller_one() -> None:
    assert from_json([float(np.finfo(np.float32).max)]).dtype is FP32
