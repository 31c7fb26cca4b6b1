"""The moves that a version may make, and none other."""

import itertools

import pytest

from serving.lifecycle.state import State, move

EDGES = {
    ("NEW", "LOADING"), ("NEW", "FAILED"), ("LOADING", "WARMING"), ("LOADING", "FAILED"),
    ("WARMING", "READY"), ("WARMING", "FAILED"), ("READY", "DRAINING"), ("READY", "FAILED"),
    ("DRAINING", "UNLOADED"),
}  # fmt: skip


@pytest.mark.parametrize(("current", "target"), sorted(EDGES))
def test_state_makes_a_legal_move(current: str, target: str) -> None:
    assert move(State[current], State[target]) is State[target]


def test_state_refuses_every_other_move() -> None:
    for current, target in itertools.product(State, State):
        if (current.name, target.name) not in EDGES:
            with pytest.raises(ValueError, match=f"from {current.name} to {target.name}"):
                move(current, target)
