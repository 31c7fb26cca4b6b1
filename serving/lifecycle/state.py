"""The states of a version and the moves between them."""

from __future__ import annotations

import enum


class State(enum.Enum):
    """Where a version is in its life.

    The legal moves::

        NEW ──→ LOADING ──→ WARMING ──→ READY ──→ DRAINING ──→ UNLOADED
         │         │           │          │
         └─────────┴───────────┴──────────┴──→ FAILED

    READY is announced late (after warming) and withdrawn early (before draining). FAILED keeps
    its reason; from READY it is reached by ending one worker after the other. What is tried or
    loaded again is another generation, with a life of its own.
    """

    NEW = "NEW"
    LOADING = "LOADING"
    WARMING = "WARMING"
    READY = "READY"
    DRAINING = "DRAINING"
    UNLOADED = "UNLOADED"
    FAILED = "FAILED"


_MOVES: dict[State, frozenset[State]] = {
    State.NEW: frozenset({State.LOADING, State.FAILED}),
    State.LOADING: frozenset({State.WARMING, State.FAILED}),
    State.WARMING: frozenset({State.READY, State.FAILED}),
    State.READY: frozenset({State.DRAINING, State.FAILED}),
    State.DRAINING: frozenset({State.UNLOADED}),
    State.UNLOADED: frozenset(),
    State.FAILED: frozenset(),
}


def move(current: State, target: State) -> State:
    """Return ``target``; raises ValueError for a move that the life of a version does not have."""
    if target not in _MOVES[current]:
        raise ValueError(f"a version cannot go from {current.value} to {target.value}")
    return target
