"""Makes a picture file into the array that an image input asks for, and says what it did.

Needs Pillow, which comes with the extra ``image``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from serving.errors import ConfigError
from serving.tensor import FP16, FP32, FP64, UINT8, Array, Dim, TensorSpec, shape_text

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_CHANNELS = {1: "L", 3: "RGB"}
_SCALES = {FP16: (0.0, 1.0), FP32: (0.0, 1.0), FP64: (0.0, 1.0), UINT8: (0.0, 255.0)}


def read(
    path: Path, spec: TensorSpec, axis: int | None, scale: tuple[float, float] | None
) -> tuple[Array, str]:
    """Return the picture as one row of an input, with a batch axis, and what was done to it.

    The row is [C,H,W], [H,W,C] or [H,W], with 1 or 3 channels; a size that varies keeps the
    picture's own. The picture is turned upright, made grey or RGB, and resized (bilinear, its
    proportions are not kept). ``scale`` are the values of black and of white: 0 and 1 for floats,
    0 and 255 for UINT8, unless said otherwise. Raises ConfigError.
    """
    layout = _layout(spec, axis)
    if layout is None or spec.dtype not in _SCALES:
        raise ConfigError(
            f"a picture does not fit input {spec.name!r}, {spec.text()}",
            code="bad_input",
            expected="FP16, FP32, FP64 or UINT8, and [N,C,H,W], [N,H,W,C] or [N,H,W], C 1 or 3",
        )
    channels, height, width, first = layout
    picture = _open(path)
    before = f"{picture.width}x{picture.height} {picture.mode}"
    grey = picture.convert(_CHANNELS[channels])
    size = (_size(width, grey.width), _size(height, grey.height))
    if grey.size != size:
        grey = grey.resize(size, _bilinear())
    black, white = scale or _SCALES[spec.dtype]
    values = black + np.asarray(grey, np.float64) / 255 * (white - black)
    if spec.dtype is UINT8:
        values = np.clip(np.rint(values), 0, 255)
    array = values.astype(spec.dtype.numpy)
    if first is not None and channels == 1:
        array = array[np.newaxis] if first else array[..., np.newaxis]
    elif first:
        array = array.transpose(2, 0, 1)
    whole = np.ascontiguousarray(np.expand_dims(array, axis or 0))
    colour = "grey" if channels == 1 else "RGB"
    return whole, (
        f"{path.name}: {before} became {colour}, {size[0]}x{size[1]}, black {black:g} and "
        f"white {white:g}, {spec.dtype.name}{shape_text(whole.shape)}"
    )


def _layout(spec: TensorSpec, axis: int | None) -> tuple[int, Dim, Dim, bool | None] | None:
    """Return channels, height, width, and whether channels come first (None: have no axis)."""
    if spec.shape is None or (axis is None and spec.shape[:1] != (1,)):
        return None
    batch = axis or 0
    row = spec.shape[:batch] + spec.shape[batch + 1 :]
    if len(row) == 2:
        return 1, row[0], row[1], None
    if len(row) == 3 and isinstance(row[0], int) and row[0] in _CHANNELS:
        return row[0], row[1], row[2], True
    if len(row) == 3 and isinstance(row[2], int) and row[2] in _CHANNELS:
        return row[2], row[0], row[1], False
    return None


def _open(path: Path) -> Image:
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise ConfigError(
            f"{path.name} cannot be read: Pillow is not installed",
            code="missing_extra",
            fix="pip install 'serving[image]', or give the pixels as a .npy file",
        ) from None
    try:
        with Image.open(path) as opened:
            return ImageOps.exif_transpose(opened)
    except (OSError, Image.DecompressionBombError) as error:
        raise ConfigError(
            f"{path} cannot be read as a picture: {error}", code="bad_input"
        ) from None


def _bilinear() -> Any:
    from PIL.Image import Resampling

    return Resampling.BILINEAR


def _size(declared: Dim, own: int) -> int:
    return declared if isinstance(declared, int) and declared > 0 else own
