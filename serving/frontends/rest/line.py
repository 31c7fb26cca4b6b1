"""What uvicorn takes for its transport: the real one, but that closing goes by the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from serving.frontends.ended import ENDED

_SAME = (
    "abort", "can_write_eof", "get_extra_info", "get_protocol", "get_write_buffer_size",
    "is_closing", "is_reading", "pause_reading", "resume_reading", "set_protocol",
    "set_write_buffer_limits", "write", "write_eof", "writelines",
)  # fmt: skip


class Line(asyncio.Transport):
    """Made for each connection. What is not ``close`` is the transport's own, at its own cost."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self._stand_for(transport)
        self._close: Callable[[], None] | None = close

    def close(self) -> None:
        """Leave it to the connection."""
        if self._close is not None:
            self._close()

    def end(self) -> None:
        """Be closed for whoever asks, and write nothing any more."""
        for name in ("write", "writelines"):
            setattr(self, name, _drop)
        self.is_closing = _closed  # type: ignore[method-assign]

    def let_go(self) -> None:
        """Forget the connection, which has ended, and its transport; requests may run still."""
        self._close = None
        self._stand_for(ENDED)

    def _stand_for(self, transport: asyncio.Transport) -> None:
        for name in _SAME:
            setattr(self, name, getattr(transport, name))


def _drop(_data: object) -> None:
    """Write nothing."""


def _closed() -> bool:
    return True
