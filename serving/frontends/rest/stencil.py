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

_MOST = 4096
_MOST_BEGIN = 4
"""So many lengths of what stands before the numbers, for each length of the whole."""

_MOST_ALIKE = 4
"""So many that begin alike, and end otherwise."""


class Stencil(NamedTuple):
    """``begin`` goes as far as the numbers; the body stands behind ``head_bytes`` of it.

    The numbers, all there is to read, stand from ``text_at`` to ``text_end`` of the request.
    """

    begin: bytes
    end: bytes
    head: Head
    head_bytes: int
    form: RowForm
    text_at: int
    text_end: int


_NOTHING: dict[int, dict[bytes, tuple[Stencil, ...]]] = {}


class Stencils:
    """Those that are known, by the length of the whole request and how it begins.

    Of a hundred servables the requests may all be equally long, so that none is looked for one
    after the other; that is done only of the few lengths that a beginning may have.
    """

    def __init__(self) -> None:
        self._known: dict[int, dict[int, dict[bytes, tuple[Stencil, ...]]]] = {}
        self._room = _MOST

    def find(self, data: bytes) -> Stencil | None:
        """Return the stencil that data fits, which then is one whole request."""
        for at, begun in self._known.get(len(data), _NOTHING).items():
            for stencil in begun.get(data[:at], ()):
                if data.endswith(stencil.end):
                    return stencil
        return None

    def learn(self, data: bytes, head: Head, head_bytes: int, cut: Cut) -> None:
        """Keep the stencil of a whole request, whose body has a form."""
        at, upto = head_bytes + cut.before, len(data) - cut.behind
        if not self._room:
            self._known.clear()
            self._room = _MOST
        self._room -= 1
        by_begin = self._known.setdefault(len(data), {})
        if at not in by_begin and len(by_begin) >= _MOST_BEGIN:
            del by_begin[next(iter(by_begin))]
        begun = by_begin.setdefault(at, {})
        begin = data[:at]
        latest = Stencil(begin, data[upto:], head, head_bytes, cut.form, at, upto)
        begun[begin] = (latest, *begun.get(begin, ())[: _MOST_ALIKE - 1])

    def forget(self, form: RowForm) -> None:
        """Forget the stencils of a form that does not hold any more."""
        for by_begin in self._known.values():
            for begun in by_begin.values():
                for begin, alike in begun.items():
                    begun[begin] = tuple([each for each in alike if each.form is not form])
