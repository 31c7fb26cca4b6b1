"""Lent memory: copied by the GPU itself where it can be registered, decided once where not."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.backends.base import Backend, BackendError, DeviceLost
from serving.channel.segment import Segment, view
from serving.tensor import FP32, Tensor
from tests import models
from tests.unit.backends.tensorrt.conftest import Load

PROFILE = {"x": [[1], [4], [8]]}


@pytest.fixture
def segments() -> Iterator[tuple[Segment, Segment]]:
    """Yield a segment as a worker maps inputs, read-only, and one for outputs."""
    made = Segment.create(1, 1 << 16, writable_elsewhere=True)
    given = Segment.attach(1, made.size, _fd_of(made), writable=False)
    taken = Segment.create(2, 1 << 16, writable_elsewhere=True)
    view(made, FP32, 0, (8,))[:] = range(8)
    yield given, taken
    for segment in (given, taken, made):
        segment.close()


def _fd_of(segment: Segment) -> int:
    import os

    return os.dup(segment.fd)


def run(load: Load, tmp_path: Path, given: Segment, taken: Segment) -> list[float]:
    model = load(models.identity(tmp_path / "m.onnx", "FP32", ("batch",)), PROFILE)
    rows, out = view(given, FP32, 0, (4,)), view(taken, FP32, 128, (4,))
    model.bind([Tensor("x", FP32, (4,), rows)], [Tensor("y", FP32, (4,), out)]).run()
    model.close()
    return [float(value) for value in out]


def test_lent_rows_are_copied_without_memory_in_between(
    machine: Any, backend: Backend, load: Load, tmp_path: Path, segments: tuple[Segment, Segment]
) -> None:
    given, taken = segments
    backend.lend(given.address, given.size, writable=False)
    backend.lend(taken.address, taken.size, writable=True)
    assert run(load, tmp_path, given, taken) == [0, 1, 2, 3]
    assert machine.failures.counts["cudaHostAlloc"] == 0
    backend.take_back(given.address)
    backend.take_back(taken.address)
    assert not machine.registered.live


def test_rows_that_were_not_lent_go_through_pinned_memory(
    machine: Any, load: Load, tmp_path: Path, segments: tuple[Segment, Segment]
) -> None:
    assert run(load, tmp_path, *segments) == [0, 1, 2, 3]
    assert machine.failures.counts["cudaHostAlloc"] == 2


def test_rows_that_cannot_be_registered_are_told_of_once_and_run(
    machine: Any,
    backend: Backend,
    load: Load,
    tmp_path: Path,
    segments: tuple[Segment, Segment],
    caplog: pytest.LogCaptureFixture,
) -> None:
    given, taken = segments
    machine.failures.order(_order(machine, "cudaHostRegister", 1, "cudaErrorMemoryAllocation"))
    with caplog.at_level(logging.WARNING, "serving.tensorrt"):
        backend.lend(taken.address, taken.size, writable=True)
        assert run(load, tmp_path, given, taken) == [0, 1, 2, 3]
    (told,) = caplog.records
    assert "cannot reach writable shared memory" in told.message
    assert "cudaErrorMemoryAllocation" in told.message
    backend.take_back(taken.address)


def test_read_only_rows_are_staged_where_the_device_registers_none(
    segments: tuple[Segment, Segment], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from serving.backends.base import Device, ModelSource
    from serving.backends.registry import open_backend
    from tests.doubles.gpu import simulated_gpu
    from tests.doubles.tensorrt import tensorrt_plan

    monkeypatch.setenv("TRT_DOUBLE_READ_ONLY", "0")
    given, taken = segments
    with simulated_gpu() as machine:
        backend = open_backend("tensorrt", Device("gpu", 0))
        backend.lend(given.address, given.size, writable=False)
        assert machine.failures.counts["cudaHostRegister"] == 0
        source = models.identity(tmp_path / "m.onnx", "FP32", ("batch",))
        plan = tensorrt_plan.Plan(source.read_bytes(), [PROFILE])
        path = tensorrt_plan.write(tmp_path / "m.plan", plan)
        model = backend.load(ModelSource(str(path), 1))
        rows, out = view(given, FP32, 0, (4,)), view(taken, FP32, 0, (4,))
        model.bind([Tensor("x", FP32, (4,), rows)], [Tensor("y", FP32, (4,), out)]).run()
        assert out.tolist() == [0, 1, 2, 3]
        backend.close()
        assert machine.report()["violations"] == []


def test_memory_lent_twice_is_refused(backend: Backend, segments: tuple[Segment, Segment]) -> None:
    _, taken = segments
    backend.lend(taken.address, taken.size, writable=True)
    with pytest.raises(BackendError, match="lent before"):
        backend.lend(taken.address, taken.size, writable=True)


def test_memory_that_was_not_lent_cannot_be_taken_back(backend: Backend) -> None:
    with pytest.raises(BackendError, match="not lent"):
        backend.take_back(4096)


def test_memory_that_was_not_taken_back_is_unregistered_at_close(
    machine: Any, backend: Backend, segments: tuple[Segment, Segment]
) -> None:
    given, taken = segments
    backend.lend(given.address, given.size, writable=False)
    backend.lend(taken.address, taken.size, writable=True)
    backend.close()
    assert not machine.registered.live


def test_a_lost_device_is_told_when_memory_is_lent(
    machine: Any, backend: Backend, segments: tuple[Segment, Segment]
) -> None:
    _, taken = segments
    machine.failures.order(_order(machine, "cudaHostRegister", 1, "cudaErrorECCUncorrectable"))
    with pytest.raises(DeviceLost):
        backend.lend(taken.address, taken.size, writable=True)
    machine.revive()


def test_rows_beyond_a_lent_range_are_staged(
    machine: Any, backend: Backend, load: Load, tmp_path: Path, segments: tuple[Segment, Segment]
) -> None:
    given, taken = segments
    backend.lend(taken.address, 128 + 8, writable=True)
    assert run(load, tmp_path, given, taken) == [0, 1, 2, 3]
    assert machine.failures.counts["cudaHostAlloc"] == 2
    assert np.count_nonzero(taken.bytes[:128]) == 0


def _order(machine: Any, call: str, number: int, error: str) -> Any:
    from cuda.simulated.failures import Order

    return Order(call, -1, number, error)
