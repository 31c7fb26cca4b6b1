"""Backends are opened by name, each on devices of its kinds."""

from __future__ import annotations

import pytest

from serving.backends.base import BackendError, Device
from serving.backends.registry import open_backend
from tests.contract.engines import ENGINES, Engine


def test_backend_that_is_not_known_is_named() -> None:
    with pytest.raises(BackendError, match=r"'nosuch'.*onnxruntime, stub"):
        open_backend("nosuch", Device())


@pytest.mark.parametrize(
    "engine",
    [engine for engine in ENGINES if engine.name != "stub"],  # the stub plays any device
    ids=lambda engine: f"{engine.name}-{engine.device.kind}",
)
def test_backend_refuses_a_device_of_another_kind(engine: Engine) -> None:
    other = Device("cpu" if engine.device.kind == "ascend" else "ascend", 0)
    with engine.present(), pytest.raises(BackendError, match="runs on"):
        open_backend(engine.name, other)
