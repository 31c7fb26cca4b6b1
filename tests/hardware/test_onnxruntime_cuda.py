"""The contract of all backends on a real NVIDIA GPU, by ONNX Runtime's CUDA provider."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from serving.backends.base import Backend, BackendError, Device, ModelSource
from serving.backends.registry import open_backend
from serving.tensor import FP32, Tensor
from tests import models
from tests.contract.engines import ONNXRUNTIME, Engine
from tests.contract.test_backends import *  # noqa: F403

GPU = Device("gpu", 0)


def why_not() -> str:
    """Return why the suite cannot run here, or nothing."""
    try:
        open_backend("onnxruntime", GPU).close()
    except BackendError as error:
        return f"no NVIDIA GPU can be tried: {error}"
    return ""


_WHY_NOT = why_not()
pytestmark = [pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT), pytest.mark.timeout(600)]


@pytest.fixture
def engine() -> Engine:
    # A GPU divides by zero without a word: a run fails there by a shape.
    return replace(
        ONNXRUNTIME,
        device=GPU,
        fails=lambda path: models.identity(path, "INT64", (1,)),
        long=None,
        words=None,
    )


@pytest.mark.parametrize(("tf32", "tolerance"), [("true", 1e-2), ("false", 1e-4)])
def test_gpu_agrees_with_the_cpu(
    backend: Backend, tmp_path: Path, tf32: str, tolerance: float
) -> None:
    source = models.lenet(tmp_path / "m.onnx")
    model = backend.load(ModelSource(str(source), 1, {"use_tf32": tf32}))
    cpu = ort.InferenceSession(source, providers=["CPUExecutionProvider"])
    for rows in (1, 8, 3, 8, 1):
        given = np.random.default_rng(rows).random((rows, 1, 32, 32), np.float32)
        outputs = model.bind([Tensor("image", FP32, given.shape, given)], None).run()
        assert outputs is not None
        assert outputs[0].array is not None
        (wanted,) = cpu.run(None, {"image": given})
        np.testing.assert_allclose(outputs[0].array, wanted, atol=tolerance, rtol=0.1)
