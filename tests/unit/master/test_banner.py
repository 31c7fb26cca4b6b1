"""What is said at the start of versions that do not serve."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from serving.master.banner import serves


def said(*rows: dict[str, Any]) -> list[str]:
    plane: Any = SimpleNamespace(listed=lambda: list(rows))
    return list(serves(plane))


def test_version_that_failed_is_not_told_of_again_after_its_error() -> None:
    assert said({"name": "a", "version": 1, "state": "FAILED", "reason": "broken"}) == []


def test_servable_that_is_not_loaded_is_told_of() -> None:
    row = {"name": "a", "version": None, "state": "UNLOADED", "reason": "not loaded"}
    assert said(row) == ["does not serve a: not loaded"]
