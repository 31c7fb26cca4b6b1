"""Failures on order: which call is to fail, and how."""

from __future__ import annotations

import os
import threading
from collections import Counter
from dataclasses import dataclass

KERNEL = "kernel"


@dataclass(frozen=True)
class Order:
    """The ``number``-th call of ``call`` (``*``: of any) fails; ``device`` -1 means any."""

    call: str
    device: int
    number: int
    error: str

    @staticmethod
    def parse(text: str) -> Order:
        """Read ``call[@device]:n:cudaErrorName``."""
        where, number, error = text.split(":")
        call, _, device = where.partition("@")
        return Order(call, int(device) if device else -1, int(number), error)


class Failures:
    """Counts calls and says which one fails."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        text = os.environ.get("TRT_DOUBLE_FAIL", "")
        self._once = os.environ.get("TRT_DOUBLE_FAIL_ONCE", "")
        self._order = Order.parse(text) if text else None
        self.counts: Counter[str] = Counter()
        self.total = 0
        self.struck: list[str] = []

    def order(self, order: Order | None) -> None:
        """Take an order, and count from nothing."""
        with self._lock:
            self._order, self.total = order, 0
            self.counts.clear()
            self.struck.clear()

    def strike(self, call: str, device: int) -> str:
        """Count a call; return the name of the error that it is to fail with, or nothing."""
        with self._lock:
            self.counts[call] += 1
            self.total += call != KERNEL  # launches are counted on threads of their own
            order = self._order
            if order is None or order.device not in (-1, device):
                return ""
            count = self.total if order.call == "*" else self.counts[call]
            if order.call not in ("*", call) or count != order.number or self._spent():
                return ""
            self.struck.append(call)
            return order.error

    def _spent(self) -> bool:
        if not self._once:
            return False
        try:
            os.close(os.open(self._once, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return True
        return False
