"""The states of a servable's versions, as ``GetModelStatus`` tells them.

Source: tensorflow_serving/apis/get_model_status.proto; the words are those of its enumerations.
"""

from __future__ import annotations

from typing import NamedTuple

from serving.dataplane import DataPlane
from serving.errors import NotFound
from serving.frontends.method import of_model
from serving.frontends.tensorflow.target import Target
from serving.lifecycle.state import State

_STATES = {
    State.NEW: "START",
    State.LOADING: "LOADING",
    State.WARMING: "LOADING",
    State.READY: "AVAILABLE",
    State.DRAINING: "UNLOADING",
    State.UNLOADED: "END",
    State.FAILED: "END",
}
_FAILED = "FAILED_PRECONDITION"
"""What LoadError is on every wire."""


class VersionStatus(NamedTuple):
    """One version: its number (0 for what has none), state, and how it ended.

    ``code`` is OK unless it failed; ``message`` is the reason then.
    """

    version: int
    state: str
    code: str
    message: str

    @property
    def is_ready(self) -> bool:
        """Whether it takes requests."""
        return self.state == _STATES[State.READY]


async def statuses(plane: DataPlane, target: Target) -> list[VersionStatus]:
    """Return the version that is asked for, or all; raises NotFound."""
    version = target.version
    if isinstance(version, str):
        version = of_model(plane, target.servable, version).version
    found = [
        _status(State(row["state"]), row["version"] or 0, row["reason"])
        for row in await plane.servables()
        if row["name"] == target.servable and version in (None, row["version"])
    ]
    if not found:
        of_model(plane, target.servable, version)  # finds the words for what is missing
        raise NotFound(f"servable {target.servable!r} is not listed", code="unknown_servable")
    return found


def _status(state: State, version: int, reason: str) -> VersionStatus:
    if state is State.FAILED:
        return VersionStatus(version, _STATES[state], _FAILED, reason)
    return VersionStatus(version, _STATES[state], "OK", "")
