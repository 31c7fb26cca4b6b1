"""How requests name a version in text: by its number, or by a label."""

from __future__ import annotations

from serving.errors import NotFound
from serving.repository.labels import is_label
from serving.request import VersionName

EXPECTED = "a positive number or a label"


def read(text: str, where: str) -> VersionName:
    """Return the version that a text names; raises NotFound for what can be none."""
    if text.isascii() and text.isdigit() and len(text) <= 18 and int(text) > 0:
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
