"""Which sizes a model takes, and which gear a run's inputs ask for. Pure.

``atc`` compiles a model for fixed sizes, for a list of *gears* (numbers of rows, image sizes, or
sizes of all inputs), or for free sizes. Before every run of a model with gears CANN is told which
one it is.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Set, Tuple

from serving.backends.base import BackendError
from serving.errors import listing
from serving.tensor import Dim, TensorSpec, shape_text

Shape = Tuple[int, ...]


class Kind(enum.Enum):
    """What about a model's sizes may vary; the words are ``atc``'s options."""

    FIXED = "fixed sizes"
    ROWS = "--dynamic_batch_size"
    IMAGE = "--dynamic_image_size"
    DIMS = "--dynamic_dims"
    FREE = "free sizes"


@dataclass(frozen=True)
class Sizes:
    """The inputs' sizes, -1 where they vary, and the gears in the form of their kind.

    A gear is ``(rows,)``, ``(height, width)``, or the sizes of all inputs one after the other.
    """

    kind: Kind
    inputs: Tuple[Shape, ...]
    gears: Tuple[Shape, ...] = ()

    def at(self, gear: Shape) -> Tuple[Shape, ...]:
        """Return the inputs' sizes at a gear."""
        if self.kind is Kind.DIMS:
            found = []
            at = 0
            for shape in self.inputs:
                found.append(gear[at : at + len(shape)])
                at += len(shape)
            return tuple(found)
        if self.kind is Kind.ROWS:
            return tuple(tuple(gear[0] if d < 0 else d for d in s) for s in self.inputs)
        if self.kind is Kind.IMAGE:
            return tuple(_with(shape, gear) for shape in self.inputs)
        return self.inputs

    def gear_of(self, specs: Sequence[TensorSpec], given: Sequence[Shape]) -> Shape:
        """Return the gear that fits inputs of these sizes; raises BackendError if none does.

        Where a model has no gears, the sizes are only checked and the gear is ``()``.
        """
        if self.kind in (Kind.FIXED, Kind.FREE):
            for spec, shape, own in zip(specs, given, self.inputs):
                if len(shape) != len(own) or any(d not in (-1, n) for d, n in zip(own, shape)):
                    raise BackendError(
                        f"input {spec.name!r} has shape {shape_text(shape)}, the model takes "
                        f"{shape_text(own)}"
                    )
            return ()
        wanted = tuple(tuple(shape) for shape in given)
        for gear in self.gears:
            if self.at(gear) == wanted:
                return gear
        raise BackendError(self._refusal(specs, wanted))

    def rows(self) -> Optional[Tuple[int, ...]]:
        """Return the only numbers of rows that a run may have, or None where it is not rows.

        Gears of all inputs' sizes are numbers of rows where nothing else varies: each input has
        at most one size that does, and they are equal in every gear. Where others vary too, only
        those numbers count that go with all of these: a batch has them whatever its rows look like.
        """
        if self.kind is Kind.ROWS:
            return tuple(sorted(gear[0] for gear in self.gears))
        if self.kind is not Kind.DIMS:
            return None
        if all(shape.count(-1) <= 1 for shape in self.inputs):
            varying = [set(self._varying(gear)) for gear in self.gears]
            if all(len(sizes) == 1 for sizes in varying):
                return tuple(sorted(set.union(*varying)))
        if any(not shape or shape[0] != -1 for shape in self.inputs):
            return None
        found: Dict[Tuple[Shape, ...], Set[int]] = {}
        for gear in self.gears:
            shapes = self.at(gear)
            if len({shape[0] for shape in shapes}) != 1:
                return None
            found.setdefault(tuple(shape[1:] for shape in shapes), set()).add(shapes[0][0])
        return tuple(sorted(set.intersection(*found.values()))) or None

    def _varying(self, gear: Shape) -> List[int]:
        """Return what a gear has in the places that vary."""
        own = [d for shape in self.inputs for d in shape]
        return [size for d, size in zip(own, gear) if d < 0]

    def _refusal(self, specs: Sequence[TensorSpec], given: Sequence[Shape]) -> str:
        rows = self.rows()
        for spec, own, shape in zip(specs, self.inputs, given):
            fits = len(own) == len(shape) and all(d in (-1, n) for d, n in zip(own, shape))
            if rows and fits and -1 in own and shape[own.index(-1)] not in rows:
                return (
                    f"the model was compiled for {_listed(rows)} rows a run; input {spec.name!r} "
                    f"has {shape[own.index(-1)]}"
                )
        shown = ", ".join(f"{s.name} {shape_text(g)}" for s, g in zip(specs, given))
        known = [" ".join(shape_text(s) for s in self.at(gear)) for gear in self.gears]
        return f"the model was compiled for other sizes than {shown}; it takes {listing(known)}"


def named(kind: Kind, shape: Shape) -> Tuple[Dim, ...]:
    """Return an input's sizes with names for those that vary."""
    names: List[Dim] = ["height", "width"] if kind is Kind.IMAGE else []
    left = iter(names)
    other = "batch" if kind is Kind.ROWS else ""
    return tuple(next(left, other) if d < 0 else d for d in shape)


def varied(kind: Kind, gears: Sequence[Shape], shapes: Sequence[Shape]) -> Tuple[Dim, ...]:
    """Return an output's sizes, given what it has at each gear.

    A size that is the gear's number of rows at every gear is called like the inputs' rows.
    """
    dims: List[Dim] = []
    for sizes in zip(*shapes):
        if len(set(sizes)) == 1:
            dims.append(sizes[0])
        elif kind is Kind.ROWS and all(s == g[0] for s, g in zip(sizes, gears)):
            dims.append("batch")
        else:
            dims.append("")
    return tuple(dims)


def _with(shape: Shape, gear: Shape) -> Shape:
    left = iter(gear)
    return tuple(next(left, -1) if d < 0 else d for d in shape)


def _listed(rows: Sequence[int]) -> str:
    *first, last = [str(n) for n in rows]
    return f"{', '.join(first)} or {last}" if first else last
