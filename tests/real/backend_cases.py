"""The test cases that the onnx package brings for engines: a model each, with its inputs.

They are made by the package itself (``onnx.backend.test``), at import or from files in it, so
that nothing is downloaded. Inputs and not answers are used: the bare engine gives those.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from tests.real.engine import Value

KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted")


@dataclass(frozen=True)
class BackendCase:
    """One case: its name, the model's bytes, the operators in it, and inputs by name."""

    name: str
    model: bytes
    operators: frozenset[str]
    inputs: dict[str, Value]


def collect() -> Iterator[BackendCase]:
    """Yield every case of the onnx package that needs no download."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases are computed at import, infinities included
        from onnx.backend.test.loader import load_model_tests

        for kind in KINDS:
            for case in load_model_tests(kind=kind):
                yield _case(case)


def _case(case: Any) -> BackendCase:
    model = case.model or onnx.load(Path(case.model_dir) / "model.onnx")
    values = case.data_sets[0][0] if case.data_sets else _stored(Path(case.model_dir))
    names = [info.name for info in model.graph.input]
    inputs = dict(zip(names, map(_value, values), strict=False))
    operators = frozenset(node.op_type for node in model.graph.node)
    return BackendCase(case.name, model.SerializeToString(), operators, inputs)


def _stored(folder: Path) -> list[onnx.TensorProto]:
    files = sorted((folder / "test_data_set_0").glob("input_*.pb"))
    return [onnx.TensorProto.FromString(file.read_bytes()) for file in files]


def _value(value: Any) -> Value:
    if isinstance(value, onnx.TensorProto):
        value = numpy_helper.to_array(value)
    if isinstance(value, np.generic):
        return np.asarray(value)
    found: Value = value
    return found
