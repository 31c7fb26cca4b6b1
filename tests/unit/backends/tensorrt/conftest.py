"""A GPU that is simulated in this process, and engines for it; each test leaves nothing alive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from serving.backends.base import Backend, Device, Model, ModelSource
from serving.backends.registry import open_backend
from tests.doubles.gpu import simulated_gpu
from tests.doubles.tensorrt import tensorrt_plan

Load = Callable[..., Model]


@pytest.fixture
def machine() -> Iterator[Any]:
    with simulated_gpu() as machine:
        yield machine
        report = machine.report()
        assert report["violations"] == []
        assert report["live"] == {}


@pytest.fixture
def backend(machine: Any) -> Iterator[Backend]:
    backend = open_backend("tensorrt", Device("gpu", 0))
    yield backend
    backend.close()


@pytest.fixture
def load(backend: Backend, tmp_path: Path) -> Load:
    """Return what makes an engine of an ONNX file, with its profiles, and loads it."""

    def load(
        source: Path,
        *profiles: Mapping[str, Any],
        options: Mapping[str, str] | None = None,
        **plan: Any,
    ) -> Model:
        path = tmp_path / f"{source.stem}.plan"
        tensorrt_plan.write(path, tensorrt_plan.Plan(source.read_bytes(), profiles, **plan))
        return backend.load(ModelSource(str(path), 1, options or {}))

    return load
