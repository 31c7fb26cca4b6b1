"""What tests in the same process may do with the double, and the real library has not."""

from __future__ import annotations

from typing import Any

from acl._world import ContractViolation, renew, world

__all__ = ["ContractViolation", "fail_at", "renew", "report", "world"]


def fail_at(name: str, number: int, code: int) -> None:
    """Let the ``number``-th call from now of a function (``*``: of any) fail with a code."""
    here = world()
    here.faults[name, here.counts[name] + number] = code


def report() -> dict[str, Any]:
    """Return the report as it would be written now."""
    return world().report()
