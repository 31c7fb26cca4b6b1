"""The master's side of requests that a front end has gathered: callers with some rows each.

The scheduler takes them together where it can. Where it cannot, each is claimed by itself here, so
that each is refused, or answered, in its own words.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from serving.dataplane import Claim as PlaneClaim
from serving.dataplane import RowsClaim
from serving.errors import InvalidRequest, ServingError
from serving.gateway import values
from serving.gateway.looks import Writer
from serving.gateway.messages import Message, RowsAnswer, RowsFailed
from serving.gateway.words import error_to_json
from serving.master.plane import MasterPlane
from serving.request import InferRequest, InferResponse
from serving.tensor import Tensor


class _Rows:
    """One gathering: ``open`` are the callers who wait."""

    __slots__ = ("claim", "open", "singles")

    def __init__(self, callers: int) -> None:
        self.open = set(range(callers))
        self.claim: RowsClaim | None = None
        self.singles: dict[int, PlaneClaim] = {}


class RowsDesk:
    """Owns what one front-end process has gathered. Event loop only.

    ``known`` turns whatever went wrong into the error that is told.
    """

    def __init__(
        self,
        plane: MasterPlane,
        send: Callable[[Message], None],
        writer: Writer,
        known: Callable[[BaseException], ServingError],
    ) -> None:
        self._plane = plane
        self._send = send
        self._writer = writer
        self._known = known
        self._gathered: dict[int, _Rows] = {}

    def take(self, serial: int, request: InferRequest, unit: int) -> None:
        """Take in and commit a gathering of callers with so many rows each."""
        rows = self._gathered[serial] = _Rows(request.inputs[0].shape[0] // unit)
        heard = functools.partial(self._heard, serial)
        try:
            rows.claim = self._plane.take_rows(request, unit, heard)
        except InvalidRequest:
            rows.claim = None
        except Exception as error:
            heard(0, len(rows.open), error)
            return
        if rows.claim is None:
            for caller in sorted(rows.open):
                self._take_one(serial, rows, caller, _of_caller(request, caller, unit))

    def abandon(self, serial: int, caller: int) -> None:
        """One of them does not wait any more."""
        rows = self._gathered.get(serial)
        if rows is None or caller not in rows.open:
            return  # its answer is on its way
        self._withdraw(rows, caller)
        self._close(serial, rows, caller, 1)

    def abandon_all(self) -> None:
        """Nobody waits for anything any more."""
        gathered, self._gathered = self._gathered, {}
        for rows in gathered.values():
            for caller in list(rows.open):
                self._withdraw(rows, caller)

    @property
    def unanswered(self) -> int:
        """Callers who wait."""
        return sum(len(rows.open) for rows in self._gathered.values())

    def _take_one(self, serial: int, rows: _Rows, caller: int, request: InferRequest) -> None:
        try:
            claim = self._plane.claim(request)
            rows.singles[caller] = claim
            claim.tell(functools.partial(self._heard, serial, caller, 1))
            self._plane.commit(claim)
        except Exception as error:
            taken = rows.singles.pop(caller, None)
            if taken is not None:
                self._plane.abandon(taken)
            self._heard(serial, caller, 1, error)

    def _heard(
        self, serial: int, first: int, count: int, outcome: InferResponse | BaseException
    ) -> None:
        rows = self._gathered.get(serial)
        if isinstance(outcome, InferResponse):
            if rows is not None:
                places, data = values.inline(outcome.outputs)
                look = self._writer.response(outcome)
                self._send(RowsAnswer(serial, first, count, look, places, data))
            outcome.release()
        elif rows is not None:
            error = error_to_json(self._known(outcome))
            self._send(RowsFailed(serial, first, count, error))
        if rows is not None:
            self._close(serial, rows, first, count)

    def _withdraw(self, rows: _Rows, caller: int) -> None:
        if rows.claim is not None:
            self._plane.abandon_row(rows.claim, caller)
        elif caller in rows.singles:
            self._plane.abandon(rows.singles.pop(caller))

    def _close(self, serial: int, rows: _Rows, first: int, count: int) -> None:
        rows.open.difference_update(range(first, first + count))
        if not rows.open:
            self._gathered.pop(serial, None)


def _of_caller(request: InferRequest, caller: int, unit: int) -> InferRequest:
    (whole,) = request.inputs
    array: Any = whole.array
    first = caller * unit
    shape = (unit, *whole.shape[1:])
    mine = Tensor(whole.name, whole.dtype, shape, array[first : first + unit])
    return request._replace(inputs=(mine,))
