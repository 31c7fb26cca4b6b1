"""A batched model with one value that kills its worker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import helper

from tests.models.graph import build, save, value

POISON = -3


def trap(path: Path) -> Path:
    """``x`` INT64 [batch] -> ``y`` = -2**63 / (x + 2): x86-64 traps (SIGFPE) where x is -3.

    The sum keeps small sample values, 0 and 1, away from the division's own faults, so that
    its batch axis can be proved at load.
    """
    constants = {"lowest": np.array(-(2**63), np.int64), "two": np.array(2, np.int64)}
    nodes = [
        helper.make_node("Add", ["x", "two"], ["d"]),
        helper.make_node("Div", ["lowest", "d"], ["y"]),
    ]
    ends = [value("x", "INT64", ["batch"])], [value("y", "INT64", ["batch"])]
    return save(build(nodes, *ends, constants), path)
