"""The engines that ``test_backends`` asks for the same promises, and how each gets its models.

To add one: write its ``Engine`` and put it into ``ENGINES``.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from serving.backends.base import Device
from serving.tensor import BYTES, FP32, INT64, DType, Signature, TensorSpec
from tests import models
from tests.doubles.ascend import simulated_npu
from tests.doubles.gpu import simulated_gpu
from tests.doubles.om import compile_om
from tests.doubles.onnxruntime_cuda import simulated_onnxruntime_gpu
from tests.doubles.tensorrt import tensorrt_plan

Writer = Callable[[Path], object]


@dataclass(frozen=True)
class Engine:
    """A backend, a device, and model files by what the tests do with them.

    ``echo``: ``x`` FP32 [batch] comes out as ``y``; ``words``: the same for strings, None where
    the engine carries none; ``fails``: INT64 [batch], a run on two rows of which one is 0 fails
    and a run on one row does not; ``long``: a run on 2**40 takes seconds; ``sizes``: NonZero.
    ``present`` puts the engine's double in place, if it is one; what it yields may tell ``report``.
    ``stops`` is true where a run that has begun can be ended early.
    """

    name: str
    device: Device
    echo: Writer
    fails: Writer
    long: Writer | None
    sizes: Writer | None
    words: Writer | None = None
    stops: bool = True
    present: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext


def _stub(dtype: DType, do: dict[str, object]) -> Writer:
    ends = (TensorSpec("x", dtype, ("batch",)),), (TensorSpec("y", dtype, ("batch",)),)
    told = json.dumps({**Signature(*ends).to_json(), "do": do})
    return lambda path: path.write_text(told)


def _plan(model: Callable[[Path], Path], least: int, most: int) -> Writer:
    """Write an engine of the double whose only input has one axis of ``least`` to ``most``."""

    def write(path: Path) -> None:
        source = model(path.with_suffix(".onnx"))
        profile = {"x": [[least], [most], [most]]}
        tensorrt_plan.write(path, tensorrt_plan.Plan(source.read_bytes(), [profile]))

    return write


def _om(model: Callable[[Path], Path], *rows: int) -> Writer:
    """Write an OM of the double that takes these numbers of rows."""

    def write(path: Path) -> None:
        source = model(path.with_suffix(".onnx"))
        compile_om(source, path, kind="batch", gears=[[n] for n in rows])

    return write


def _echo(path: Path) -> Path:
    return models.identity(path, "FP32", ("batch",))


def _echo_numbers(path: Path) -> Path:
    return models.identity(path, "INT64", ("batch",))


STUB = Engine(
    "stub",
    Device(),
    echo=_stub(FP32, {}),
    words=_stub(BYTES, {}),
    fails=_stub(INT64, {"fail_on": 0}),
    long=_stub(INT64, {"sleep_ms": 60_000}),
    sizes=None,
)
ONNXRUNTIME = Engine(
    "onnxruntime",
    Device(),
    echo=_echo,
    words=lambda path: models.identity(path, "BYTES", ("batch",)),
    fails=models.divider,
    long=models.spinning,
    sizes=models.non_zero,
)
ONNXRUNTIME_CUDA = replace(ONNXRUNTIME, device=Device("gpu", 0), present=simulated_onnxruntime_gpu)
TENSORRT = Engine(
    "tensorrt",
    Device("gpu", 0),
    echo=_plan(_echo, 1, 8),
    fails=_plan(_echo_numbers, 1, 1),
    long=_plan(_echo_numbers, 1, 1),
    sizes=_plan(models.non_zero, 1, 8),
    stops=False,
    present=simulated_gpu,
)
ASCEND = Engine(
    "ascend",
    Device("ascend", 0),
    echo=_om(_echo, 1, 2, 3, 4),
    fails=_om(_echo_numbers, 1, 4),
    long=_om(_echo_numbers, 1, 2),
    sizes=None,  # an OM says how large its outputs may become, or is told
    stops=False,
    present=simulated_npu,
)
ENGINES = (STUB, ONNXRUNTIME, ONNXRUNTIME_CUDA, TENSORRT, ASCEND)
