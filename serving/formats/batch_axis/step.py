"""One node of the graph as a rule sees it, and the register of rules.

A rule says how the rows of a batch pass through one operator, or refuses. It is called only
when an input carries rows or counts: an operator whose inputs are all free has free outputs.
"""

from __future__ import annotations

from typing import Any, Callable, NoReturn, Sequence

import onnx

from serving.formats.batch_axis.size import ONE, Size
from serving.formats.batch_axis.value import Dims, Draft, Rows, Value

ML = "ai.onnx.ml"
MICROSOFT = "com.microsoft"


class Refusal(Exception):
    """The proof cannot go on; the text says at which node and why."""


class Step:
    """One node with what is known of its inputs (``None`` where an optional one is left out)."""

    def __init__(self, node: onnx.NodeProto, inputs: Sequence[Value | None], opset: int) -> None:
        self.node = node
        self.inputs = tuple(inputs)
        self.opset = opset
        self._attributes = {a.name: a for a in node.attribute}

    def refuse(self, why: str) -> NoReturn:
        """Stop the proof at this node; ``why`` continues the sentence that names it."""
        raise Refusal(f"{label(self.node)} {why}")

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute's value; texts come as ``str``, lists as Python lists."""
        found = self._attributes.get(name)
        if found is None:
            return default
        value = onnx.helper.get_attribute_value(found)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if found.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS):
            return list(value)
        return value

    def has(self, position: int) -> bool:
        """Return whether the input is given."""
        return position < len(self.inputs) and self.inputs[position] is not None

    def value(self, position: int) -> Value:
        """Return an input that must be there."""
        found = self.inputs[position] if position < len(self.inputs) else None
        if found is None:
            self.refuse(f"lacks its input {position}")
        return found

    def given(self) -> list[Value]:
        """Return the inputs that are there."""
        return [v for v in self.inputs if v is not None]

    def rows(self, position: int) -> Rows:
        """Return where the rows lie in an input that must carry them."""
        found = self.value(position).rows
        if found is None:
            self.refuse(f"joins the batch with an input that has none (input {position})")
        return found

    def dims(self, position: int) -> Dims:
        """Return the sizes of an input's axes; refuses an unknown rank."""
        found = self.value(position).dims
        if found is None:
            self.refuse(f"has an input of unknown rank (input {position})")
        return found

    def rank(self, position: int) -> int:
        """Return an input's number of axes; refuses an unknown one."""
        return len(self.dims(position))

    def axis(self, raw: int, rank: int) -> int:
        """Count an axis from the front; refuses one that is out of range."""
        if not -rank <= raw < rank:
            self.refuse(f"names axis {raw} of a tensor of rank {rank}")
        return raw % rank

    def require_free(self, *positions: int) -> None:
        """Refuse if one of these inputs depends on the batch."""
        for position in positions:
            if self.has(position) and not self.value(position).free:
                self.refuse(f"takes input {position}, a setting of all rows, from the batch")

    def integers(self, position: int) -> list[int] | None:
        """Return a one-dimensional input's numbers, ``None`` if they are not all known."""
        found = self.value(position).known
        if found is None:
            return None
        numbers = [None if e is None else e.constant for e in found.flat]
        return None if None in numbers else [n for n in numbers if n is not None]

    def axes(self, position: int, attribute: str = "axes") -> list[int] | None:
        """Return axes from the attribute or, in newer opsets, the input; ``None`` if absent.

        Refuses axes that are computed while the model runs.
        """
        listed = self.attribute(attribute)
        if listed is not None:
            return [listed] if isinstance(listed, int) else list(listed)
        if not self.has(position):
            return None
        numbers = self.integers(position)
        if numbers is None:
            self.refuse("works on axes that are only computed while it runs")
        return numbers

    def keep(self, position: int = 0) -> Draft:
        """Return an output of the same shape and rows as an input."""
        return Draft(self.rows(position), self.dims(position))


def label(node: onnx.NodeProto) -> str:
    """Return ``node 'attn/Softmax' (Softmax)``, or name an unnamed node by its output."""
    domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}."
    if node.name:
        return f"node '{node.name}' ({domain}{node.op_type})"
    made = next((name for name in node.output if name), "")
    return f"the {domain}{node.op_type} node that makes '{made}'"


Rule = Callable[[Step], Draft | Sequence[Draft]]
_RULES: dict[tuple[str, str], tuple[Rule, frozenset[int]]] = {}


def rule(*operators: str, domain: str = "", sizes: tuple[int, ...] = ()) -> Callable[[Rule], Rule]:
    """Register a rule for operators; ``sizes`` are the inputs that may hold the batch's size."""

    def register(function: Rule) -> Rule:
        for operator in operators:
            key = (domain, operator)
            if key in _RULES:
                raise ValueError(f"two rules for {key}")
            _RULES[key] = (function, frozenset(sizes))
        return function

    return register


def rule_for(domain: str, operator: str) -> tuple[Rule, frozenset[int]] | None:
    """Return the rule of an operator and the inputs that may hold the batch's size."""
    return _RULES.get((domain, operator))


def require_axis_zero(step: Step, positions: Sequence[int], what: str = "samples") -> Rows:
    """Check that these inputs (those given) carry their rows in axis 0, all alike."""
    first = step.rows(positions[0])
    for position in positions:
        if not step.has(position):
            continue
        rows = step.rows(position)
        if rows.axis != 0:
            step.refuse(
                f"takes axis 0 for its {what}, but the batch is in axis {rows.axis} "
                f"of input {position}"
            )
        if not rows.alike(first):
            step.refuse("joins inputs whose rows are laid out differently")
    return first


def is_one(size: Size) -> bool:
    """Return whether a size is exactly 1."""
    return size == ONE
