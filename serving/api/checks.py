"""The checks of arguments that only the server's API makes, in MindSpore Serving's words."""

from __future__ import annotations

from typing import Any


def between(name: str, value: Any, low: int, high: int) -> int:
    """Return an int of a range, its ends included."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise RuntimeError(f"Parameter '{name}' should be int, but actually {type(value)}")
    if not low <= value <= high:
        raise RuntimeError(f"Parameter '{name}' should be in range [{low},{high}]")
    return value


def key(value: Any) -> bytes | None:
    """Return the key of an encrypted model."""
    if value is None:
        return None
    if not isinstance(value, bytes):
        raise RuntimeError(f"Parameter 'dec_key' should be bytes, but actually {type(value)}")
    if not value:
        raise RuntimeError("Parameter 'dec_key' should not be empty bytes")
    if len(value) not in (16, 24, 32):
        raise RuntimeError(f"Parameter 'dec_key' length {len(value)} expected to be 16, 24 or 32")
    return value
