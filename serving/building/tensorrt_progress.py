"""What a build is doing, in words for people: TensorRT's phases, as it reports them."""

from __future__ import annotations

import threading
from typing import Any

from serving.formats.progress import Progress


def monitor(trt: Any, progress: Progress) -> Any:
    """Return a progress monitor that tells ``progress``; its base class is TensorRT's.

    TensorRT calls it from several threads, and keeps no reference to it.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._lock = threading.Lock()
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                self._steps[phase_name] = num_steps
                text = phase_name[:1].lower() + phase_name[1:]
                if parent_phase is None:
                    progress.stage(text)
                else:
                    progress.step(text)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                steps = self._steps.get(phase_name, 0)
                text = phase_name[:1].lower() + phase_name[1:]
                progress.step(f"{text}, step {step + 1} of {steps}")
            return True

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                self._steps.pop(phase_name, None)

    return Monitor()
