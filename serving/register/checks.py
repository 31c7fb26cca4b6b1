"""Checks of arguments, with the words of MindSpore Serving: always a RuntimeError."""

from __future__ import annotations

from typing import Any, List, Optional, Tuple


def flag(name: str, value: Any) -> bool:
    """Return a bool."""
    if not isinstance(value, bool):
        raise RuntimeError(f"Parameter '{name}' should be bool, but actually {type(value)}")
    return value


def text(name: str, value: Any) -> str:
    """Return a string that is not empty."""
    if not isinstance(value, str):
        raise RuntimeError(f"Parameter '{name}' should be str, but actually {type(value)}")
    if not value:
        raise RuntimeError(f"Parameter '{name}' should not be empty str")
    return value


def choice(name: str, value: Any, owner: str, choices: Tuple[str, ...]) -> str:
    """Return one of the strings that are allowed."""
    if text(name, value) not in choices:
        listed = ", ".join(repr(c) for c in choices)
        raise RuntimeError(f"{owner} '{name}' can only be {listed}, actually given '{value}'")
    return str(value)


def texts(name: str, value: Any) -> Tuple[str, ...]:
    """Return one string, or a list of them, as a tuple without repeats."""
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, (tuple, list)):
        raise RuntimeError(
            f"Parameter '{name}' should be str or tuple/list of str, but actually {type(value)}"
        )
    if not value:
        raise RuntimeError(f"Parameter '{name}' should not be empty")
    found: List[str] = []
    for item in value:
        if not isinstance(item, str):
            raise RuntimeError(
                f"The item of parameter '{name}' should be str, but actually {type(item)}"
            )
        if not item:
            raise RuntimeError(f"The item of parameter '{name}' should not be empty str")
        if item in found:
            raise RuntimeError(
                f"The item value '{item}' in parameter '{name}' should not be repeated"
            )
        found.append(item)
    return tuple(found)


def integer(name: str, value: Any, minimum: int) -> int:
    """Return an int that is not too small."""
    return _integer(f"Parameter '{name}'", value, minimum)


def integers(
    name: str, value: Any, minimum: int, single: bool = True, repeats: bool = False
) -> Tuple[int, ...]:
    """Return a list of ints as a tuple; ``single`` allows one int that stands for itself."""
    if single and isinstance(value, int):
        value = (value,)
    if not isinstance(value, (tuple, list)):
        allowed = "int or tuple/list of int" if single else "tuple/list of int"
        raise RuntimeError(f"Parameter '{name}' should be {allowed}, but actually {type(value)}")
    found: List[int] = []
    for item in value:
        _integer(f"The item value '{item}' in parameter '{name}'", item, minimum)
        if item in found and not repeats:
            raise RuntimeError(
                f"The item value '{item}' in parameter '{name}' should not be repeated"
            )
        found.append(item)
    return tuple(found)


def _integer(prefix: str, value: Any, minimum: Optional[int]) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise RuntimeError(f"{prefix} should be int, but actually {type(value)}")
    if minimum is not None and value < minimum:
        raise RuntimeError(f"{prefix} should be >= {minimum}")
    return value
