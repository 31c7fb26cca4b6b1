"""How values of ``servable.toml`` are read: nothing is converted but a whole number to a real one.

Each reader raises ValueError for what it does not take.
"""

from __future__ import annotations

import math
import re
from typing import Any

from serving.repository.setting_key import Read

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def whole(least: int, most: int | None = None) -> Read:
    """Read a whole number within bounds."""

    def read(value: Any) -> int:
        if type(value) is not int or value < least or (most is not None and value > most):
            raise ValueError("not a whole number within the bounds")
        return value

    return read


def number(least: float, *, above: bool = False) -> Read:
    """Read a finite number from ``least`` on, or above it; returns a float."""

    def read(value: Any) -> float:
        if type(value) not in (int, float):
            raise ValueError("not a number")
        try:
            real = float(value)
        except OverflowError:
            raise ValueError("larger than any float") from None
        if not math.isfinite(real) or real < least or (above and real == least):
            raise ValueError("not within the bounds")
        return real

    return read


def one_of(*words: str) -> Read:
    """Read one of some words."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in words:
            raise ValueError("none of the words")
        return value

    return read


def sizes(value: Any) -> tuple[int, ...]:
    """Read a list of whole numbers, 1 or more each."""
    if not isinstance(value, list):
        raise ValueError("not a list")
    return tuple(map(whole(1), value))


def flag(value: Any) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise ValueError("neither true nor false")
    return value


def file_name(value: Any) -> str:
    """Read the name of a file, without a folder."""
    if _text(value) in ("", ".", "..") or "/" in value or "\0" in value:
        raise ValueError("not a plain name")
    return str(value)


def variable(value: Any) -> str:
    """Read the name of an environment variable."""
    if not _VARIABLE.fullmatch(_text(value)):
        raise ValueError("not a name")
    return str(value)


def absolute(value: Any) -> str:
    """Read an absolute path."""
    if not _text(value).startswith("/") or "\0" in value:
        raise ValueError("not an absolute path")
    return str(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")
    return value
