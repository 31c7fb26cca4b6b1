"""Random methods walked by one instance: right values, and all memory back in every ending."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.definition import INPUTS, Kind, Method, Node, Ref
from serving.errors import ExecutionFailed, Overloaded, ServingError
from serving.scheduling.pipeline.graph import Graph
from serving.scheduling.pipeline.passage import Passage
from serving.scheduling.pipeline.port import Terms
from tests.unit.scheduling.pipeline.doors import Doors, evaluate, number, value_of
from tests.unit.scheduling.pipeline.test_graph import methods

TERMS = Terms("r", None, 0, 0.0)
MOST_TURNS = 200


class Ends:
    """How passages ended."""

    def __init__(self) -> None:
        self.errors: list[ServingError | None] = []

    def __call__(self, passage: Passage, error: ServingError | None) -> None:
        self.errors.append(error)


async def turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def walk(method: Method, doors: Doors, chance: random.Random, ends: Ends) -> Passage:
    given = tuple(number(10 * index + 7) for index in range(len(method.inputs)))
    passage = Passage(Graph(method), given, TERMS, doors, ends)
    passage.start()
    for _ in range(MOST_TURNS):
        if ends.errors or not doors.waiting:
            break
        doors.waiting[chance.randrange(len(doors.waiting))].end()
        await turns()
    return passage


@settings(deadline=None)
@given(methods(), st.integers())
def test_passage_comes_to_what_its_stages_say_in_any_order(method: Method, seed: int) -> None:
    async def check() -> None:
        doors, ends = Doors(), Ends()
        passage = await walk(method, doors, random.Random(seed), ends)
        assert ends.errors == [None]
        inputs = tuple(10 * index + 7 for index in range(len(method.inputs)))
        assert tuple(map(value_of, passage.values())) == evaluate(method, inputs)
        passage.release()
        passage.release()
        assert not doors.held
        assert not doors.waiting

    asyncio.run(check())


@settings(deadline=None)
@given(methods(), st.integers(), st.integers(0, 7), st.sampled_from(["fail", "refuse", "abandon"]))
def test_passage_gives_everything_back_however_it_ends(
    method: Method, seed: int, when: int, how: str
) -> None:
    async def check() -> None:
        chance, ends = random.Random(seed), Ends()
        full = Overloaded("no room")
        doors = Doors(lambda node: full if how == "refuse" and node.name == f"f{when}" else None)
        given = tuple(number(index) for index in range(len(method.inputs)))
        passage = Passage(Graph(method), given, TERMS, doors, ends)
        passage.start()
        for step in range(MOST_TURNS):
            if ends.errors or not doors.waiting:
                break
            visit = doors.waiting[chance.randrange(len(doors.waiting))]
            if step == when and how == "fail":
                visit.end(ExecutionFailed("no"))
            else:
                visit.end()
            if step == when and how == "abandon":
                passage.abandon()  # in the very turn in which an answer came
                break
            await turns()
        await turns()
        if not ends.errors or ends.errors[0] is None:
            passage.abandon()
        assert len(ends.errors) <= 1
        assert not doors.held
        assert not doors.waiting

    asyncio.run(check())


async def test_passage_withdraws_the_others_when_a_stage_fails() -> None:
    x = (Ref(INPUTS, 0),)
    nodes = tuple(Node(Kind.FUNCTION, name, x, 1) for name in ("a", "b", "c"))
    method = Method("m", ("x",), ("y",), nodes, (Ref(2, 0),))
    doors, ends = Doors(), Ends()
    Passage(Graph(method), (number(1),), TERMS, doors, ends).start()
    assert len(doors.waiting) == 3
    wrong = ExecutionFailed("wrong")
    doors.waiting[1].end(wrong)
    await turns()
    assert ends.errors == [wrong]
    assert (doors.abandoned, doors.waiting) == (2, [])


async def test_passage_without_stages_ends_at_once() -> None:
    method = Method("m", ("x", "y"), ("a", "b"), (), (Ref(INPUTS, 1), Ref(INPUTS, 0)))
    ends = Ends()
    passage = Passage(Graph(method), (number(1), number(2)), TERMS, Doors(), ends)
    passage.start()
    assert ends.errors == [None]
    assert [value_of(v) for v in passage.values()] == [2, 1]


async def test_passage_tells_a_broken_stage_from_one_that_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    method = Method("m", ("x",), ("y",), (Node(Kind.FUNCTION, "f", (Ref(INPUTS, 0),), 1),),
                    (Ref(0, 0),))  # fmt: skip
    doors, ends = Doors(), Ends()
    Passage(Graph(method), (number(1),), TERMS, doors, ends).start()
    doors.waiting[0].answer.set_exception(RuntimeError("a fault of the server's"))
    await turns()
    (error,) = ends.errors
    assert error is not None
    assert error.code == "internal"
    assert "a stage broke" in caplog.text
