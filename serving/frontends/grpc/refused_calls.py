"""Calls of V2's extensions that are not offered here, so that their clients hear what to do."""

from __future__ import annotations

from serving.frontends import not_offered
from serving.frontends.grpc.calls import Call
from serving.frontends.grpc.methods import Context


def refused_calls() -> dict[str, Call]:
    """Return them by name; part of ``inference.GRPCInferenceService``."""
    return {"TraceSetting": _trace, "LogSettings": _logging}


async def _trace(_data: bytes, _context: Context) -> bytes:
    raise not_offered.trace()


async def _logging(_data: bytes, _context: Context) -> bytes:
    raise not_offered.logging()
