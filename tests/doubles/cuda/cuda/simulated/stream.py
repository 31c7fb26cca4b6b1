"""A stream: work in order on a thread of its own, seen by the host only once it is waited for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Work = Callable[[], None]


@dataclass
class Recording:
    """A capture in progress: what was enqueued, by which thread it was begun, and if it is void."""

    thread: int
    work: list[Work] = field(default_factory=list)
    void: bool = False


class Stream:
    """Owns a thread. ``landing`` holds copies to the host that no wait has shown yet."""

    def __init__(self, handle: int, device: int) -> None:
        self.handle = handle
        self.device = device
        self.recording: Recording | None = None
        self.landing: list[Work] = []
        self.on_wait: list[Work] = []
        self._change = threading.Condition()
        self._queue: deque[Work | None] = deque()
        self._busy = False
        self._thread = threading.Thread(target=self._obey, name=f"stream {handle}", daemon=True)
        self._thread.start()

    def enqueue(self, work: Work) -> None:
        """Record it, or have it done after all that came before."""
        if self.recording is not None:
            self.recording.work.append(work)
            return
        with self._change:
            self._queue.append(work)
            self._change.notify_all()

    def drain(self) -> None:
        """Wait until nothing is left to do, and show nothing of it to the host."""
        with self._change:
            while self._queue or self._busy:
                self._change.wait()

    def wait(self) -> None:
        """Wait, and let copies to the host land."""
        self.drain()
        landing, self.landing = self.landing, []
        for land in landing:
            land()
        done, self.on_wait = self.on_wait, []
        for tell in done:
            tell()

    def end(self) -> None:
        """End the thread after what is queued; copies that nobody waited for never land."""
        with self._change:
            self._queue.append(None)
            self._change.notify_all()
        self._thread.join()

    def _obey(self) -> None:
        while True:
            with self._change:
                while not self._queue:
                    self._change.wait()
                work: Any = self._queue.popleft()
                self._busy = True
            try:
                if work is None:
                    return
                work()
            finally:
                with self._change:
                    self._busy = False
                    self._change.notify_all()
