"""The contract of all backends, and more, on a real NVIDIA GPU."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from serving.backends.base import Backend, ModelSource
from serving.channel.segment import Segment, view
from serving.tensor import FP32, Array, Tensor
from tests import models
from tests.contract.engines import Engine
from tests.contract.test_backends import *  # noqa: F403
from tests.hardware.gpu import REAL, build, why_not

_WHY_NOT = why_not()
pytestmark = [pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT), pytest.mark.timeout(600)]

TOLERANCES = {"as_exported": 1e-2, "fp16": 3e-2, "bf16": 1e-1}
"""FP32 products may run as TF32, with ten bits of mantissa."""


@pytest.fixture
def engine() -> Engine:
    return REAL


def images(rows: int) -> Array:
    return np.random.default_rng(rows).random((rows, 1, 32, 32), np.float32)


@pytest.mark.parametrize("precision", TOLERANCES)
def test_gpu_agrees_with_the_cpu(backend: Backend, tmp_path: Path, precision: str) -> None:
    source = models.lenet(tmp_path / "m.onnx")
    build(source, tmp_path / "m.plan", precision=precision)
    model = backend.load(ModelSource(str(tmp_path / "m.plan"), 1))
    cpu = ort.InferenceSession(source, providers=["CPUExecutionProvider"])
    for rows in (1, 8, 3, 8, 8, 8, 8, 1):
        given = images(rows)
        outputs = model.bind([Tensor("image", FP32, given.shape, given)], None).run()
        assert outputs is not None
        assert outputs[0].array is not None
        (wanted,) = cpu.run(None, {"image": given})
        np.testing.assert_allclose(outputs[0].array, wanted, atol=TOLERANCES[precision], rtol=0.1)


def test_gpu_answers_each_of_many_runs_side_by_side_with_its_own(
    backend: Backend, tmp_path: Path
) -> None:
    source = models.lenet(tmp_path / "m.onnx")
    build(source, tmp_path / "m.plan")
    model = backend.load(ModelSource(str(tmp_path / "m.plan"), 1))
    given, taken = (Segment.create(n, 1 << 20, writable_elsewhere=True) for n in (1, 2))
    for segment in (given, taken):
        backend.lend(segment.address, segment.size, writable=True)
    cpu = ort.InferenceSession(source, providers=["CPUExecutionProvider"])
    failures: list[str] = []

    def run(slot: int) -> None:
        rows = view(given, FP32, slot << 18, (4, 1, 32, 32))
        out = view(taken, FP32, slot << 18, (4, 10))
        binding = model.bind(
            [Tensor("image", FP32, rows.shape, rows)], [Tensor("logits", FP32, out.shape, out)]
        )
        for round in range(50):
            rows[:] = images(4) * (round + slot)
            binding.run()
            (wanted,) = cpu.run(None, {"image": rows})
            if not np.allclose(out, wanted, rtol=0.1, atol=0.05 * (1 + round)):
                failures.append(f"slot {slot}, round {round}")

    threads = [threading.Thread(target=run, args=(slot,)) for slot in range(backend.slots)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    backend.take_back(given.address)
    backend.take_back(taken.address)
