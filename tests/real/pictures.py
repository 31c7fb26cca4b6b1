"""Models that see: which way up a page is, whether and where there is a face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from PIL import Image

from serving.tensor import Array
from tests.real.real_model import Infer, RealModel, copied

_FACE = (180, 70, 270, 180)  # left, top, right, bottom of the astronaut's face
_FLAG = (20, 200, 120, 300)
_SUIT = (300, 300, 400, 400)
_FACE_SCALE = 0.15
_STRIDE, _CELL = 2, 12  # of the face finder: a cell of 12 by 12 pixels every 2 pixels


def _ask_orientation(fetched: Path, infer: Infer) -> None:
    page = Image.open(fetched / "page.png").convert("RGB")
    for turned in (0, 90, 180, 270):  # degrees clockwise; the model's four answers
        told = infer({"x": _upright_crop(page.rotate(-turned, expand=True))})
        (answer,) = told.values()
        assert 90 * answer.array()[0].argmax() == turned
        assert answer.array()[0].max() > 0.9


def _upright_crop(picture: Image.Image) -> Array:
    """Scale the shorter side to 256, cut 224 by 224 out of the middle, normalise, NCHW."""
    scale = 256 / min(picture.size)
    width, height = (round(side * scale) for side in picture.size)
    left, top = (width - 224) // 2, (height - 224) // 2
    small = picture.resize((width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(small.crop((left, top, left + 224, top + 224)), np.float32) / 255
    pixels = (pixels - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], dtype=np.float32)


def _face_pixels(picture: Image.Image) -> Array:
    """Return what the face models take: NWHC (their axes are swapped), in -1 to 1."""
    pixels = (np.asarray(picture, np.float32) - 127.5) / 128
    return np.ascontiguousarray(pixels.transpose(1, 0, 2)[None])


def _ask_onet(fetched: Path, infer: Infer) -> None:
    picture = Image.open(fetched / "astronaut.png").convert("RGB")
    crops = [
        picture.crop(box).resize((48, 48), Image.Resampling.BILINEAR)
        for box in (_FACE, _FLAG, _SUIT)
    ]
    told = infer({"input_3": np.concatenate([_face_pixels(crop) for crop in crops])})
    face, *others = told["softmax_2"].array()[:, 1]
    assert face > 0.999
    assert max(others) < 0.1


def _place_face_finder(fetched: Path, folder: Path) -> None:
    """Put a threshold behind P-Net: how many cells it finds depends on the picture."""
    model = onnx.load(fetched / "pnet.onnx")
    del model.graph.output[:]
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(1, np.int64), "face"),
            numpy_helper.from_array(np.array(0.95, np.float32), "threshold"),
        ]
    )
    model.graph.node.extend(
        [
            helper.make_node("Gather", ["softmax", "face"], ["faces"], axis=3),
            helper.make_node("Greater", ["faces", "threshold"], ["found"]),
            helper.make_node("NonZero", ["found"], ["found_at"]),
            helper.make_node("Transpose", ["found_at"], ["cells"]),
        ]
    )
    int64 = onnx.TensorProto.INT64
    model.graph.output.append(helper.make_tensor_value_info("cells", int64, ["count", 3]))
    onnx.save(model, folder / "model.onnx")


def _ask_face_finder(fetched: Path, infer: Infer) -> None:
    astronaut = _cells(fetched / "astronaut.png", infer)
    assert len(astronaut) > 3
    left, top, right, bottom = _FACE
    x, y = astronaut.mean(0)
    assert left < x < right
    assert top < y < bottom
    assert _cells(fetched / "chelsea.png", infer).shape == (0, 2)  # a cat


def _cells(path: Path, infer: Infer) -> Array:
    """Return the middles of the cells with a face, in pixels of the whole picture."""
    picture = Image.open(path).convert("RGB")
    width, height = (int(side * _FACE_SCALE) for side in picture.size)
    small = picture.resize((width, height), Image.Resampling.BILINEAR)
    cells = infer({"input_1": _face_pixels(small)})["cells"].array()
    return (cells[:, 1:] * _STRIDE + _CELL / 2) / _FACE_SCALE


MODELS = (
    RealModel("orientation", copied("orientation.onnx"), _ask_orientation),
    RealModel("onet", copied("onet.onnx"), _ask_onet),
    RealModel("face_finder", _place_face_finder, _ask_face_finder),
)
