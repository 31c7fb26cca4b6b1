"""Who may call: what a gRPC call ends with that does not show the server's token."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from serving.dataplane import DataPlane
from serving.errors import Unauthenticated
from serving.frontends.grpc import health, service
from serving.frontends.grpc.status import Outcome, outcome

ShutOut = Callable[[str, Iterable[tuple[str, str | bytes]]], Outcome | None]
"""Takes a call's path and metadata; returns what it ends with, None for one that is let in."""

_AUTHORIZATION = "authorization"
_OPEN_SERVICE = f"/{health.NAME}/"
_OPEN_PATHS = frozenset((f"/{service.NAME}/ServerLive", f"/{service.NAME}/ServerReady"))
"""What everybody is told: those who look after the server's health show no token."""


def shut_out(plane: DataPlane) -> ShutOut:
    """Return the rule of a data plane, which counts those that it turns away."""

    def refused(path: str, metadata: Iterable[tuple[str, str | bytes]]) -> Outcome | None:
        if path in _OPEN_PATHS or path.startswith(_OPEN_SERVICE):
            return None
        given = [str(value) for key, value in metadata if key == _AUTHORIZATION]
        try:
            plane.let_in(given[0] if len(given) == 1 else None)
        except Unauthenticated as error:
            plane.answered_with(error, "grpc")
            return outcome(error)
        return None

    return refused
