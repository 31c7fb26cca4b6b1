"""Callers, master, slots and the batching policy in simulated time, with recorded run times."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from serving.scheduling.batcher import Limits, Waiting, decide
from serving.scheduling.company import LONGEST_S, Company
from serving.scheduling.cost import RUN_OVERHEAD_S, Cost
from serving.scheduling.occupancy import Occupancy
from serving.scheduling.relays import Relays
from tests.unit.scheduling.cores import Cores

MOST = 32
SWITCH_S = 2e-3
"""A timer or another process takes a core for about so long."""


@dataclass
class Story:
    """What happened: answers, waits of each, and the sizes of runs."""

    seconds: float
    latencies: list[float] = field(default_factory=list)
    sizes: Counter[int] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        return sorted(self.latencies)[int(len(self.latencies) * share)]


@dataclass(frozen=True)
class Machine:
    """What is not the engine: seconds of the master for a request, an answer and a run.

    ``worker_s`` is what a run takes in the worker beside the engine, ``client_s`` what the one
    process of all callers takes from an answer to the next request. All processes share ``cores``;
    None: each has its own. For each second that a worker computes, others take the core from it
    ``disturbed`` times.
    """

    request_s: float = 0.0
    answer_s: float = 0.0
    run_s: float = 0.0
    worker_s: float = RUN_OVERHEAD_S
    client_s: float = 0.0
    cores: int | None = None
    disturbed: float = 0.0


IDEAL = Machine()


class Simulation:
    """One servable on ``slots`` workers; ``per_row`` maps rows of a run to seconds a row.

    ``relays`` other than None are used all the time, instead of what is learned.
    """

    def __init__(
        self,
        per_row: dict[int, float],
        slots: int,
        seed: int = 1,
        machine: Machine = IDEAL,
        relays: int | None = None,
        most: int = MOST,
    ) -> None:
        self.per_row = per_row
        self.slots = slots
        self.machine = machine
        self.most = most
        self.random = random.Random(seed)
        self.cores = Cores(machine.cores)
        self.client, self.master = self.cores.process(2), self.cores.process(1)
        self.workers = [self.cores.process(0) for _ in range(slots)]
        self.busy: Counter[int] = Counter()
        self.free = set(range(slots))
        self.occupancy = [Occupancy() for _ in range(slots)]
        self.waiting: list[tuple[float, int]] = []  # when it came, whose it is
        self.cost, self.company, self.relays = Cost(), Company(), Relays()
        self._relays = relays
        self._think: Callable[[], float] | None = None
        self._alarm = 0
        self._pumped = False
        self.story = Story(0.0)

    def closed(self, callers: int, seconds: float, think_s: float = 200e-6) -> Story:
        """Every caller asks again ``think_s`` after its answer, give or take a half."""
        self._think = lambda: think_s * self.random.uniform(0.5, 1.5)
        for caller in range(callers):
            self._at(self.random.uniform(0, think_s), self._asks(caller))
        return self._run(seconds)

    def open(self, rate: float, seconds: float) -> Story:
        """Requests come at random, ``rate`` a second."""
        at = 0.0
        while at < seconds:
            at += self.random.expovariate(rate)
            self._at(at, self._asks(-1))
        return self._run(seconds)

    def _run(self, seconds: float) -> Story:
        self.story.seconds = seconds
        self.cores.run(seconds)
        return self.story

    # -- callers ------------------------------------------------------------------------------

    def _asks(self, caller: int) -> Callable[[], None]:
        def asks() -> None:
            born = self.cores.now
            self.master.later(self.machine.request_s, lambda: self._arrives(born, caller))

        return asks

    def _arrives(self, born: float, caller: int) -> None:
        self.waiting.append((born, caller))
        self.company.arrived(self.cores.now, self._inside())
        self._soon()

    def _answered(self, born: float, caller: int) -> Callable[[], None]:
        def answered() -> None:
            self.story.latencies.append(self.cores.now - born)
            if self._think is not None:
                think_s = self._think()
                ask = self._asks(caller)
                self.client.later(
                    self.machine.client_s, lambda: self._at(self.cores.now + think_s, ask)
                )

        return answered

    # -- master -------------------------------------------------------------------------------

    def _soon(self) -> None:
        if not self._pumped:
            self._pumped = True
            self.master.later(0.0, self._pump_now)

    def _pump_now(self) -> None:
        self._pumped = False
        self.master.next(self._pump())

    def _done(self, slot: int, rows: list[tuple[float, int]], took_s: float) -> None:
        now = self.cores.now
        self.free.add(slot)
        self.occupancy[slot].ended(now)
        del self.busy[slot]
        self.company.answered(now)
        self.relays.landed(len(rows), self._inside(), now)
        self.cost.ran(len(rows), took_s)
        sent = self._pump()
        answers = [(self.machine.answer_s, self._answered(*row)) for row in rows]
        self.master.next([*sent, *answers, (0.0, lambda: self.company.answered(self.cores.now))])

    def _pump(self) -> list[tuple[float, Callable[[], None]]]:
        self._alarm += 1
        sent = []
        while self.free and self.waiting:
            slot = self.free.pop()
            now, gain = self.cores.now, min(self.cost.fixed_s, LONGEST_S)
            busy = self.occupancy[slot].share(now)
            if self._relays is not None:
                self.relays.count = self._relays
            expected = self.company.expected(self._inside())
            decision = decide(
                Waiting(
                    [1] * min(len(self.waiting), self.most), len(self.waiting),
                    now - self.waiting[0][0], False, sum(self.busy.values()),
                    self.cost.best_rows(self.most, len(self.waiting) + expected), expected,
                    now - self.company.quiet_since, self.company.patience_s(gain),
                    fixed_s=self.cost.fixed_s, row_s=self.cost.row_s,
                    busy=busy,
                    relay_rows=self.relays.rows(
                        self.company.peak, self.slots, busy, self.cost.fixed_s
                    ),
                ),
                self.slots, Limits(self.most),
            )  # fmt: skip
            if decision.wait_s is not None:
                self._look_again(decision.wait_s)
                self.free.add(slot)
                break
            sent.append((self.machine.run_s, self._send(slot, decision.requests)))
            if decision.in_vain:
                self.company.in_vain(self._inside())
            elif not self.waiting:
                self.company.left(now, self._inside(), gain)
        return sent

    def _look_again(self, wait_s: float) -> None:
        alarm = self._alarm

        def ring() -> None:
            if alarm == self._alarm:
                self._soon()

        # A hair later, or rounding would have it ring just before its time for ever.
        self._at(self.cores.now + wait_s + 1e-9, ring)

    def _send(self, slot: int, requests: int) -> Callable[[], None]:
        rows, self.waiting = self.waiting[:requests], self.waiting[requests:]
        self.busy[slot] = len(rows)
        self.occupancy[slot].began(self.cores.now)
        self.story.sizes[len(rows)] += 1

        def arrives() -> None:
            began = self.cores.now
            engine_s = self._seconds(len(rows))
            worker = self.workers[slot]
            worker.later(engine_s + self.machine.worker_s, lambda: ended(began))

        def ended(began: float) -> None:
            took_s = self.cores.now - began - self.machine.worker_s
            self.master.later(0.0, lambda: self._done(slot, rows, took_s))

        return arrives

    def _inside(self) -> int:
        return len(self.waiting) + sum(self.busy.values())

    # -- the engine ---------------------------------------------------------------------------

    def _seconds(self, rows: int) -> float:
        below = max(size for size in self.per_row if size <= rows)
        above = min((size for size in self.per_row if size >= rows), default=below)
        share = 0.0 if above == below else (rows - below) / (above - below)
        row_s = self.per_row[below] + (self.per_row[above] - self.per_row[below]) * share
        took_s = rows * row_s * self.random.uniform(0.98, 1.02)
        return took_s + self._lost_s(took_s)

    def _lost_s(self, seconds: float) -> float:
        lost_s, at = 0.0, 0.0
        while self.machine.disturbed:
            at += self.random.expovariate(self.machine.disturbed)
            if at > seconds:
                break
            lost_s += self.random.expovariate(1 / SWITCH_S)
        return lost_s

    def _at(self, when: float, act: Callable[[], None]) -> None:
        self.cores.at(when, act)
