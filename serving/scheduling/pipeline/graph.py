"""A method as a graph: which stages can go, and whose values nobody needs any more; pure."""

from __future__ import annotations

from collections.abc import Sequence

from serving.definition import INPUTS, Method


class Graph:
    """What follows from a method's nodes alone, worked out once.

    ``needs[i]`` are the nodes whose values node i takes, ``users[i]`` those that take its own;
    ``returned`` are the nodes whose values are (part of) the answer.
    """

    def __init__(self, method: Method) -> None:
        self.method = method
        count = len(method.nodes)
        self.needs = tuple(
            frozenset(ref.node for ref in node.inputs if ref.node != INPUTS)
            for node in method.nodes
        )
        self.users = tuple(
            tuple(user for user in range(count) if index in self.needs[user])
            for index in range(count)
        )
        self.returned = frozenset(ref.node for ref in method.returns if ref.node != INPUTS)

    @property
    def first(self) -> tuple[int, ...]:
        """The nodes that take nothing but inputs of the method."""
        return tuple(index for index, needs in enumerate(self.needs) if not needs)


class Walk:
    """How far one instance has come. Every node runs once, whether its values are used or not."""

    __slots__ = ("_graph", "_missing", "_using", "left")

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._missing = [len(needs) for needs in graph.needs]
        self._using = [len(users) for users in graph.users]
        self.left = len(graph.needs)

    def done(self, node: int) -> tuple[Sequence[int], Sequence[int]]:
        """A node's values are there: return the nodes that can go now, and those that are spent.

        The values of a spent node are not needed any more.
        """
        self.left -= 1
        graph = self._graph
        ready = []
        for user in graph.users[node]:
            self._missing[user] -= 1
            if not self._missing[user]:
                ready.append(user)
        spent = [node] if not self._using[node] and node not in graph.returned else []
        for need in graph.needs[node]:
            self._using[need] -= 1
            if not self._using[need] and need not in graph.returned:
                spent.append(need)
        return ready, spent
