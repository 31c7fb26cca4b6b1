"""A model that tells which of its versions answered, in two outputs that must agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import helper

from tests.models.graph import build, save, value

node = helper.make_node


def tagged(path: Path, tag: float) -> Path:
    """``x`` FP32 [batch] -> ``tag`` FP32 [batch] (the tag), ``sum`` FP32 [batch] (``x`` + tag)."""
    nodes = [
        node("Mul", ["x", "zero"], ["nothing"]),
        node("Add", ["nothing", "mark"], ["tag"]),
        node("Add", ["x", "mark"], ["sum"]),
    ]
    constants = {"zero": np.float32(0), "mark": np.float32(tag)}
    ends = (
        [value("x", "FP32", ["batch"])],
        [value("tag", "FP32", ["batch"]), value("sum", "FP32", ["batch"])],
    )
    arrays = {name: np.asarray(item) for name, item in constants.items()}
    return save(build(nodes, *ends, arrays), path)
