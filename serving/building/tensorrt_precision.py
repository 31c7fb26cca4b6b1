"""The model file that a build reads: the one given, or a copy of it in lower precision."""

from __future__ import annotations

from pathlib import Path

import onnx

from serving.building.tensorrt_casting import LARGEST_FP16, Casting
from serving.building.tensorrt_order import Order
from serving.formats.progress import Progress

_COPY = "lowered.onnx"
_INLINE_BYTES = 1 << 30
"""Larger models keep their weights in a file of their own: protobuf ends at 2 GiB."""


def lowered(order: Order, progress: Progress) -> tuple[Path, list[str]]:
    """Return the path to parse, and notes; writes a copy where lower precision is asked for."""
    precision = order.options.precision
    if precision == "as_exported":
        return order.source, []
    assert order.folder is not None
    progress.stage(f"casting the model to {precision}")
    model = onnx.load(order.source)
    casting = Casting(model, precision)
    casting.run()
    copy = order.folder / _COPY
    large = model.ByteSize() > _INLINE_BYTES
    onnx.save_model(model, copy, save_as_external_data=large, location=f"{_COPY}.data")
    total = sum(node.op_type != "Cast" for node in model.graph.node)
    notes = [f"{casting.lowered} of {total} operators run in {precision}"]
    if casting.clipped:
        notes.append(f"{casting.clipped} constants beyond ±{LARGEST_FP16:.0f} were cut to that")
    return copy, notes
