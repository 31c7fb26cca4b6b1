"""The table of conversions: one small function for each MindSpore primitive, by its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Iterator

if TYPE_CHECKING:
    from serving.formats.mindir.operator import Operator
    from serving.formats.mindir.value import Value

Rule = Callable[["Operator"], "Value"]


@dataclass(frozen=True)
class Conversion:
    """How one primitive is converted: its function, and the names of its inputs in order."""

    rule: Rule
    arguments: tuple[str, ...]


_CONVERSIONS: dict[str, Conversion] = {}


def converts(*primitives: str, arguments: str) -> Callable[[Rule], Rule]:
    """Register a function for primitives.

    ``arguments`` names, in order and separated by spaces, every input that any release writes:
    first tensors, then the settings that MindSpore 2.1 and later write as inputs
    (``"x w transpose_a transpose_b"``). A setting that is not among a node's inputs is looked
    up in its attributes by the same name, so both encodings look alike to the function. ``a|b``
    is one argument that releases name differently.
    """

    def register(rule: Rule) -> Rule:
        for primitive in primitives:
            if primitive in _CONVERSIONS:
                raise ValueError(f"two conversions for {primitive}")
            _CONVERSIONS[primitive] = Conversion(rule, tuple(arguments.split()))
        return rule

    return register


def conversion_of(primitive: str) -> Conversion | None:
    """Return the conversion of a primitive, or ``None`` if there is none."""
    return _CONVERSIONS.get(primitive)


def converted_primitives() -> Iterator[str]:
    """Yield the primitives that have a conversion, in alphabetical order."""
    yield from sorted(_CONVERSIONS)
