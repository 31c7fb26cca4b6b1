"""How requests name a version in text: by its number, or by a label."""

from __future__ import annotations

from typing import TypeGuard

from serving.errors import NotFound
from serving.repository.labels import is_label
from serving.request import VersionName

EXPECTED = "a positive number or a label"


def is_number(value: object) -> TypeGuard[str]:
    """Return whether something is the text of a version's number."""
    return (
        isinstance(value, str)
        and value.isascii()
        and value.isdigit()
        and len(value) <= 18
        and int(value) > 0
    )


def read(text: str, where: str) -> VersionName:
    """Return the version that a text names; raises NotFound for what can be none."""
    if is_number(text):
        return int(text)
    if is_label(text):
        return text
    raise NotFound(
        f"there is no version {text[:40]!r}",
        code="unknown_version",
        where=where,
        expected=EXPECTED,
        fix="leave the version out for the newest",
    )
