"""What a model takes of an instance's values, by MindSpore Serving's rules, and what it gives."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from serving.errors import InternalError, InvalidRequest
from serving.request import Description, InferResponse
from serving.scheduling.pipeline.port import Port, Terms
from serving.tensor import (
    BF16,
    BYTES,
    FP32,
    INT32,
    INT64,
    TEXT,
    BatchAxes,
    Dim,
    DType,
    Signature,
    Tensor,
    TensorSpec,
)

TERMS = Terms("r", None, 0, 0.0)


def port(dtype: DType, shape: tuple[Dim, ...] | None, axis: int | None = 0) -> Port:
    """Return a model with one input and one output of the same look."""
    specs = (TensorSpec("x", dtype, shape),)
    description = Description("m", 1, Signature(specs, specs), BatchAxes.refused(""), 0, "")
    line: Any = SimpleNamespace(description=description)
    return Port(line, description.signature, (axis,), (axis,))


def fed(to: Port, value: Tensor) -> Tensor:
    (tensor,) = to.request((value,), TERMS).inputs
    return tensor


def numbers(*shape: int, dtype: str = "float32") -> Tensor:
    return Tensor.of("", np.arange(np.prod(shape, dtype=int), dtype=dtype).reshape(shape))


@pytest.mark.parametrize("shape", [(4,), (2, 2), (1, 2, 2), (4, 1)])
def test_port_compares_bytes_and_not_shapes(shape: tuple[int, ...]) -> None:
    tensor = fed(port(FP32, (8, 2, 2)), numbers(*shape))
    assert tensor.shape == (1, 2, 2)
    assert tensor.array is not None
    assert tensor.array.tolist() == [[[0, 1], [2, 3]]]


def test_port_without_a_batch_axis_takes_the_whole_input() -> None:
    assert fed(port(FP32, (2, 2), None), numbers(4)).shape == (2, 2)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (numbers(3), "Given model input 0 size 12 not match the size 16 defined in model"),
        # Bytes are compared first: of a wrong type with wrong bytes the bytes are told.
        (
            numbers(4, dtype="float64"),
            "Given model input 0 size 32 not match the size 16 defined in model",
        ),
        (
            numbers(4, dtype="int32"),
            "Given model input 0 data type kMSI_Int32 not match the data type kMSI_Float32 "
            "defined in model",
        ),
        (
            Tensor("", TEXT, (), items=[b"x"]),
            "Given model input 0 size 0 not match the size 16 defined in model",
        ),
    ],
)
def test_port_refuses_in_the_recorded_words(value: Tensor, text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        fed(port(FP32, (8, 2, 2)), value)
    assert str(caught.value) == text


def test_port_takes_shapes_where_sizes_vary() -> None:
    open_port = port(FP32, ("n", "length", 2))
    assert fed(open_port, numbers(3, 2)).shape == (1, 3, 2)
    assert fed(open_port, numbers(1, 3, 2)).shape == (1, 3, 2)
    with pytest.raises(InvalidRequest, match=r"shape \[6\] not match the shape \[length,2\]"):
        fed(open_port, numbers(6))


def test_port_refuses_a_wrong_number_of_values() -> None:
    with pytest.raises(InvalidRequest, match="inputs count 2"):
        port(FP32, (4,)).request((numbers(1), numbers(1)), TERMS)


@pytest.mark.parametrize("dtype", [TEXT, BYTES])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_port_takes_one_string_in_either_shape(dtype: DType, shape: tuple[int, ...]) -> None:
    tensor = fed(port(BYTES, ("n", 1)), Tensor("", dtype, shape, items=[b"a"]))
    assert (tensor.dtype, tensor.shape, tensor.items) == (BYTES, (1, 1), [b"a"])


def test_port_rounds_float32_to_bfloat16_and_widens_it_again() -> None:
    tensor = fed(port(BF16, ("n", 2)), Tensor.of("", np.array([1.5, -2.0], np.float32)))
    assert (tensor.dtype, tensor.shape) == (BF16, (1, 2))
    (back,) = port(BF16, ("n", 2)).values(InferResponse("m", 1, "", (tensor,)))
    assert back.dtype is FP32
    assert back.array is not None
    assert back.array.tolist() == [1.5, -2.0]


def test_port_gives_outputs_without_the_row_axis_and_shares_their_memory() -> None:
    array = np.arange(3, dtype=np.int64).reshape(1, 3)
    (value,) = port(INT64, ("n", 3)).values(InferResponse("m", 1, "", (Tensor.of("x", array),)))
    assert (value.shape, value.dtype) == ((3,), INT64)
    assert value.array is not None
    assert np.shares_memory(value.array, array)


def test_port_refuses_an_output_without_the_one_row() -> None:
    two = InferResponse("m", 1, "", (numbers(2, 3, dtype="int32"),))
    with pytest.raises(InternalError, match="one row"):
        port(INT32, ("n", 3)).values(two)


@pytest.mark.parametrize(("item", "dtype"), [(b"caf\xc3\xa9", TEXT), (b"\xff", BYTES)])
def test_port_gives_strings_as_text_where_they_are(item: bytes, dtype: DType) -> None:
    response = InferResponse("m", 1, "", (Tensor("x", BYTES, (1,), items=[item]),))
    (value,) = port(BYTES, ("n",)).values(response)
    assert (value.dtype, value.shape, value.items) == (dtype, (), [item])
