"""Answers from the graphs alone: which nodes are needed, who calls whom, what is missing."""

from __future__ import annotations

from collections import Counter
from typing import Collection, Iterator

from serving.errors import LoadError
from serving.formats.mindir.broken import unsupported
from serving.formats.mindir.graph import Graph, Model, Monad, Node
from serving.formats.mindir.types import MONAD

_ORDERED = frozenset(("Depend", "depend", "Load"))
"""They pass their first input on; the others only order side effects."""
_IN_PLACE = "Inplace"
_SWITCHES = ("Switch", "switch")
_HARMLESS = frozenset(
    ("Print", "Assert", "ScalarSummary", "TensorSummary", "ImageSummary", "HistogramSummary",
     "Load", "Depend", "UpdateState", "MakeTuple")
)  # fmt: skip
_SHOWN = 12
MAX_DEPTH = 64
"""How deep calls may be within calls, branches within branches, tuples within tuples."""


class Reach:
    """What can be told of a file's graphs without converting them; answers are kept."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._needed: dict[str, tuple[Node, ...]] = {}
        self._callees: dict[str, frozenset[str]] = {}
        self._followers: dict[str, str | None] = {}
        self._tokens: dict[str, set[str]] = {}
        self._depth = 0

    def needed(self, graph: Graph) -> tuple[Node, ...]:
        """Return, in order, the nodes that a graph's outputs depend on.

        Raises ``LoadError`` if another one changes the model's state.
        """
        if graph.name not in self._needed:
            wanted = set(graph.outputs)
            kept: list[Node] = []
            for node in reversed(graph.nodes):
                if node.output in wanted:
                    if node.operator.startswith(_IN_PLACE) and node.inputs[:1]:
                        _refuse_overwriting(node, wanted)
                    kept.append(node)
                    wanted.update((*used(node), node.callee))
                else:
                    self._refuse_effect(node, graph)
            self._needed[graph.name] = tuple(reversed(kept))
        return self._needed[graph.name]

    def tail(self, graph: Graph) -> Node | None:
        """Return the call that is a graph's result, if its result is a call."""
        if len(graph.outputs) != 1:
            return None
        made = {node.output: node for node in self.needed(graph)}
        name = graph.outputs[0]
        for _ in range(len(made)):
            node = made.get(name)
            if node is None or node.callee:
                return node
            if node.operator not in _ORDERED or not node.inputs:
                return None
            name = node.inputs[0]
        return None

    def join(self, one: str, other: str) -> str | None:
        """Return the first graph in whose call two graphs both end, whatever they decide before.

        What follows a branch is such a graph: each side ends in calling it. Converted once, after
        the branch, it is not doubled by every branch before it.
        """
        seen: tuple[set[str], set[str]] = ({one}, {other})
        ends: list[str | None] = [one, other]
        found = one if one == other else None
        while found is None and ends != [None, None]:
            for side in (0, 1):
                end = ends[side]
                following = None if end is None else self._follower(end)
                ends[side] = None if following in seen[side] else following
                if following is not None:
                    seen[side].add(following)
                    found = found or (following if following in seen[1 - side] else None)
        return found

    def _follower(self, name: str) -> str | None:
        """Return the graph in whose call a graph ends on each of its ways, if there is one."""
        if name not in self._followers:
            self._followers[name] = None  # meanwhile: a loop has no follower of its own
            sides = self._callees_at_end(self._model.graphs[name])
            if len(sides) == 1:
                self._followers[name] = sides[0]
            elif sides and self._depth < MAX_DEPTH:
                self._depth += 1
                self._followers[name] = self.join(*sides)
                self._depth -= 1
        return self._followers[name]

    def _callees_at_end(self, graph: Graph) -> list[str]:
        """Return the graph that a graph ends in calling, or the two of which it calls one."""
        call = self.tail(graph)
        if call is None:
            return []
        if call.callee in self._model.graphs:
            return [call.callee]
        made = {node.output: node for node in self.needed(graph)}
        switch = made.get(call.callee)
        if switch is None or switch.operator not in _SWITCHES or len(switch.inputs) != 3:
            return []
        sides = []
        for name in switch.inputs[1:]:
            partial = made.get(name)
            sides.append(partial.inputs[0] if partial and partial.inputs else name)
        return sides if all(side in self._model.graphs for side in sides) else []

    def recurs(self, name: str, without: Collection[str] = ()) -> bool:
        """Return whether a graph can come to call itself, not passing through others."""
        return name in self.reachable(name, without)

    def reachable(self, name: str, without: Collection[str] = ()) -> set[str]:
        """Return the graphs that one can come to call; it itself only if it recurs."""
        found: set[str] = set()
        pending = [name]
        while pending:
            for callee in self._mentions(pending.pop()):
                if callee not in found and callee not in without:
                    found.add(callee)
                    pending.append(callee)
        return found

    def _mentions(self, name: str) -> frozenset[str]:
        if name not in self._callees:
            graphs = self._model.graphs
            nodes = self.needed(graphs[name])
            names = (n for node in nodes for n in (*node.inputs, node.callee))
            self._callees[name] = frozenset(n for n in names if n in graphs)
        return self._callees[name]

    def _refuse_effect(self, node: Node, graph: Graph) -> None:
        """Refuse a node that nothing uses, but that is ordered among side effects: it has one."""
        if not node.operator or node.operator in _HARMLESS:
            return
        if any(self._is_token(name, graph) for name in node.inputs):
            raise unsupported(f"{node.label} changes the model's state, which is not served")

    def _is_token(self, name: str, graph: Graph) -> bool:
        if isinstance(self._model.constants.get(name), Monad):
            return True
        if graph.name not in self._tokens:
            self._tokens[graph.name] = {i.name for i in graph.inputs if i.type == MONAD} | {
                n.output for n in graph.nodes if n.operator == "UpdateState"
            }
        return name in self._tokens[graph.name]

    def all_needed(self) -> Iterator[Node]:
        """Yield the nodes that the file's result depends on, each once, graph after graph."""
        main = self._model.main.name
        for name in sorted({main, *self.reachable(main)}, key=lambda n: n != main):
            yield from self.needed(self._model.graphs[name])


def require_covered(reach: Reach, covered: Collection[str]) -> None:
    """Raise ``LoadError`` with the full list of operators that no conversion covers."""
    missing = [n for n in reach.all_needed() if n.operator and n.operator not in covered]
    if not missing:
        return
    counts = Counter(n.operator for n in missing)
    first = {n.operator: n.scope or n.output for n in reversed(missing)}
    listed = [f"{op} ({count}, first at '{first[op]}')" for op, count in counts.most_common()]
    rest = len(listed) - _SHOWN
    shown = "; ".join(listed[:_SHOWN]) + (f"; and {rest} operators more" if rest > 0 else "")
    raise LoadError(
        f"the MindIR file uses {len(counts)} operator{'' if len(counts) == 1 else 's'} without a "
        f"conversion: {shown}",
        code="unsupported_operator",
        fix="export the network as ONNX (mindspore.export(..., file_format='ONNX')), or build it "
        "of other operators",
    )


def used(node: Node) -> tuple[str, ...]:
    """Return the inputs of a node whose values matter, not only their order."""
    if node.operator == "UpdateState":
        return ()
    return node.inputs[:1] if node.operator in _ORDERED else node.inputs


def _refuse_overwriting(node: Node, used_later: Collection[str]) -> None:
    """Refuse an operator that overwrites its first input if something after it uses that input."""
    if node.inputs[0] in used_later:
        raise unsupported(f"{node.label} overwrites a value that is used again after it")
