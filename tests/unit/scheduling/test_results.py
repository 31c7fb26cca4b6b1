"""Answers are whole or an error, never a part that looks like all."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from serving.errors import ExecutionFailed
from serving.scheduling.results import Part, respond
from serving.tensor import FP32, BatchAxes, Signature, TensorSpec


def test_rows_whose_outputs_went_two_ways_are_an_error_not_half_an_answer() -> None:
    packed: Any = SimpleNamespace(tensors=())
    ticket: Any = SimpleNamespace(batch=object(), rows=4, parts=[Part(0, 2, packed, 0)])
    signature = Signature((), (TensorSpec("y", FP32, ("n", "k")),))
    with pytest.raises(ExecutionFailed, match="another shape for some of the rows"):
        respond(ticket, signature, BatchAxes(True, "told so", (), (0,)))
