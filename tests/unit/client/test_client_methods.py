"""What the client makes of values for methods, and of their answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serving.client import prediction, rows, values
from serving.client.inputs import to_tensors
from serving.tensor import ANY, BYTES, FP32, FP64, INT64, TEXT, UINT8, DType, Tensor, TensorSpec
from serving.v1 import tensors
from serving.v1.stubs import serving_v1_pb2 as pb
from tests.doubles import methods

OPEN = TensorSpec("x", ANY, None)


@pytest.mark.parametrize(
    ("value", "dtype", "shape"),
    [
        (3, INT64, ()),
        ([1.5, 2], FP64, (2,)),
        (np.zeros((2, 3), np.uint8), UINT8, (2, 3)),
        (np.float32(1), FP32, ()),
        ("a", TEXT, ()),
        (["a", "b"], TEXT, (2,)),
        (np.array([["a"]]), TEXT, (1, 1)),
        (np.array(["a", "b"], object), TEXT, (2,)),
        (b"a", BYTES, ()),
        (["a", b"b"], BYTES, (2,)),
        (np.array([b"a"], object), BYTES, (1,)),
    ],
)
def test_values_for_any_dtype_have_their_own(
    value: Any, dtype: DType, shape: tuple[int, ...]
) -> None:
    tensor = values.to_tensor("x", value, OPEN)
    assert (tensor.dtype, tensor.shape) == (dtype, shape)


def test_inputs_that_go_into_a_model_take_its_dtype() -> None:
    given = {"x1": [[1, 2]], "x2": [[3, 4]]}
    assert [tensor.dtype for tensor in to_tensors(given, methods.ADD)] == [FP32, FP32]


def test_rows_of_any_dtype_travel_alone_and_typed_ones_together() -> None:
    alone = rows.group([1, 2, "a"], methods.ECHO)
    assert [(g.places, g.inputs[0].dtype, g.inputs[0].shape) for g in alone] == [
        ((0,), INT64, (1,)), ((1,), INT64, (1,)), ((2,), TEXT, (1,)),
    ]  # fmt: skip
    pair = {"x1": [1, 2], "x2": [3, 4]}
    together = rows.group([pair] * 3, methods.ADD)
    assert [(g.places, g.inputs[0].shape) for g in together] == [((0, 1, 2), (3, 2))]


def test_rows_of_text_and_of_bytes_never_meet() -> None:
    typed = TensorSpec("y", FP32, ("",))
    known = methods.method("mixed", (OPEN,), (typed,))
    groups = rows.group(["a", b"b", "c"], known)
    assert [(g.places, g.inputs[0].dtype) for g in groups] == [((0, 2), TEXT), ((1,), BYTES)]


def read(dtype: DType, item: bytes, *, is_method: bool) -> Any:
    head = pb.PredictResponse(servable="m", version=1).SerializeToString()
    sent = Tensor("y", dtype, (1,), items=[item])
    data = tensors.pack(head, tensors.RESPONSE_OUTPUTS, [(sent, False)])
    return prediction.read(data, is_method=is_method)["y"].tolist()


def test_text_of_a_method_is_str_and_its_bytes_are_bytes() -> None:
    assert read(TEXT, b"ab", is_method=True) == ["ab"]
    assert read(BYTES, b"ab", is_method=True) == [b"ab"]
    assert read(BYTES, b"ab", is_method=False) == ["ab"]
