"""One life of the backend on the simulated GPU, with a failure in the midst of it.

``python -m tests.unit.backends.tensorrt.cycle --cycles 1000`` goes through as many lives, a
failure at every call in turn, and prints what came of it; it fails where something is left alive
or an error is not one of ours.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serving.backends.base import (
    Backend,
    BackendError,
    Device,
    DeviceLost,
    MemoryExhausted,
    ModelSource,
)
from serving.backends.registry import open_backend
from serving.channel.segment import Segment, view
from serving.tensor import FP32, INT64, Tensor
from tests import models
from tests.doubles.gpu import simulated_gpu
from tests.doubles.tensorrt import tensorrt_plan

ERRORS = {
    "cudaErrorMemoryAllocation": MemoryExhausted,
    "cudaErrorIllegalAddress": DeviceLost,
    "cudaErrorInvalidValue": BackendError,
    "cudaErrorECCUncorrectable": DeviceLost,
    "cudaErrorInvalidResourceHandle": BackendError,
    "cudaErrorLaunchFailure": DeviceLost,
}
"""Errors to strike with, and what a run or a load that meets one must raise."""

TOLD = (
    "the GPU cannot reach",  # rows go through pinned memory instead
    "CUDA graphs are not used",  # runs are plain
    "closing an engine met a failure",  # all else was let go of
    "letting the GPU go met a failure",
)
"""What the log says where an ordinary failure is borne."""


@dataclass(frozen=True)
class Engines:
    """Engine files: rows of 16 numbers, and one whose output's size depends on its values."""

    rows: Path
    later: Path

    @staticmethod
    def write(folder: Path) -> Engines:
        mlp = models.mlp_whole_numbers(folder / "mlp.onnx").read_bytes()
        profile = {"x": [[1, 16], [4, 16], [8, 16]]}
        rows = tensorrt_plan.write(folder / "rows.plan", tensorrt_plan.Plan(mlp, [profile] * 2))
        sizes = models.non_zero(folder / "sizes.onnx").read_bytes()
        plan = tensorrt_plan.Plan(sizes, [{"x": [[1], [4], [8]]}])
        return Engines(rows, tensorrt_plan.write(folder / "later.plan", plan))


@dataclass(frozen=True)
class Outcome:
    """The call that failed, what the log said, and the errors that came out, by type."""

    struck: str
    logged: tuple[str, ...]
    raised: tuple[type[BackendError], ...]
    words: tuple[str, ...]


class Life:
    """Load, run, unload: each step goes on where the one before failed with one of our errors."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._errors: list[tuple[type[BackendError], str]] = []

    def live(self, given: Segment, taken: Segment) -> None:
        """Go through all of it; raises whatever is not one of our errors."""
        backend = self._try(lambda: open_backend("tensorrt", Device("gpu", 0)))
        if backend is None:
            return
        self._try(lambda: backend.lend(given.address, given.size, writable=False))
        self._try(lambda: backend.lend(taken.address, taken.size, writable=True))
        self._try(lambda: self._run_rows(backend, given, taken))
        self._try(lambda: self._run_later(backend))
        for segment in (given, taken):
            self._try(lambda segment=segment: backend.take_back(segment.address))
        self._try(backend.close)

    def _run_rows(self, backend: Backend, given: Segment, taken: Segment) -> None:
        model = backend.load(ModelSource(str(self._engines.rows), 1))
        rows, out = view(given, FP32, 0, (4, 16)), view(taken, FP32, 0, (4, 4))
        bound = model.bind([Tensor("x", FP32, (4, 16), rows)], [Tensor("y", FP32, (4, 4), out)])
        for _ in range(7):  # the fifth is recorded
            self._try(bound.run)
        own = np.ones((2, 16), np.float32)
        self._try(model.bind([Tensor("x", FP32, (2, 16), own)], None).run)
        self._try(model.close)

    def _run_later(self, backend: Backend) -> None:
        model = backend.load(ModelSource(str(self._engines.later), 1))
        values = np.array([1, 0, 1], np.float32)
        self._try(model.bind([Tensor("x", FP32, (3,), values)], None).run)
        out = np.empty((1, 2), np.int64)
        bound = [Tensor("where", INT64, (1, 2), out)]
        self._try(model.bind([Tensor("x", FP32, (3,), values)], bound).run)
        # It stays loaded: closing the backend closes it.

    def _try(self, step: Any) -> Any:
        try:
            return step()
        except BackendError as error:
            self._errors.append((type(error), str(error)))
            return None

    def outcome(self, struck: str, logged: tuple[str, ...]) -> Outcome:
        """Return what came of it."""
        kinds, words = zip(*self._errors, strict=True) if self._errors else ((), ())
        return Outcome(struck, logged, kinds, words)


class Gpu:
    """The simulated GPU, shared memory and engines that many lives go through, one by one."""

    def __init__(self, machine: Any, folder: Path) -> None:
        self._machine = machine
        self._engines = Engines.write(folder)
        self._given = Segment.create(1, 4096, writable_elsewhere=True)
        self._taken = Segment.create(2, 4096, writable_elsewhere=True)
        self.calls = 0
        self.calls = self._count()

    def _count(self) -> int:
        outcome = self.live("", 0)
        if outcome.raised:
            raise AssertionError(f"a life without a failure raised {outcome.words}")
        return int(self._machine.failures.total)

    def live(self, error: str, number: int, call: str = "*") -> Outcome:
        """Go through a life in which the ``number``-th call fails; check what it leaves."""
        from cuda.simulated.failures import Order

        self._machine.revive()
        self._machine.failures.order(Order(call, -1, number, error) if error else None)
        life = Life(self._engines)
        with _listening() as logged:
            life.live(self._given, self._taken)
        outcome = life.outcome((self._machine.failures.struck or [""])[0], tuple(logged))
        report = self._machine.report()
        if report["live"] or report["violations"]:
            raise AssertionError(f"{error} at call {number} ({outcome.struck}): {report}")
        if error:
            _check(error, number, outcome)
        return outcome

    def close(self) -> None:
        self._machine.revive()
        self._given.close()
        self._taken.close()


@contextlib.contextmanager
def _listening() -> Iterator[list[str]]:
    """Yield what the backend logs meanwhile."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("serving.tensorrt")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield told
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def _check(error: str, number: int, outcome: Outcome) -> None:
    """The failure must show as its own kind, where it need not be borne."""
    if not outcome.struck:
        raise AssertionError(f"call {number} was never made")
    wanted = ERRORS[error]
    shown = any(issubclass(kind, wanted) for kind in outcome.raised)
    if wanted is MemoryExhausted and outcome.struck.islower():
        shown = bool(outcome.raised)  # TensorRT says in words of its own what it lacked
    # A recording that was made use of has no use for what it was made of.
    borne = outcome.struck == "cudaGraphDestroy" or any(
        text.startswith(TOLD) for text in outcome.logged
    )
    if not shown and (wanted is DeviceLost or not borne):
        raise AssertionError(f"{error} at call {number} ({outcome.struck}) gave {outcome}")


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=1000)
    cycles = parser.parse_args().cycles
    with tempfile.TemporaryDirectory() as folder, simulated_gpu() as machine:
        gpu = Gpu(machine, Path(folder))
        struck: Counter[str] = Counter()
        raised: Counter[str] = Counter()
        for cycle in range(cycles):
            outcome = gpu.live(
                list(ERRORS)[cycle // gpu.calls % len(ERRORS)], cycle % gpu.calls + 1
            )
            struck[outcome.struck] += 1
            raised[outcome.raised[0].__name__ if outcome.raised else "borne"] += 1
        gpu.close()
        told = {
            "cycles": cycles, "calls_a_cycle": gpu.calls, "failed_calls": dict(struck),
            "first_error": dict(raised), "left_alive": machine.report()["live"],
            "violations": machine.report()["violations"],
        }  # fmt: skip
        print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
