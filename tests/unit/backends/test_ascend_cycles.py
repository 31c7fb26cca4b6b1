"""Load, infer, unload on the double of ``acl``, with every call failing in its turn.

Whatever fails, what the backend raises is a BackendError, nothing that it took is left, and no
rule of CANN's is broken.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.backends.base import BackendError, DeviceLost, MemoryExhausted, ModelSource
from serving.backends.registry import open_backend
from serving.devices import Device
from serving.tensor import Array, Tensor
from tests import models
from tests.doubles import ascend
from tests.doubles.om import compile_om

CODES = {
    100000: BackendError,
    107000: BackendError,
    207001: MemoryExhausted,
    507015: DeviceLost,
}


@dataclass(frozen=True)
class Case:
    """A model, an input for it, and what it makes of that."""

    path: Path
    x: Array
    y: Array
    options: Mapping[str, str] = field(default_factory=dict)


@pytest.fixture
def double() -> Iterator[Any]:
    with ascend.installed() as installed:
        yield installed


def cycle(case: Case) -> None:
    """Open the device, load, run twice, and give everything back whatever happens."""
    backend = open_backend("ascend", Device("ascend", 0))
    try:
        model = backend.load(ModelSource(str(case.path), 1, case.options))
        x, out = Tensor.of("x", case.x), np.zeros_like(case.y)
        assert model.bind([x], [Tensor.of("y", out)]).run() is None
        outputs = model.bind([x], None).run()
        assert outputs is not None
        assert outputs[0].array is not None
        assert out.tolist() == outputs[0].array.tolist() == case.y.tolist()
        model.close()
    finally:
        backend.close()


def failure_of(case: Case) -> BackendError | None:
    try:
        cycle(case)
    except BackendError as error:
        return error
    return None


def cases(folder: Path) -> dict[str, Case]:
    row = np.arange(1, 3, dtype=np.float32).reshape(2, 1)
    rows = models.identity(folder / "rows.onnx", "FP32", ("batch", 1))
    fixed = models.identity(folder / "fixed.onnx", "FP32", (2, 1))
    image = models.identity(folder / "image.onnx", "FP32", (1, 1, "h", "w"))
    pixels = np.arange(8, dtype=np.float32).reshape(1, 1, 2, 4)

    def om(onnx: Path, kind: str, *gears: list[int]) -> Path:
        return compile_om(onnx, folder / f"{kind}.om", kind=kind, gears=gears)

    return {
        "static": Case(om(fixed, "static"), row, row),
        "batch": Case(om(rows, "batch", [1], [2], [4]), row, row),
        "dims": Case(om(rows, "dims", [1, 1], [2, 1]), row, row),
        "image": Case(om(image, "image", [2, 4], [4, 4]), pixels, pixels),
        "free": Case(om(rows, "free"), row, row, {"output_bytes": "4096"}),
    }


def clean(double: Any, most_refused: int) -> None:
    told = double.report()
    assert told["violations"] == []
    assert told["live"] == {}
    assert told["live_bytes"] == 0
    assert sum(told["refused"].values()) <= most_refused


def test_ascend_leaves_nothing_after_1000_cycles_whichever_call_fails(
    double: Any, tmp_path: Path
) -> None:
    done = failed = 0
    for case, code in itertools.product(cases(tmp_path).values(), CODES):
        double.renew()
        cycle(case)
        clean(double, 0)
        calls = double.report()["calls"]["*"]
        for number in range(1, calls + 1):
            double.renew()
            double.fail_at("*", number, code)
            error = failure_of(case)
            # A handle that is not made has no code of its own: it means lack of memory.
            assert isinstance(error, (type(None), CODES[code], MemoryExhausted, DeviceLost))
            failed += error is not None
            clean(double, 1)
            done += 1
    assert done >= 1000
    assert done > failed > done / 2  # failures of releases alone are not raised


def test_ascend_is_lost_once_something_was_not_given_back(double: Any, tmp_path: Path) -> None:
    case = cases(tmp_path)["batch"]
    backend = open_backend("ascend", Device("ascend", 0))
    model = backend.load(ModelSource(str(case.path), 1))
    other = backend.load(ModelSource(str(case.path), 1))
    double.fail_at("rt.free", 1, 507000)
    model.close()
    with pytest.raises(DeviceLost, match="did not give back"):
        other.bind([Tensor.of("x", case.x)], None).run()
    with pytest.raises(DeviceLost):
        backend.load(ModelSource(str(case.path), 1))
    backend.close()
    clean(double, 1)


def test_ascend_cycle_after_a_failed_one_runs_as_ever(double: Any, tmp_path: Path) -> None:
    case = cases(tmp_path)["batch"]
    double.fail_at("rt.malloc", 2, 207001)
    with pytest.raises(MemoryExhausted, match=r"rt\.malloc failed with 207001"):
        cycle(case)
    for number in range(1, 4):
        double.fail_at("rt.memcpy_async", number, 107000)
        with contextlib.suppress(BackendError):
            cycle(case)
    cycle(case)
    clean(double, 0)
