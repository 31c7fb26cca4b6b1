"""Says where an import that takes long is: an endless one is ended from outside, unexplained."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from pathlib import Path
from typing import Iterator

from serving.register.place import place_of

_FIRST_S = 1.0


@contextlib.contextmanager
def told(folder: Path) -> Iterator[None]:
    """Write the line of the user's code to standard error: after 1 s, after 2, 4, 8, ..."""
    done = threading.Event()
    watched = threading.get_ident()
    watcher = threading.Thread(target=_tell, args=(done, watched, folder), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _tell(done: threading.Event, watched: int, folder: Path) -> None:
    began = time.monotonic()
    pause_s = _FIRST_S
    while not done.wait(pause_s):
        frame = sys._current_frames().get(watched)
        place = ""
        while frame is not None and not place:
            place = place_of(frame.f_code.co_filename, frame.f_lineno, folder)
            frame = frame.f_back
        took_s = time.monotonic() - began
        if place:
            sys.stderr.write(f"still at {place} after {took_s:.0f} s\n")
            sys.stderr.flush()
        pause_s = took_s
