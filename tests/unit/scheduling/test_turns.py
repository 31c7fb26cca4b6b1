"""Lines have their turns in the order in which their heads came, whatever happened in between."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from serving.scheduling.turns import Turns

LINES = 5


@dataclass
class FakeLine:
    """``born`` holds who waits, oldest first; those that are not ``committed`` may not run."""

    model: int
    born: list[float] = field(default_factory=list)
    committed: bool = True

    @property
    def waiting(self) -> int:
        return len(self.born)

    def oldest(self) -> float | None:
        return self.born[0] if self.born and self.committed else None


class Served(RuleBasedStateMachine):
    """Requests come, leave and are served; the first line is always the one a search finds."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = [FakeLine(model) for model in range(LINES)]
        self.turns: Turns[FakeLine] = Turns()
        self.clock = itertools.count(1)
        self.aside: set[int] = set()

    def longest(self) -> FakeLine | None:
        found = [
            line
            for line in self.lines
            if line.oldest() is not None and line.model not in self.aside
        ]
        return min(found, key=lambda line: line.born[0], default=None)

    @rule(model=st.integers(0, LINES - 1))
    def comes(self, model: int) -> None:
        line = self.lines[model]
        line.born.append(float(next(self.clock)))
        if line.waiting == 1:
            self.turns.add(line)

    @rule(model=st.integers(0, LINES - 1), told=st.booleans())
    def all_leave(self, model: int, told: bool) -> None:
        line = self.lines[model]
        line.born.clear()
        if told:
            self.turns.remove(line)

    @rule(model=st.integers(0, LINES - 1))
    def head_leaves(self, model: int) -> None:
        del self.lines[model].born[:1]

    @rule(model=st.integers(0, LINES - 1), committed=st.booleans())
    def is_committed_or_not(self, model: int, committed: bool) -> None:
        self.lines[model].committed = committed
        self.turns.restore()
        self.aside.clear()

    @rule()
    def one_is_served(self) -> None:
        line = self.turns.first()
        if line is not None:
            del line.born[0]
            if not line.born:
                self.turns.remove(line)

    @rule()
    def one_is_set_aside(self) -> None:
        line = self.turns.first()
        if line is not None:
            self.turns.set_aside(line)
            self.aside.add(line.model)

    @rule()
    def turn_ends(self) -> None:
        self.turns.restore()
        self.aside.clear()

    @invariant()
    def first_has_waited_longest(self) -> None:
        assert self.turns.first() is self.longest()

    @invariant()
    def nobody_is_forgotten(self) -> None:
        assert set(self.turns.lines) >= {x.model for x in self.lines if x.waiting}


TestServed = Served.TestCase
TestServed.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


def test_what_is_remembered_does_not_grow_with_the_turns() -> None:
    turns: Turns[FakeLine] = Turns()
    first = FakeLine(0, [0.0])
    turns.add(first)
    for number in range(10_000):
        line = FakeLine(1 + number % 3, [1.0 + number])
        turns.add(line)
        turns.remove(line)
    assert turns.first() is first
    assert len(turns._heap) < 200
