"""What can be tuned, the values worth trying for each of it, and how they are written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

Value = int | float | None

SERVABLE_KEYS = ("max_batch_size", "max_queue_delay_ms", "threads")
"""The coordinates that are keys of ``servable.toml``."""

SERVER_KEYS = ("workers", "frontends")
"""Those that are settings of the server."""

_MOST_ROWS = 256
_DELAYS_MS = (None, 0.0, 0.5, 2.0, 8.0)


@dataclass(frozen=True)
class Setting:
    """One way to run a servable; None is "automatic", as leaving out the key means."""

    max_batch_size: int = 32
    max_queue_delay_ms: float | None = None
    threads: int | None = None
    workers: int = 1
    frontends: int = 1

    def value(self, name: str) -> Value:
        """Return one coordinate."""
        value: Value = getattr(self, name)
        return value

    def having(self, name: str, value: Value) -> Setting:
        """Return this setting with one coordinate changed."""
        changed: dict[str, Any] = {name: value}
        return replace(self, **changed)

    def changes(self, before: Setting) -> dict[str, Value]:
        """Return the coordinates in which this differs from another, with its own values."""
        names = (*SERVABLE_KEYS, *SERVER_KEYS)
        return {n: self.value(n) for n in names if self.value(n) != before.value(n)}


DEFAULT = Setting()

Space = Mapping[str, Sequence[Value]]
"""The values to try for each coordinate, in their order along it; what is missing stays."""


def text(name: str, value: Value) -> str:
    """Return a coordinate for people: ``max_queue_delay_ms = automatic``, ``--workers 2``."""
    shown = "automatic" if value is None else f"{value:g}"
    return f"--{name} {shown}" if name in SERVER_KEYS else f"{name} = {shown}"


def summary(setting: Setting) -> str:
    """Return a setting in a short line: ``workers 1, front ends 1, batch 32, delay auto, …``."""
    shown = {n: "auto" if (v := setting.value(n)) is None else f"{v:g}" for n in _SHORT}
    return ", ".join(f"{short} {shown[name]}" for name, short in _SHORT.items())


_SHORT = {
    "workers": "workers",
    "frontends": "front ends",
    "max_batch_size": "batch",
    "max_queue_delay_ms": "delay",
    "threads": "threads",
}


def space(
    workers: Sequence[int],
    frontends: Sequence[int],
    cores: int,
    batched: bool,
    rows_under_way: int,
    target_ms: float | None,
) -> Space:
    """Return what is worth trying.

    ``rows_under_way`` is how many rows the load can have in the server at once: larger batches
    than the next power of two cannot form. A wait longer than half of the latency target cannot
    pay. A servable whose rows must not share a run has no batches to set.
    """
    found: dict[str, Sequence[Value]] = {}
    if batched:
        most_ms = math.inf if target_ms is None else target_ms / 2
        found["max_queue_delay_ms"] = tuple(d for d in _DELAYS_MS if d is None or d <= most_ms)
        largest = min(_MOST_ROWS, 1 << max(0, rows_under_way - 1).bit_length())
        found["max_batch_size"] = tuple(1 << p for p in range(largest.bit_length()))
    found["workers"] = tuple(sorted(set(workers)))
    found["frontends"] = tuple(sorted(set(frontends)))
    found["threads"] = (None, *(1 << p for p in range(cores.bit_length()) if 1 << p <= cores))
    return found


def plainest_first(name: str, values: Sequence[Value]) -> list[Value]:
    """Return values of a coordinate, the default first and then those nearest to it."""
    if name == "max_batch_size":
        return sorted(values, key=lambda v: abs(math.log2((v or 1) / DEFAULT.max_batch_size)))
    return sorted(values, key=lambda v: (v is not None, v or 0))


def worth_trying(values: Sequence[Value], name: str, now: Setting, cores: int) -> list[Value]:
    """Return the values of a coordinate that would change something about ``now``.

    As many engine threads as "automatic" gives are the same thing by another name, and rows that
    run one by one wait for no company.
    """
    if name == "max_queue_delay_ms" and now.max_batch_size == 1:
        return []
    if name != "threads":
        return [value for value in values if value != now.value(name)]
    automatic = max(1, cores // now.workers)

    def threads(value: Value) -> Value:
        return automatic if value is None else value

    return [value for value in values if threads(value) != threads(now.threads)]
