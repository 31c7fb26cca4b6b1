"""Walks a MindIR graph in its order and turns every node into a value, emitting ONNX nodes.

MindIR's own plumbing leaves no trace: tokens of order (``Load``, ``UpdateState``, ``Depend``),
tuples, and calls, which are unfolded where they stand. What nothing needs is not visited.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Mapping, Sequence

from serving.errors import LoadError
from serving.formats.mindir.broken import broken, unsupported
from serving.formats.mindir.builder import Builder
from serving.formats.mindir.graph import Graph, Model, Monad, Node
from serving.formats.mindir.operator import Operator, checked
from serving.formats.mindir.reach import MAX_DEPTH, Reach, used
from serving.formats.mindir.registry import conversion_of
from serving.formats.mindir.value import (
    Again,
    Choice,
    Closure,
    Known,
    Value,
    describe,
    of_constant,
)

MAX_STEPS = 200_000
"""Nodes and items of tuples that a file may unfold into.

Calls that call others twice, and tuples that hold others twice, could go on for ever.
"""


@dataclass(frozen=True)
class Call:
    """A graph's result that is a call not yet made: of what, with what, and by which node."""

    callee: Value
    arguments: tuple[Value, ...]
    node: Node


@dataclass
class Walk:
    """The conversion of one file.

    ``paused`` holds the graphs whose calls are not made but returned, as an ``Again``, the
    innermost last: headers of the loops whose bodies are being converted, and what follows the
    branches whose sides are.
    """

    model: Model
    builder: Builder
    reach: Reach
    choose: Callable[[Walk, Choice, tuple[Value, ...], Node], Value | Call]
    loop: Callable[[Walk, Graph, tuple[Value, ...]], Value | Call]
    paused: list[str] = field(default_factory=list)
    _depth: int = 0
    _steps: int = 0

    def call(self, graph: Graph, arguments: Sequence[Value]) -> Value:
        """Return the result of a graph for these arguments; raises ``LoadError``."""
        return self._finish(self._enter(graph, tuple(arguments)))

    def apply(self, callee: Value, arguments: tuple[Value, ...], node: Node) -> Value:
        """Return the result of a function, or of the one of two that is chosen."""
        return self._finish(Call(callee, arguments, node))

    def open(self, graph: Graph, arguments: Sequence[Value]) -> Value | Call:
        """Return the result of a graph, short of a call that it ends in."""
        if len(arguments) != len(graph.inputs):
            raise broken(
                f"graph '{graph.name}' has {len(graph.inputs)} parameters and is called with "
                f"{len(arguments)}"
            )
        return self._results(graph, arguments)

    def _finish(self, found: Value | Call) -> Value:
        """Make the calls that results end in, one after the other and not one in the other."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise unsupported(f"its graphs call each other more than {MAX_DEPTH} deep")
        while isinstance(found, Call):
            found = self._step(found)
        self._depth -= 1
        return found

    def _step(self, call: Call) -> Value | Call:
        if isinstance(call.callee, Choice):
            return self.choose(self, call.callee, call.arguments, call.node)
        if not isinstance(call.callee, Closure):
            raise unsupported(f"{call.node.label} calls {describe(call.callee)}")
        graph = self.model.graphs[call.callee.graph]
        return self._enter(graph, (*call.callee.arguments, *call.arguments))

    def _enter(self, graph: Graph, arguments: tuple[Value, ...]) -> Value | Call:
        if graph.name in self.paused:
            return Again(graph.name, arguments)
        if self.reach.recurs(graph.name, self.paused):
            return self.loop(self, graph, arguments)
        return self.open(graph, arguments)

    def _results(self, graph: Graph, arguments: Sequence[Value]) -> Value | Call:
        values: dict[str, Value] = {}
        for stated, given in zip(graph.inputs, arguments, strict=True):
            values[stated.name] = given
        ends = self.reach.tail(graph)
        for node in self.reach.needed(graph):
            self._spend(1)
            if node.output in values:
                raise broken(f"two values of graph '{graph.name}' are called '{node.output}'")
            inputs = tuple(self._look_up(i, values, node) for i in used(node))
            if node.callee:
                callee = self._look_up(node.callee, values, node)
                if node is ends:
                    return Call(callee, inputs, node)
                values[node.output] = self.apply(callee, inputs, node)
            else:
                values[node.output] = self._convert(node, inputs)
        results = tuple(self._look_up(o, values, None) for o in graph.outputs)
        return results[0] if len(results) == 1 else results

    def _spend(self, steps: int) -> None:
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise unsupported(f"it unfolds into more than {MAX_STEPS} operations")

    def _measure(self, values: tuple[Value, ...]) -> None:
        """Count the items of tuples, so that what is done with each later is bounded too."""
        level = [v for v in values if isinstance(v, tuple)]
        depth = 0
        while level:
            depth += 1
            if depth > MAX_DEPTH:
                raise unsupported(f"its tuples are more than {MAX_DEPTH} deep")
            self._spend(sum(map(len, level)))
            level = [item for value in level for item in value if isinstance(item, tuple)]

    def _look_up(self, name: str, values: Mapping[str, Value], node: Node | None) -> Value:
        if name in values:
            return values[name]
        if name in self.model.constants:
            return of_constant(self.model.constants[name])
        if name in self.model.weights:
            return self.model.weights[name]
        if name in self.model.graphs:
            return Closure(name)
        asks = "an output" if node is None else node.label
        raise broken(f"{asks} needs '{name}', which is not made before it")

    def _convert(self, node: Node, inputs: tuple[Value, ...]) -> Value:
        plumbing = PLUMBING.get(node.operator)
        if plumbing is not None:
            self._measure(inputs)
            return plumbing(node, inputs)
        found = conversion_of(node.operator)
        if found is None:
            raise unsupported(f"{node.label} is an operator that has no conversion yet")
        try:
            result = found.rule(Operator(node, found.arguments, inputs, self.builder))
        except LoadError:
            raise
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            # A rule checks what it expects; what it did not think of is the file's fault too.
            raise broken(f"{node.label} has settings that make no sense") from error
        return checked(node, result)


def _made_tuple(_node: Node, inputs: tuple[Value, ...]) -> Value:
    return inputs


def _item(node: Node, inputs: tuple[Value, ...]) -> Value:
    if len(inputs) != 2 or not isinstance(inputs[1], Known):
        raise unsupported(f"{node.label} takes an item whose place is computed")
    items, place = inputs[0], inputs[1].value
    if not isinstance(items, tuple):
        raise unsupported(f"{node.label} takes an item of {describe(items)}")
    if not isinstance(place, int) or not -len(items) <= place < len(items):
        raise broken(f"{node.label} takes item {place} of {len(items)}")
    return items[place]


def _first(node: Node, inputs: tuple[Value, ...]) -> Value:
    if not inputs:
        raise broken(f"{node.label} has no input")
    return inputs[0]


def _token(_node: Node, _inputs: tuple[Value, ...]) -> Value:
    return Monad()


def _partial(node: Node, inputs: tuple[Value, ...]) -> Value:
    if not inputs or not isinstance(inputs[0], Closure):
        raise unsupported(f"{node.label} binds arguments to what is no graph of the file")
    return Closure(inputs[0].graph, (*inputs[0].arguments, *inputs[1:]))


def _switch(node: Node, inputs: tuple[Value, ...]) -> Value:
    if len(inputs) != 3:
        raise broken(f"{node.label} has {len(inputs)} inputs instead of 3")
    condition, on_true, on_false = inputs
    if isinstance(condition, Known):
        return on_true if condition.value else on_false
    return Choice(condition, on_true, on_false)


PLUMBING: Mapping[str, Callable[[Node, tuple[Value, ...]], Value]] = {
    "MakeTuple": _made_tuple, "make_tuple": _made_tuple,
    "MakeList": _made_tuple, "make_list": _made_tuple,
    "TupleGetItem": _item, "tuple_getitem": _item,
    "ListGetItem": _item, "list_getitem": _item,
    "Load": _first, "Depend": _first, "depend": _first,
    "UpdateState": _token,
    "Partial": _partial, "partial": _partial,
    "Switch": _switch, "switch": _switch,
}  # fmt: skip
"""MindIR's own operations, which give no ONNX node; 1.0 writes some of them in lower case."""
