"""TensorRT's Python module: which one, its version, and what it says when a call fails.

``tensorrt`` and ``tensorrt_rtx`` have the same classes. Which one a process uses is set in its
environment, ``SERVING_TENSORRT_MODULE``; there is no second choice when the import fails.
TensorRT reports failures as None or False and tells the reason to a logger: this one keeps it.
"""

from __future__ import annotations

import collections
import importlib
import logging
import os
import threading
from typing import Any, Callable, Deque, Dict, Tuple

from serving.backends.base import BackendError
from serving.backends.tensorrt.faults import plain

_log = logging.getLogger("serving.tensorrt")

VARIABLE = "SERVING_TENSORRT_MODULE"
MODULES = ("tensorrt", "tensorrt_rtx")
_KEPT = 64
_LOUD = ("INTERNAL_ERROR", "ERROR")


class Library:
    """The module, and the one logger that this process gives it."""

    def __init__(self, name: str, module: Any) -> None:
        self.name = name
        self.trt = module
        self.version = str(module.__version__)
        self.log = Log()
        self.logger = _logger(module, self.log)

    @property
    def is_rtx(self) -> bool:
        """True for TensorRT-RTX, which finishes an engine for its GPU when it is loaded."""
        return self.name == "tensorrt_rtx"


class Log:
    """The latest errors that TensorRT told, by thread; written to from any thread.

    ``alive`` is called at every message: whoever builds engines takes it for a sign of life.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: Deque[Tuple[int, int, str]] = collections.deque(maxlen=_KEPT)
        self._serial = 0
        self.alive: Callable[[], None] = _nobody_waits

    def mark(self) -> int:
        """Return a place in the log; ``since`` tells what came after."""
        return self._serial

    def since(self, mark: int) -> str:
        """Return the errors after a mark: this thread's, or if it has none, all."""
        me = threading.get_ident()
        with self._lock:
            told = [(thread, text) for serial, thread, text in self._told if serial > mark]
        mine = [text for thread, text in told if thread == me]
        texts = mine or [text for _, text in told]
        return "; ".join(dict.fromkeys(texts))

    def hear(self, severity: str, text: str) -> None:
        """Keep an error; pass everything on to the process's log."""
        self.alive()
        if severity in _LOUD:
            told = plain(text)
            with self._lock:
                self._serial += 1
                self._told.append((self._serial, threading.get_ident(), told))
            _log.info("TensorRT: %s", told)
        elif severity == "WARNING":
            _log.info("TensorRT warns: %s", text)
        else:
            _log.debug("TensorRT: %s", text)


def _nobody_waits() -> None:
    pass


def _logger(trt: Any, log: Log) -> Any:
    """Return TensorRT's end of the log; its base class is known only once it is imported."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            log.hear(severity.name, msg)

    return Logger()


_LOADED: Dict[str, Library] = {}
_LOADING = threading.Lock()


def library() -> Library:
    """Import what the environment names, once; raises ImportError or BackendError."""
    name = os.environ.get(VARIABLE, MODULES[0])
    if name not in MODULES:
        raise BackendError(f"{VARIABLE} names {name!r}; it takes {' or '.join(map(repr, MODULES))}")
    with _LOADING:
        if name not in _LOADED:
            _LOADED[name] = Library(name, importlib.import_module(name))
        return _LOADED[name]
