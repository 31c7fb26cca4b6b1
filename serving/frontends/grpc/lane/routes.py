"""What a path leads to: a method of a gRPC service, and its way without a task if it has one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import grpc

from serving.frontends.grpc.calls import Shortcut


class Route(NamedTuple):
    """``handler`` is grpcio's ``RpcMethodHandler``, which runs any kind of call.

    ``request_streaming`` tells that a call may carry other than one message.
    """

    handler: Any
    shortcut: Shortcut | None
    request_streaming: bool


class _Asked(NamedTuple):
    """Stands for grpcio's ``HandlerCallDetails``."""

    method: str
    invocation_metadata: tuple[tuple[str, str], ...] = ()


class Routes:
    """The methods of one server, found by asking grpcio's own handlers once for each path."""

    def __init__(self) -> None:
        self._handlers: list[grpc.GenericRpcHandler] = []
        self._shortcuts: dict[str, Shortcut] = {}
        self._found: dict[str, Route] = {}

    def add(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Offer what handlers have, after those that were added before."""
        self._handlers += handlers

    def add_shortcuts(self, shortcuts: Mapping[str, Shortcut]) -> None:
        """Offer shortcuts, by path, for methods that handlers have too."""
        self._shortcuts.update(shortcuts)

    def find(self, path: str) -> Route | None:
        """Return what answers calls of a path, None when nothing does."""
        found = self._found.get(path)
        if found is None:
            handler = self._handler(path)
            if handler is not None:
                found = self._found[path] = Route(
                    handler, self._shortcuts.get(path), bool(handler.request_streaming)
                )
        return found

    def _handler(self, path: str) -> Any:
        asked = _Asked(path)
        for service in self._handlers:
            handler = service.service(asked)
            if handler is not None:
                return handler
        return None
