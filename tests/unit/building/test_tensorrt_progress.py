"""TensorRT's phases become signs of life in words."""

from __future__ import annotations

import importlib

import pytest

from serving.building.tensorrt_progress import monitor
from serving.formats import progress
from serving.formats.progress import Progress
from tests.doubles.gpu import simulated_gpu


def test_progress_tells_top_phases_at_once_and_steps_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    with simulated_gpu():
        watch = monitor(importlib.import_module("tensorrt"), Progress(told.append))
        watch.phase_start("Building engine", None, 6)
        watch.phase_start("Timing tactics", "Building engine", 3)
        assert watch.step_complete("Timing tactics", 0)
        assert told == ["building engine"]
        monkeypatch.setattr(progress, "_STEP_S", 0.0)
        assert watch.step_complete("Timing tactics", 1)
        watch.phase_finish("Timing tactics")
        watch.phase_finish("Building engine")
    assert told == ["building engine", "timing tactics, step 2 of 3"]
