"""Extensions of Triton that are not offered here: what is said of each, and what to do instead."""

from __future__ import annotations

from serving.errors import Unimplemented

_TRACE = (
    "the trace extension is not offered here",
    "/metrics and the statistics extension tell how long requests took",
)
_LOGGING = (
    "the logging extension is not offered here",
    "what is logged is set when the server starts, by --log-level and --log-format",
)


def trace(where: str = "") -> Unimplemented:
    """Return the refusal of trace settings."""
    return Unimplemented(_TRACE[0], where=where, fix=_TRACE[1])


def logging(where: str = "") -> Unimplemented:
    """Return the refusal of log settings."""
    return Unimplemented(_LOGGING[0], where=where, fix=_LOGGING[1])
