"""Stands where a connection's transport stood, once that has ended.

A connection and its transport refer to each other, and with TLS the transport has tens of KiB of
its own. Left to the garbage collector, they would stay for as long as it has no reason to look at
what is old: a server that many clients come to and leave would grow by all of them. So whoever has
a transport lets go of it when he hears of the end, and takes this in its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any


class Ended(asyncio.Transport):
    """Closed; it has nothing, and writes nothing."""

    def is_closing(self) -> bool:
        """Return True."""
        return True

    def is_reading(self) -> bool:
        """Return False."""
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the default: nothing is known of a client that has gone."""
        del name
        return default

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return a protocol that does nothing."""
        return asyncio.BaseProtocol()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Do nothing, as do all others."""

    def get_write_buffer_size(self) -> int:
        """Return 0."""
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing."""

    def can_write_eof(self) -> bool:
        """Return False."""
        return False

    def write_eof(self) -> None:
        """Do nothing."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Do nothing."""

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Do nothing."""

    def pause_reading(self) -> None:
        """Do nothing."""

    def resume_reading(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def abort(self) -> None:
        """Do nothing."""


ENDED = Ended()
