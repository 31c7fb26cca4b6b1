"""What the axis walk knows of one tensor: where the rows of the batch lie in it.

A tensor is one of three things:

- *free*: it is the same whatever rows are in the batch, and however many;
- *rows*: one axis counts the rows, and what belongs to a row depends on that row (and on free
  tensors) alone, so that running the row by itself gives the same elements;
- *counts*: a small tensor of numbers computed from shapes, the size of the batch among them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.formats.batch_axis.size import ONE, ROW_COUNT, Size

Dims = tuple[Size, ...]
OpenDims = tuple[Size | None, ...]
"""Sizes of the axes; ``None`` is a size that a rule does not know but that is free of the batch."""

Elements = NDArray[Any]
"""An object array of ``Size``; ``None`` is a number that depends on the batch in some other way."""


@dataclass(frozen=True)
class Rows:
    """Where rows lie: position ``(o * batch + n) * inner + i`` of ``axis`` belongs to row n.

    ``outer`` and ``inner`` are 1 unless the batch was merged with neighbouring axes, as when
    ``[batch, time, d]`` is reshaped to ``[batch * time, d]``.
    """

    axis: int
    outer: Size = ONE
    inner: Size = ONE

    @property
    def size(self) -> Size:
        """Length of the axis."""
        return self.outer * ROW_COUNT * self.inner

    @property
    def plain(self) -> bool:
        """True if the axis is the batch and nothing else."""
        return self.outer == ONE and self.inner == ONE

    def at(self, axis: int) -> Rows:
        """Return the same rows on another axis."""
        return Rows(axis, self.outer, self.inner)

    def alike(self, other: Rows) -> bool:
        """Return whether both axes are divided among the rows in the same way."""
        return self.outer == other.outer and self.inner == other.inner


class Place(enum.Enum):
    """What the elements of a row have to do with the row's place in the batch."""

    NONE = "nothing"
    NUMBER = "each is the number of its row"
    OWN = "each is the number of its row times ``span``, plus something below ``reach``"
    INDEX = (
        "the first entry along the last axis is the number of the row, the others are free of it"
    )
    MIXED = "they depend on it somehow; only the shape may be used"


@dataclass(frozen=True)
class Value:
    """One tensor; ``dims`` is ``None`` if even its rank is unknown (free tensors only).

    ``known`` holds the elements of a small tensor of numbers; ``real`` says they are floating
    point. ``sequence`` marks a list with one item a row (the output of ZipMap), not a tensor.
    All elements are whole numbers from 0 up to, but not including, ``reach``, where there is one.
    """

    dims: Dims | None
    rows: Rows | None = None
    known: Elements | None = None
    real: bool = False
    sequence: bool = False
    place: Place = Place.NONE
    span: Size | None = None
    reach: Size | None = None

    @property
    def counts(self) -> bool:
        """True if it holds numbers that depend on the size of the batch."""
        return self.known is not None and any(e is None or e.has_batch for e in self.known.flat)

    @property
    def free(self) -> bool:
        """True if the batch has no influence on it."""
        return self.rows is None and not self.counts


@dataclass(frozen=True)
class Draft:
    """What a rule says of one output: the rows, and as many sizes of axes as it knows.

    Without a ``place`` an output has something to do with the place of its rows (``MIXED``) if
    any input has.
    """

    rows: Rows
    dims: OpenDims
    sequence: bool = False
    place: Place | None = None
    span: Size | None = None
    reach: Size | None = None


def known_value(elements: Elements, real: bool = False) -> Value:
    """Return the value of a tensor whose elements are known."""
    return Value(tuple(Size(n) for n in elements.shape), known=elements, real=real)


def object_array(items: list[Size | None], shape: tuple[int, ...]) -> Elements:
    """Return ``items`` as an object array of the given shape."""
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(shape)
