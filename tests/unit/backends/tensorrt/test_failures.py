"""A failure at every call in turn: each is one of our errors, and nothing is left alive.

CI goes through every call once. ``python -m tests.unit.backends.tensorrt.cycle`` goes on for as
many lives as it is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.backends.base import DeviceLost
from tests.unit.backends.tensorrt.cycle import ERRORS, Gpu


@pytest.fixture
def gpu(machine: Any, tmp_path: Path) -> Iterator[Gpu]:
    gpu = Gpu(machine, tmp_path)
    yield gpu
    gpu.close()


def test_a_failure_at_every_call_is_told_and_leaves_nothing(gpu: Gpu) -> None:
    errors = list(ERRORS)
    struck = [
        gpu.live(errors[number % len(errors)], number).struck for number in range(1, gpu.calls + 1)
    ]
    assert len(struck) > 100
    assert {"deserialize_cuda_engine", "execute_async_v3", "cudaMemcpyAsync", "cudaFree"} <= set(
        struck
    )


@pytest.mark.parametrize("number", [1, 2, 5, 7])
@pytest.mark.parametrize("error", [e for e, kind in ERRORS.items() if kind is DeviceLost])
def test_a_kernel_that_faults_is_told_and_leaves_nothing(gpu: Gpu, error: str, number: int) -> None:
    from cuda.simulated.failures import KERNEL

    outcome = gpu.live(error, number, KERNEL)
    assert outcome.struck == KERNEL
    assert DeviceLost in outcome.raised
