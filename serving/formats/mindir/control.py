"""Turns branches and loops that depend on data into ONNX If and Loop.

MindSpore writes a branch as ``Switch(condition, closure, closure)`` and a call of the result,
and a loop as a *header*: a graph that ends in such a branch, of which one side, the body, ends
in calling the header again.

A loop becomes a Loop by trial: its body is converted with every value taken to stay as it enters;
what does not stay is a state of the loop, and the body is converted again until nothing is left
that changes. So weights and settings stay constants, which operators need them to be. A loop that
is left from its middle (``break``, ``return``) and a function that calls itself are refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from serving.formats.mindir.broken import broken, unsupported
from serving.formats.mindir.builder import Body, value_info
from serving.formats.mindir.graph import Graph, Monad, Node, Weight
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Again, Choice, Closure, Known, Tensor, Value, describe
from serving.formats.mindir.walk import Call, Walk
from serving.tensor import BOOL, INT64

Leaf = Value


def flat(value: Value) -> list[Leaf]:
    """Return the values that a tuple of tuples holds, in order."""
    if isinstance(value, tuple):
        return [leaf for item in value for leaf in flat(item)]
    if isinstance(value, Again):
        return flat(value.arguments)
    return [value]


def rebuilt(like: Value, leaves: list[Leaf]) -> Value:
    """Return tuples arranged as ``like`` of the next leaves, which are taken off the list."""
    if isinstance(like, tuple):
        return tuple(rebuilt(item, leaves) for item in like)
    if isinstance(like, Again):
        return Again(like.header, tuple(rebuilt(item, leaves) for item in like.arguments))
    return leaves.pop(0)


def choose(walk: Walk, choice: Choice, arguments: tuple[Value, ...], node: Node) -> Value | Call:
    """Emit an If that calls one of two closures; returns what it gives.

    If both sides end in calling the same graph, that call is what remains to be made.
    """
    follower = _follower(walk, choice)
    if follower is None:
        return _chosen(walk, choice, arguments, node)
    walk.paused.append(follower)
    try:
        found = _chosen(walk, choice, arguments, node)
    finally:
        walk.paused.pop()
    if not isinstance(found, Again) or found.header != follower:
        raise unsupported(f"{node.label} does not end as its graphs say")
    return Call(Closure(follower), found.arguments, node)


def _follower(walk: Walk, choice: Choice) -> str | None:
    sides = (choice.on_true, choice.on_false)
    if not all(isinstance(side, Closure) and side.graph not in walk.paused for side in sides):
        return None
    one, other = (side.graph for side in sides if isinstance(side, Closure))
    found = walk.reach.join(one, other)
    return found if found not in (one, other, *walk.paused) else None


def _chosen(walk: Walk, choice: Choice, arguments: tuple[Value, ...], node: Node) -> Value:
    helper = _helper(walk, node)
    condition = _condition(helper, choice.condition)
    bodies: tuple[Body, Body] = ([], [])
    results = []
    for body, callee in zip(bodies, (choice.on_true, choice.on_false), strict=True):
        with walk.builder.inside(body):
            results.append(walk.apply(callee, arguments, node))
    if not _alike(*results):
        raise unsupported(f"{node.label} leaves a loop or gives other things on its two sides")
    sides = list(zip(flat(results[0]), flat(results[1]), strict=True))
    differing = [i for i, (a, b) in enumerate(sides) if _is_computed(a, b)]
    branches = [_branch(walk, helper, bodies[s], [sides[i][s] for i in differing]) for s in (0, 1)]
    types = [
        _joined(node, a.type, b.type)
        for a, b in zip(branches[0].outputs, branches[1].outputs, strict=True)
    ]
    merged = [a for a, _ in sides]
    if types:
        graphs = [b.graph(walk.builder.fresh("branch"), types) for b in branches]
        outputs = helper.emit_several(
            "If", condition, types=types, then_branch=graphs[0], else_branch=graphs[1]
        )
        for i, output in zip(differing, outputs, strict=True):
            merged[i] = output
    return rebuilt(results[0], merged)


def loop(walk: Walk, header: Graph, arguments: tuple[Value, ...]) -> Call:
    """Emit a Loop for a header; returns the call of its way out."""
    node = walk.reach.tail(header)
    if node is None:
        raise unsupported(f"graph '{header.name}' calls itself and is no loop")
    helper = _helper(walk, node)
    start = _Turn.of(walk, header, arguments)
    given = flat(arguments)
    changing: dict[int, TensorType] = {}
    while True:
        trial = _trial(walk, header, helper, arguments, changing)
        found = _changes(helper, given, trial, changing)
        if found == changing:
            break
        changing = found
    if not changing:
        raise unsupported(f"the loop '{header.name}' changes nothing from turn to turn")
    order = sorted(changing)
    entering = [helper.as_tensor(given[i]) for i in order]
    outputs = helper.emit_several(
        "Loop", None, start.condition(helper), *entering,
        types=[t.type for t in trial.states], body=trial.graph(walk, helper, order),
    )  # fmt: skip
    final = list(given)
    for i, output in zip(order, outputs, strict=True):
        final[i] = output
    values = rebuilt(arguments, final)
    assert isinstance(values, tuple)
    end = _Turn.of(walk, header, values)
    return Call(end.way_out, end.call.arguments, end.call.node)


@dataclass(frozen=True)
class _Turn:
    """A header evaluated once: the condition, and what to call to go on or to leave."""

    choice: Choice
    call: Call
    goes_on_if_true: bool

    @staticmethod
    def of(walk: Walk, header: Graph, arguments: tuple[Value, ...]) -> _Turn:
        found = walk.open(header, arguments)
        if not isinstance(found, Call) or not isinstance(found.callee, Choice):
            raise unsupported(f"the loop '{header.name}' does not begin with its condition")
        sides = [
            _leads_to(walk, side, header.name)
            for side in (found.callee.on_true, found.callee.on_false)
        ]
        if sides[0] == sides[1]:
            raise unsupported(f"the loop '{header.name}' has no single way out")
        return _Turn(found.callee, found, sides[0])

    @property
    def body(self) -> Value:
        return self.choice.on_true if self.goes_on_if_true else self.choice.on_false

    @property
    def way_out(self) -> Value:
        return self.choice.on_false if self.goes_on_if_true else self.choice.on_true

    def condition(self, helper: Operator) -> Tensor:
        """Return whether to go on, as a BOOL scalar."""
        found = _condition(helper, self.choice.condition)
        if self.goes_on_if_true:
            return found
        return helper.emit("Not", found, type=TensorType(BOOL, ()))


@dataclass(frozen=True)
class _Trial:
    """A loop's body, converted with some of its values taken to change from turn to turn."""

    body: Body
    states: list[Tensor]
    after: list[Leaf]
    again: Tensor

    def graph(self, walk: Walk, helper: Operator, order: list[int]) -> onnx.GraphProto:
        """Return the Loop's body: (turn, condition, states) to (condition, states)."""
        turn = walk.builder.fresh("turn")
        going = walk.builder.fresh("going")
        with walk.builder.inside(self.body):
            leaving = [helper.emit("Identity", self.again, type=self.again.type)]
            for i, state in zip(order, self.states, strict=True):
                new = helper.as_tensor(self.after[i])
                leaving.append(helper.emit("Identity", new, type=state.type))
        return onnx.helper.make_graph(
            self.body,
            walk.builder.fresh("loop"),
            [
                value_info(turn, TensorType(INT64, ())),
                value_info(going, TensorType(BOOL, ())),
                *(value_info(s.name, s.type) for s in self.states),
            ],
            [value_info(t.name, t.type) for t in leaving],
        )


def _trial(
    walk: Walk,
    header: Graph,
    helper: Operator,
    arguments: tuple[Value, ...],
    changing: dict[int, TensorType],
) -> _Trial:
    """Convert a loop's body; values that are not in ``changing`` keep what they enter with."""
    body: Body = []
    leaves = flat(arguments)
    states = []
    with walk.builder.inside(body):
        for i in sorted(changing):
            states.append(Tensor(walk.builder.fresh("state"), changing[i]))
            leaves[i] = states[-1]
        values = rebuilt(arguments, list(leaves))
        assert isinstance(values, tuple)
        turn = _Turn.of(walk, header, values)
        walk.paused.append(header.name)
        try:
            after = walk.apply(turn.body, turn.call.arguments, turn.call.node)
        finally:
            walk.paused.pop()
        if not isinstance(after, Again) or after.header != header.name:
            raise unsupported(f"the loop '{header.name}' is left from its middle")
        if not _alike(after.arguments, arguments):
            raise unsupported(f"the loop '{header.name}' changes the form of a value")
        again = _Turn.of(walk, header, after.arguments).condition(helper)
    return _Trial(body, states, flat(after), again)


def _changes(
    helper: Operator, given: list[Leaf], trial: _Trial, changing: dict[int, TensorType]
) -> dict[int, TensorType]:
    """Return, by place, the types of what changes from turn to turn; lengths may change too.

    What changes can only grow from trial to trial, so that the trials come to an end.
    """
    found = dict(changing)
    for i, (before, after) in enumerate(zip(given, trial.after, strict=True)):
        if i not in changing and (after is before or isinstance(before, Monad)):
            continue
        if not isinstance(before, (Tensor, Known, Weight)):
            helper.refuse(f"changes {describe(before)} from turn to turn")
        entering = changing.get(i) or helper.as_tensor(before).type
        found[i] = _joined(helper.node, entering, helper.as_tensor(after).type)
    return found


def _leads_to(walk: Walk, side: Value, header: str) -> bool:
    if not isinstance(side, Closure):
        return False
    return side.graph == header or header in walk.reach.reachable(side.graph, walk.paused)


@dataclass(frozen=True)
class _Branch:
    """One side of an If: its nodes and outputs."""

    body: Body
    outputs: list[Tensor]

    def graph(self, name: str, types: list[TensorType]) -> onnx.GraphProto:
        infos = [value_info(o.name, t) for o, t in zip(self.outputs, types, strict=True)]
        return onnx.helper.make_graph(self.body, name, [], infos)


def _branch(walk: Walk, helper: Operator, body: Body, leaves: list[Leaf]) -> _Branch:
    with walk.builder.inside(body):
        tensors = [helper.as_tensor(leaf) for leaf in leaves]
        return _Branch(body, [helper.emit("Identity", t, type=t.type) for t in tensors])


def _helper(walk: Walk, node: Node) -> Operator:
    return Operator(node, (), (), walk.builder)


def _condition(helper: Operator, value: Value) -> Tensor:
    found = helper.as_tensor(value, BOOL)
    return found if found.shape == () else helper.reshape(found, ())


def _alike(one: Value, other: Value) -> bool:
    """Return whether two values have the same form: tuples within tuples, and loops gone on."""
    if isinstance(one, Again) and isinstance(other, Again):
        return one.header == other.header and _alike(one.arguments, other.arguments)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    kinds = (tuple, Again)
    return not isinstance(one, kinds) and not isinstance(other, kinds)


def _is_computed(one: Leaf, other: Leaf) -> bool:
    """Return whether an If must give a value: it is not one and the same on both sides."""
    return one is not other and isinstance(one, (Tensor, Known, Weight))


def _joined(node: Node, one: TensorType, other: TensorType) -> TensorType:
    """Return the type of a value that is of one type or the other."""
    if one.dtype is not other.dtype:
        raise broken(f"{node.label} makes one value both {one.dtype} and {other.dtype}")
    if one.shape is None or other.shape is None or len(one.shape) != len(other.shape):
        return TensorType(one.dtype, None)
    pairs = zip(one.shape, other.shape, strict=True)
    return TensorType(one.dtype, tuple(a if a == b else -1 for a, b in pairs))
