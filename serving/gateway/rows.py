"""Small requests that go to the master together: one message for all, answers as they come."""

from __future__ import annotations

import logging

from serving.errors import ServingError
from serving.request import InferResponse, RowsListener

_log = logging.getLogger("serving.gateway")


class RemoteRows:
    """So many callers; see ``dataplane.RowsClaim``. Event loop only.

    ``open`` are the numbers of those who wait.
    """

    __slots__ = ("_listener", "open", "serial")

    def __init__(self, serial: int, callers: int, listener: RowsListener) -> None:
        self.serial = serial
        self.open = set(range(callers))
        self._listener = listener

    def end(self, first: int, count: int, outcome: InferResponse | ServingError) -> bool:
        """Tell some of the callers; returns whether these were the last."""
        self.open.difference_update(range(first, first + count))
        try:
            self._listener(first, count, outcome)
        except Exception:  # others of the same read are to have their answers
            _log.exception("answers could not be handed on")
        return not self.open

    def end_all(self, error: ServingError) -> None:
        """Tell all who wait still."""
        for caller in sorted(self.open):
            self.end(caller, 1, error)
