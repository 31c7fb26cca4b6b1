"""Requests that are equal, byte for byte, but for the numbers in their bodies.

Whoever calls a model again and again sends the same head and the same body with other numbers. A
stencil is what all of them begin and end with, and how long they are: what lies in the gap is all
there is to read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from serving.frontends.rest.row_form import Cut, RowForm

if TYPE_CHECKING:
    from serving.frontends.rest.lane import Head

_MOST_LENGTHS = 1024
_MOST_ALIKE = 4


class Stencil(NamedTuple):
    """``begin`` goes as far as the numbers; the body stands behind ``head_bytes`` of it."""

    begin: bytes
    end: bytes
    head: Head
    head_bytes: int
    form: RowForm

    def text(self, data: bytes) -> bytes:
        """Return what stands in the gap."""
        return data[len(self.begin) : len(data) - len(self.end)]


class Stencils:
    """Those that are known, by the length of the whole request."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Stencil, ...]] = {}

    def find(self, data: bytes) -> Stencil | None:
        """Return the stencil that data fits, which then is one whole request."""
        for stencil in self._known.get(len(data), ()):
            if data.startswith(stencil.begin) and data.endswith(stencil.end):
                return stencil
        return None

    def learn(self, data: bytes, head: Head, head_bytes: int, cut: Cut) -> None:
        """Keep the stencil of a whole request, whose body has a form."""
        begin, end = data[: head_bytes + cut.before], data[len(data) - cut.behind :]
        alike = self._known.get(len(data), ())
        if len(self._known) >= _MOST_LENGTHS:
            self._known.clear()
        latest = Stencil(begin, end, head, head_bytes, cut.form)
        self._known[len(data)] = (latest, *alike[: _MOST_ALIKE - 1])

    def forget(self, form: RowForm) -> None:
        """Forget the stencils of a form that does not hold any more."""
        self._known = {
            length: tuple([stencil for stencil in alike if stencil.form is not form])
            for length, alike in self._known.items()
        }
