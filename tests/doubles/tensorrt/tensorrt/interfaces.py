"""What an application implements: logger, output allocator, progress monitor.

As with the real bindings, a subclass must call the base's ``__init__`` itself, or it is refused.
"""

from __future__ import annotations

from typing import Any

from tensorrt import enums


class _Implemented:
    _ready = False

    def __init__(self) -> None:
        self._ready = True


class ILogger(_Implemented):
    """Hears what TensorRT says."""

    Severity = enums.Severity

    def log(self, severity: enums.Severity, msg: str) -> None:
        raise NotImplementedError


class IOutputAllocator(_Implemented):
    """Gives memory for outputs whose size only the run tells."""

    def reallocate_output(self, tensor_name: str, memory: int, size: int, alignment: int) -> int:
        raise NotImplementedError

    def notify_shape(self, tensor_name: str, shape: Any) -> None:
        raise NotImplementedError


class IProgressMonitor(_Implemented):
    """Hears how a build goes on."""

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        raise NotImplementedError

    def step_complete(self, phase_name: str, step: int) -> bool:
        raise NotImplementedError

    def phase_finish(self, phase_name: str) -> None:
        raise NotImplementedError


def require_ready(implemented: Any, base: type) -> None:
    """Raise what pybind11 raises for an object whose base was not initialised."""
    if not isinstance(implemented, base) or not implemented._ready:
        raise TypeError(f"{base.__name__}.__init__() must be called when overriding __init__")
