"""Runs the samples that settings ask for before a version is READY."""

from __future__ import annotations

import struct
from typing import List, Optional, Sequence, Tuple

import numpy as np

from serving.backends.base import BackendError, DeviceLost, Model
from serving.tensor import Tensor, TensorSpec, element_count, shape_text
from serving.warmup import ZEROS, Fill, WarmUp
from serving.worker import sample_file
from serving.worker.samples import Samples, made_up, row_shape

_SOME_SIZE = 8
"""Of an axis that varies, where no size of it is accepted: the model's refusal says more."""


def warm_up(
    model: Model, samples: Samples, orders: Sequence[WarmUp], max_batch_size: int
) -> List[str]:
    """Run every sample as often as it is asked for; return notes on those that failed.

    Raises BackendError with the reason where one that is required fails.
    """
    notes = []
    for order in orders:
        try:
            for inputs in _runs(model, samples, order, max_batch_size):
                binding = model.bind(inputs, None)
                for _ in range(order.count):
                    binding.run()
        except DeviceLost:
            raise
        except (BackendError, OSError, ValueError, KeyError, MemoryError) as error:
            text = f"warm-up sample {order.name!r} failed: {_said(error)}"
            if order.required:
                raise BackendError(text) from error
            notes.append(text)
    return notes


def _runs(model: Model, samples: Samples, order: WarmUp, max_batch_size: int) -> List[List[Tensor]]:
    if not order.file:
        return [_made(model, samples, order)]
    rows = sample_file.read(order.file, samples.signature, samples.axes)
    if not rows:
        raise ValueError("its file holds no rows")
    most = _rows_together(samples, rows, max_batch_size)
    batches = [rows[at : at + most] for at in range(0, len(rows), most)]
    return [samples.together(b + b[:1] * (samples.filled(len(b)) - len(b))) for b in batches]


def _rows_together(samples: Samples, rows: Sequence[sample_file.Row], max_batch_size: int) -> int:
    if not any(axis is not None for axis in samples.axes):
        return 1
    looks = {tuple(tensor.shape for tensor in row) for row in rows}
    return samples.most(max_batch_size) if len(looks) == 1 else 1


def _made(model: Model, samples: Samples, order: WarmUp) -> List[Tensor]:
    specs = samples.signature.inputs
    unknown = sorted(set(order.inputs) - {spec.name for spec in specs})
    if unknown:
        raise ValueError(f"the model has no input {unknown[0]!r}")
    fills = [order.inputs.get(spec.name, Fill(order.values)) for spec in specs]
    size = _SOME_SIZE
    if any(fill.shape is None for fill in fills):
        size = max(0, samples.made_up_size(model)) or _SOME_SIZE
    rows = samples.filled(order.rows)
    return [
        _filled(spec, fill, _shape(spec, fill, axis, size, rows))
        for spec, fill, axis in zip(specs, fills, samples.axes)
    ]


def _shape(
    spec: TensorSpec, fill: Fill, axis: Optional[int], size: int, rows: int
) -> Tuple[int, ...]:
    if fill.shape is not None:
        return fill.shape
    shape = row_shape(spec, axis, size)
    return shape if axis is None else (*shape[:axis], rows, *shape[axis:])


def _filled(spec: TensorSpec, fill: Fill, shape: Tuple[int, ...]) -> Tensor:
    if fill.dtype and fill.dtype != spec.dtype.name:
        raise ValueError(f"input {spec.name!r} is {spec.dtype.name}, not {fill.dtype}")
    if fill.file:
        return _from_file(spec, fill.file, shape)
    if fill.values != ZEROS:
        return made_up(spec, shape, 0)
    if spec.dtype.is_bytes:
        return Tensor(spec.name, spec.dtype, shape, items=[b""] * element_count(shape))
    return Tensor(spec.name, spec.dtype, shape, np.zeros(shape, spec.dtype.numpy))


def _from_file(spec: TensorSpec, path: str, shape: Tuple[int, ...]) -> Tensor:
    with open(path, "rb") as file:
        data = file.read()
    count = element_count(shape)
    if spec.dtype.is_bytes:
        items = _strings(data)
        if len(items) != count:
            raise ValueError(f"its file holds {len(items)} strings for shape {shape_text(shape)}")
        return Tensor(spec.name, spec.dtype, shape, items=items)
    if len(data) != count * spec.dtype.itemsize:
        raise ValueError(
            f"its file holds {len(data)} bytes, and {spec.dtype.name}{shape_text(shape)} takes "
            f"{count * spec.dtype.itemsize}"
        )
    array = np.frombuffer(data, spec.dtype.numpy).reshape(shape).copy()
    return Tensor(spec.name, spec.dtype, shape, array)


def _strings(data: bytes) -> List[bytes]:
    """Read elements as V2's binary data has them: length (4 bytes, little-endian) and content."""
    items, at = [], 0
    while at < len(data):
        if at + 4 > len(data):
            raise ValueError("its file ends within the length of a string")
        (length,) = struct.unpack_from("<I", data, at)
        at += 4 + length
        if at > len(data):
            raise ValueError("its file ends within a string")
        items.append(data[at - length : at])
    return items


def _said(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"its file cannot be read: {error.strerror}"
    if isinstance(error, KeyError):
        return f"its file lacks {error}"
    return str(error) or type(error).__name__
