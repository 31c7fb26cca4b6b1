"""Small calls that arrive in one turn of the event loop and have one form go together.

To look up, decode, claim, run, count and answer each by itself costs the server several times what
a small model does. What goes together is parsed in one go, stands in the line as one ticket, and is
written in one go; whatever does not fit, and whoever is alone, goes the lane's ordinary way.
"""

from __future__ import annotations

from serving.dataplane import DataPlane, TakesRows
from serving.errors import ServingError
from serving.frontends.loneliness import LONELY, Loneliness
from serving.frontends.rest.party import Party, Refuse, Start
from serving.frontends.rest.row_form import RowForm
from serving.frontends.rest.seat import Seat
from serving.frontends.rest.stencil import Stencils

_MOST_FORMS = 2048


class Gatherings:
    """The calls of all connections that are being gathered, by form. Event loop only."""

    def __init__(self, plane: DataPlane, start: Start, refuse: Refuse) -> None:
        self.stencils = Stencils()
        self._describe = plane.describe
        self._rows = plane if isinstance(plane, TakesRows) else None
        self._start = start
        self._refuse = refuse
        self._gathered: dict[int, _Gathered] = {}
        self._company = Loneliness(LONELY)
        self.alone = 0  # calls that were claimed by themselves, and are not answered yet

    @property
    def possible(self) -> bool:
        """Whether the data plane takes calls together."""
        return self._rows is not None

    def has_company(self) -> bool:
        """Return whether it pays to wait for others until the loop's turn ends."""
        return self._company.has_company(self.alone)

    def forget(self, form: RowForm) -> None:
        """Take no calls of a form that does not hold any more."""
        self.stencils.forget(form)
        self._gathered.pop(id(form), None)

    def join(self, seat: Seat) -> None:
        """Let a call go with the others of this turn."""
        stencil = seat.stencil
        assert stencil is not None
        form = stencil.form
        gathered = self._gathered.get(id(form))
        if gathered is None or gathered.form is not form:
            if len(self._gathered) >= _MOST_FORMS:
                self._gathered.clear()
            gathered = self._gathered[id(form)] = _Gathered(form)
        if not gathered.seats:
            self._company.soon(self._go, gathered)
        gathered.seats.append(seat)
        gathered.texts.append(seat.data[stencil.text_at : stencil.text_end])

    def _go(self, gathered: _Gathered) -> None:
        seats, texts = gathered.empty()
        if not seats:
            return
        self._company.came(len(seats))
        if len(seats) > 1 and self._together(gathered.form, seats, texts):
            return
        for seat in seats:
            seat.run()

    def _together(self, form: RowForm, seats: list[Seat], texts: list[bytes]) -> bool:
        """Claim calls together; False where each must go by itself."""
        assert self._rows is not None
        try:
            if not form.holds(self._describe):
                self.forget(form)
                return False
            return Party(self._rows, form, seats, self._start, self._refuse).begin(texts)
        except ServingError:
            return False  # each is told of it, in its own words


class _Gathered:
    """The calls of one form that have come in this turn."""

    __slots__ = ("form", "seats", "texts")

    def __init__(self, form: RowForm) -> None:
        self.form = form
        self.seats: list[Seat] = []
        self.texts: list[bytes] = []

    def empty(self) -> tuple[list[Seat], list[bytes]]:
        """Return those who are still there, and let the next ones come."""
        seats, texts = self.seats, self.texts
        self.seats, self.texts = [], []
        if any(seat.gone for seat in seats):
            kept = [pair for pair in zip(seats, texts, strict=True) if not pair[0].gone]
            seats, texts = [seat for seat, _ in kept], [text for _, text in kept]
        return seats, texts
