"""Sequences and maps are answered as JSON documents; their numbers may round as tensors' may."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from serving.tensor import BYTES, FP32, Array, BatchAxes, Signature, TensorSpec
from serving.worker.proof import prove
from serving.worker.samples import Samples
from tests.doubles.model import FunctionModel

Document = Callable[[float, int], Any]
"""Makes one row's document from the row's value and the number of rows in the run."""


def _proved(document: Document) -> BatchAxes:
    def answer(x: Array) -> Array:
        rows = np.empty(len(x), dtype=object)
        rows[:] = [json.dumps(document(float(value), len(x))).encode() for value in x]
        return rows

    outputs = (TensorSpec("y", BYTES, ("",), json=True),)
    model = FunctionModel(Signature((TensorSpec("x", FP32, ("batch",)),), outputs), answer)
    claim = BatchAxes(True, "claimed", (0,), (0,))
    return prove(model, claim, Samples(model.signature, claim), 8)[0]


@pytest.mark.parametrize(
    "document",
    [
        lambda value, rows: {"cat": value + rows * 1e-7, "dog": 1 - value},
        lambda value, rows: [[value + rows * 1e-7], []],
        lambda value, rows: {"cat": ["NaN", int(value * 9)]},
    ],
)
def test_proof_allows_documents_the_rounding_of_float32(document: Document) -> None:
    assert _proved(document).batched


@pytest.mark.parametrize(
    "document",
    [
        lambda value, rows: {"cat": value + rows * 1e-3},
        lambda value, rows: {"cat": rows},
        lambda value, rows: {str(rows): value},
        lambda value, rows: [value] * rows,
        lambda value, rows: value if rows == 1 else [value],
        lambda value, rows: value if rows == 1 else "NaN",
    ],
)
def test_proof_refuses_documents_that_differ_in_more(document: Document) -> None:
    told = _proved(document)
    assert not told.batched
    assert told.reason.endswith("differs from itself alone: output 'y' holds other values")
