"""The lanes of one model: as many as runs that may be under way at once."""

from __future__ import annotations

import threading
from typing import List, Optional

from serving.backends.base import BackendError
from serving.backends.tensorrt.cuda import worst
from serving.backends.tensorrt.lane import Job, Lane
from serving.tensor import Array


class Lanes:
    """Gives each run a lane of its own; the last one used is the first to be used again."""

    def __init__(self) -> None:
        self._all: List[Lane] = []
        self._free: List[Lane] = []
        self._change = threading.Condition()

    def add(self, lane: Lane) -> None:
        """Own one more; nothing runs yet."""
        self._all.append(lane)
        self._free.append(lane)

    def run(self, job: Job) -> Optional[List[Array]]:
        """Run in a lane that is free, or wait for one."""
        with self._change:
            while not self._free:
                self._change.wait()
            lane = self._free.pop()
        try:
            return lane.run(job)
        finally:
            with self._change:
                self._free.append(lane)
                self._change.notify()

    def close(self) -> Optional[BackendError]:
        """Let all lanes go; nothing runs. Returns what went wrong."""
        lanes, self._all, self._free = self._all, [], []
        return worst([lane.close() for lane in lanes])
