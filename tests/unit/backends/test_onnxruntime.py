"""The engine's answers, bound to memory that is there and taken from the engine's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from serving.backends import onnxruntime
from serving.backends.base import BackendError, Device, Model, ModelSource
from serving.tensor import FP32, Tensor
from tests.models.graph import build, save, value

ROWS = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.fixture
def echoing(tmp_path: Path) -> Model:
    """``x`` FP32 [batch,4] -> ``y = -x``, and ``x`` itself."""
    ends = [value("x", "FP32", ("batch", 4))], [value(n, "FP32", ("batch", 4)) for n in "yx"]
    path = save(build([helper.make_node("Neg", ["x"], ["y"])], *ends), tmp_path / "model.onnx")
    backend = onnxruntime.open(Device("cpu", 0))
    return backend.load(ModelSource(str(path), threads=1))


def tensor(name: str, array: np.ndarray) -> Tensor:
    return Tensor(name, FP32, array.shape, array)


def test_output_that_is_an_input_is_written_where_it_is_bound(echoing: Model) -> None:
    made = {name: np.full((2, 4), 99, np.float32) for name in "yx"}
    binding = echoing.bind([tensor("x", ROWS)], [tensor(n, a) for n, a in made.items()])
    assert binding.run() is None
    assert made["y"].tolist() == (-ROWS).tolist()
    assert made["x"].tolist() == ROWS.tolist()


def test_output_that_is_an_input_of_another_size_is_an_error(echoing: Model) -> None:
    made = [tensor("y", np.empty((2, 4), np.float32)), tensor("x", np.empty((1, 4), np.float32))]
    binding = echoing.bind([tensor("x", ROWS)], made)
    with pytest.raises(BackendError, match=r"of shape \[2, 4\], not \[1, 4\]"):
        binding.run()


def test_output_that_is_an_input_outlives_it(echoing: Model) -> None:
    given = ROWS.copy()
    y, x = echoing.bind([tensor("x", given)], None).run() or ()
    given[:] = 99
    assert y.array is not None
    assert x.array is not None
    assert y.array.tolist() == (-ROWS).tolist()
    assert x.array.tolist() == ROWS.tolist()
