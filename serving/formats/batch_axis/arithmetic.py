"""Arithmetic on sizes: what operators make of numbers that were taken from shapes.

Every function takes and returns elements: a ``Size``, or ``None`` for a number that depends on
the size of the batch in a way that is no longer followed. Numbers free of the batch never
become ``None``: an unknown one is a quantity with a name of its own.
"""

from __future__ import annotations

import math
from typing import Callable

from serving.formats.batch_axis.size import Kind, Size, Symbol, derived

Element = Size | None
Binary = Callable[[Size, Size, bool], Element]


def number(value: float) -> Size:
    """Return a literal; one that is not whole becomes a quantity named by its digits."""
    if math.isfinite(value) and value == int(value):
        return Size(int(value))
    return Size.of(Symbol(repr(float(value)), Kind.REAL))


def opaque(operation: str, kind: Kind, *operands: Size) -> Element:
    """Return the result of an operation that is not followed further."""
    if any(s.has_batch for s in operands):
        return None
    return derived(operation, operands, kind)


def _kind(real: bool, *operands: Size) -> Kind:
    if real:
        return Kind.REAL
    return Kind.SIZE if all(s.is_size for s in operands) else Kind.INTEGER


def add(a: Size, b: Size, real: bool) -> Element:
    """Return a + b."""
    if a.symbols == b.symbols:
        total = a.factor + b.factor
        return Size(total, a.symbols) if total else Size(0)
    if a.factor == 0 or b.factor == 0:
        return b if a.factor == 0 else a
    ordered = sorted((a, b), key=str)
    return opaque("sum", _kind(real, a, b), *ordered)


def subtract(a: Size, b: Size, real: bool) -> Element:
    """Return a - b."""
    if a == b:
        return Size(0)
    if b.constant is not None:
        return add(a, Size(-b.factor), real)
    return opaque("difference", Kind.REAL if real else Kind.INTEGER, a, b)


def multiply(a: Size, b: Size, _real: bool) -> Element:
    """Return a * b."""
    return a * b


def divide(a: Size, b: Size, real: bool) -> Element:
    """Return a / b, towards zero for whole numbers as ONNX has it."""
    if b.factor == 0:
        return opaque("quotient", Kind.REAL, a, b)
    exact = a.over(b)
    if exact is not None:
        return exact
    if a.constant is not None and b.constant is not None:
        if real:
            return number(a.factor / b.factor)
        whole_part = abs(a.factor) // abs(b.factor)
        return Size(whole_part if (a.factor < 0) == (b.factor < 0) else -whole_part)
    return opaque("quotient", _kind(real, a, b), a, b)


def modulo(a: Size, b: Size, real: bool) -> Element:
    """Return a modulo b, for plain numbers and where b divides a."""
    if a.constant is not None and b.constant is not None and a.factor >= 0 and b.factor > 0:
        return Size(a.factor % b.factor)
    if b.factor != 0 and a.over(b) is not None and a.is_integral and b.is_integral:
        return Size(0)
    return opaque("modulo", Kind.REAL if real else Kind.INTEGER, a, b)


def power(a: Size, b: Size, _real: bool) -> Element:
    """Return a to the power of b."""
    return opaque("power", Kind.REAL, a, b)


def _pick(name: str, choose: Callable[[int, int], int]) -> Binary:
    def pick(a: Size, b: Size, real: bool) -> Element:
        if a == b:
            return a
        if a.constant is not None and b.constant is not None:
            return Size(choose(a.factor, b.factor))
        return opaque(name, _kind(real, a, b), *sorted((a, b), key=str))

    return pick


maximum = _pick("max", max)
minimum = _pick("min", min)


def equal(a: Size, b: Size, _real: bool) -> Element:
    """1 if equal, 0 if not; a size never equals a negative number."""
    if a == b:
        return Size(1)
    if a.constant is not None and b.constant is not None:
        return Size(0)
    for one, other in ((a, b), (b, a)):
        if one.is_size and other.constant is not None and other.factor < 0:
            return Size(0)
    return opaque("equal", Kind.SIZE, *sorted((a, b), key=str))


def _compare(name: str, test: Callable[[int, int], bool]) -> Binary:
    def compare(a: Size, b: Size, _real: bool) -> Element:
        if a.constant is not None and b.constant is not None:
            return Size(int(test(a.factor, b.factor)))
        return opaque(name, Kind.SIZE, a, b)

    return compare


greater = _compare("greater", lambda a, b: a > b)
less = _compare("less", lambda a, b: a < b)
greater_or_equal = _compare("greater_or_equal", lambda a, b: a >= b)
less_or_equal = _compare("less_or_equal", lambda a, b: a <= b)


def both(a: Size, b: Size, _real: bool) -> Element:
    """Logical and."""
    if a.constant is not None and b.constant is not None:
        return Size(int(bool(a.factor) and bool(b.factor)))
    return opaque("and", Kind.SIZE, a, b)


def either(a: Size, b: Size, _real: bool) -> Element:
    """Logical or."""
    if a.constant is not None and b.constant is not None:
        return Size(int(bool(a.factor) or bool(b.factor)))
    return opaque("or", Kind.SIZE, a, b)


BINARY: dict[str, Binary] = {
    "Add": add, "Sub": subtract, "Mul": multiply, "Div": divide, "Mod": modulo, "Pow": power,
    "Max": maximum, "Min": minimum, "Sum": add, "Equal": equal, "Greater": greater, "Less": less,
    "GreaterOrEqual": greater_or_equal, "LessOrEqual": less_or_equal, "And": both, "Or": either,
}  # fmt: skip


def negate(a: Size) -> Element:
    """-a."""
    return Size(-a.factor, a.symbols) if a.factor else a


def absolute(a: Size) -> Element:
    """|a|."""
    return a if a.is_size else opaque("abs", Kind.REAL, a)


def invert(a: Size) -> Element:
    """Logical not."""
    return Size(int(not a.factor)) if a.constant is not None else opaque("not", Kind.SIZE, a)


def whole(name: str) -> Callable[[Size], Element]:
    """Return floor, ceil or round: nothing happens to a number that is whole already."""

    def rounded(a: Size) -> Element:
        if a.is_integral:
            return a
        return opaque(name, Kind.INTEGER, a)

    return rounded


def square_root(a: Size) -> Element:
    """The root, as a quantity."""
    return opaque("sqrt", Kind.REAL, a)


def truth(a: Size) -> Element:
    """1 unless zero."""
    return Size(int(a.factor != 0)) if a.constant is not None else opaque("bool", Kind.SIZE, a)


UNARY: dict[str, Callable[[Size], Element]] = {
    "Neg": negate, "Abs": absolute, "Not": invert, "Floor": whole("floor"),
    "Ceil": whole("ceil"), "Round": whole("round"), "Sqrt": square_root,
}  # fmt: skip


def choose(condition: Element, yes: Element, no: Element) -> Element:
    """Return ``yes`` where the condition holds."""
    if yes == no:
        return yes
    if condition is None or yes is None or no is None:
        return None
    if condition.constant is not None:
        return yes if condition.factor else no
    return opaque("where", _kind(False, yes, no), condition, yes, no)
