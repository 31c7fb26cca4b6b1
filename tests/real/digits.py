"""The digit reader of ``servables/`` in three other forms: half precision, int8, split weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from sklearn.datasets import load_digits

from serving.tensor import Array
from tests.real.real_model import Infer, RealModel

_DIGITS = Path(__file__).parents[2] / "servables" / "digits" / "1" / "model.onnx"
_HELD_OUT_EVERY = 5  # as in its training script: every fifth digit was not trained on
_ASKED = 100
_FLOAT, _HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


def _place_half(_: Path, folder: Path) -> None:
    model = onnx.load(_DIGITS)
    for constant in model.graph.initializer:
        if constant.data_type == _FLOAT:
            half = numpy_helper.to_array(constant).astype(np.float16)
            constant.CopyFrom(numpy_helper.from_array(half, constant.name))
    for info in (*model.graph.input, *model.graph.output):
        if info.type.tensor_type.elem_type == _FLOAT:
            info.type.tensor_type.elem_type = _HALF
    onnx.save(model, folder / "model.onnx")


def _place_int8(_: Path, folder: Path) -> None:
    quantize_dynamic(_DIGITS, folder / "model.onnx", weight_type=QuantType.QUInt8)


def _place_split(_: Path, folder: Path) -> None:
    onnx.save(
        onnx.load(_DIGITS),
        folder / "model.onnx",
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=256,
    )
    assert (
        (folder / "model.onnx").stat().st_size < 4000 < (folder / "model.onnx.data").stat().st_size
    )


def _held_out() -> tuple[Array, Array]:
    digits = load_digits()
    images = digits.images[::_HELD_OUT_EVERY][:_ASKED, None].astype(np.float32)
    return images, digits.target[::_HELD_OUT_EVERY][:_ASKED]


def _ask(_: Path, infer: Infer) -> None:
    images, labels = _held_out()
    told = infer({"image": images})
    assert (told["label"].array() == labels).mean() > 0.97


def _ask_half(_: Path, infer: Infer) -> None:
    images, labels = _held_out()
    told = infer({"image": images.astype(np.float16)})
    assert told["probabilities"].datatype == "FP16"
    assert (told["label"].array() == labels).mean() > 0.97


MODELS = (
    RealModel("digits_half", _place_half, _ask_half),
    RealModel("digits_int8", _place_int8, _ask),
    RealModel("digits_split", _place_split, _ask),
)
