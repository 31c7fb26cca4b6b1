"""Sizes as the axis walk knows them: a whole number times named quantities, the batch among them.

``3 * batch * seq`` is a product; sums and the rest become one new quantity with the expression
as its name, so that the same expression over the same quantities is recognised again.
"""

from __future__ import annotations

import enum
import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Iterable


class Kind(enum.Enum):
    """What values a quantity can take."""

    SIZE = "a whole number, 0 or more"
    INTEGER = "a whole number of either sign"
    REAL = "any number"


@dataclass(frozen=True)
class Symbol:
    """A quantity whose value is unknown here; two symbols of one name have one value.

    ``cut_of`` marks the length of a table cut to a size: it is that size, unless the table, which
    is longer than 1, ends before it.
    """

    name: str
    kind: Kind
    cut_of: Size | None = None


BATCH = Symbol("batch", Kind.SIZE)
"""The number of rows that run together; at least 1."""


@dataclass(frozen=True)
class Size:
    """``factor`` times the product of ``symbols`` (sorted by name, repeats allowed)."""

    factor: int
    symbols: tuple[Symbol, ...] = ()

    @staticmethod
    def of(symbol: Symbol) -> Size:
        """Return the size that is just this quantity."""
        return Size(1, (symbol,))

    @property
    def constant(self) -> int | None:
        """The value, if it is a plain number."""
        return None if self.symbols else self.factor

    @property
    def has_batch(self) -> bool:
        """True if it grows with the batch."""
        return BATCH in self.symbols

    @property
    def is_integral(self) -> bool:
        """True if it can only be a whole number."""
        return all(s.kind is not Kind.REAL for s in self.symbols)

    @property
    def is_size(self) -> bool:
        """True if it can only be a whole number, 0 or more."""
        return self.factor >= 0 and all(s.kind is Kind.SIZE for s in self.symbols)

    def __mul__(self, other: Size) -> Size:
        if self.factor == 0 or other.factor == 0:
            return Size(0)
        symbols = sorted(self.symbols + other.symbols, key=lambda s: s.name)
        return Size(self.factor * other.factor, tuple(symbols))

    def over(self, other: Size) -> Size | None:
        """Divide exactly; ``None`` if the result is not known to be a whole number of times."""
        if other.factor == 0 or self.factor % other.factor:
            return None
        left = Counter(self.symbols)
        left.subtract(other.symbols)
        if any(count < 0 for count in left.values()):
            return None
        symbols = sorted(left.elements(), key=lambda s: s.name)
        return Size(self.factor // other.factor, tuple(symbols))

    def __str__(self) -> str:
        names = [s.name for s in self.symbols]
        return "*".join(names if self.factor == 1 and names else [str(self.factor), *names])


TO_THE_END = 1_000_000_000
"""A cut that ends here or later ends with the axis: no tensor is as long (TensorFlow writes it)."""
ZERO = Size(0)
ONE = Size(1)
ROW_COUNT = Size.of(BATCH)


def product(sizes: Iterable[Size]) -> Size:
    """Return the product of sizes; 1 for none."""
    result = ONE
    for size in sizes:
        result = result * size
    return result


def derived(operation: str, operands: Iterable[Size], kind: Kind) -> Size:
    """Return the quantity that ``operation`` makes of sizes which do not hold the batch."""
    name = f"{operation}({', '.join(map(str, operands))})"
    if len(name) > 120:
        # Expressions are compared by name; a digest keeps a long chain from growing without end.
        name = f"{operation}({hashlib.sha256(name.encode()).hexdigest()[:24]})"
    return Size.of(Symbol(name, kind))
