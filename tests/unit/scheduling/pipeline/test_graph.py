"""Walks through graphs: every node once, none too early, values kept as long as they are needed."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from serving.definition import INPUTS, Kind, Method, Node, Ref
from serving.scheduling.pipeline.graph import Graph, Walk


@st.composite
def methods(draw: st.DrawFn) -> Method:
    """Draw a method of up to 8 stages, each taking values of inputs and of stages before it."""
    inputs = draw(st.integers(1, 3))
    there = [Ref(INPUTS, index) for index in range(inputs)]
    nodes = []
    for index in range(draw(st.integers(0, 8))):
        taken = tuple(draw(st.lists(st.sampled_from(there), min_size=1, max_size=3)))
        outputs = draw(st.integers(1, 2))
        nodes.append(Node(Kind.FUNCTION, f"f{index}", taken, outputs))
        there += [Ref(index, output) for output in range(outputs)]
    returns = tuple(draw(st.lists(st.sampled_from(there), min_size=1, max_size=3)))
    names = tuple(f"y{index}" for index in range(len(returns)))
    return Method("m", tuple(f"x{i}" for i in range(inputs)), names, tuple(nodes), returns)


@given(methods(), st.integers())
def test_walk_runs_each_node_once_when_its_inputs_are_there(method: Method, seed: int) -> None:
    chance = random.Random(seed)
    graph = Graph(method)
    walk = Walk(graph)
    ready = list(graph.first)
    alive: set[int] = set()
    done: list[int] = []
    while ready:
        node = ready.pop(chance.randrange(len(ready)))
        assert graph.needs[node] <= alive, "its inputs are not there, or not any more"
        more, spent = walk.done(node)
        done.append(node)
        alive.add(node)
        ready += more
        alive -= set(spent)
    assert sorted(done) == list(range(len(method.nodes)))
    assert walk.left == 0
    # What is returned is there in the end, and nothing else is.
    assert alive == {ref.node for ref in method.returns if ref.node != INPUTS}


def test_walk_lets_independent_nodes_go_together() -> None:
    x = (Ref(INPUTS, 0),)
    nodes = (
        Node(Kind.FUNCTION, "left", x, 1),
        Node(Kind.FUNCTION, "right", x, 1),
        Node(Kind.MODEL, "join", (Ref(0, 0), Ref(1, 0)), 1),
    )
    graph = Graph(Method("m", ("x",), ("y",), nodes, (Ref(2, 0),)))
    walk = Walk(graph)
    assert graph.first == (0, 1)
    assert walk.done(1) == ([], [])
    assert walk.done(0) == ([2], [])
    assert walk.done(2) == ([], [0, 1])


def test_walk_spends_a_value_that_nobody_uses_at_once() -> None:
    nodes = (Node(Kind.FUNCTION, "log", (Ref(INPUTS, 0),), 1),)
    graph = Graph(Method("m", ("x",), ("y",), nodes, (Ref(INPUTS, 0),)))
    assert Walk(graph).done(0) == ([], [0])
