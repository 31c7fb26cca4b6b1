"""What a second worker brings: the same load on one worker and on two, and the ratio."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from benchmarks import processes
from benchmarks.measure import Plan, Row, Say, point
from benchmarks.wires import wires
from benchmarks.workloads import Case

MODEL = "transformer"
"""A model of a few milliseconds: enough work to share, and enough requests to be exact."""
WIRE = "v2-binary"
CLIENTS = 8


@dataclass(frozen=True)
class Scaling:
    """Requests a second of ``clients`` keep-alive connections, by number of workers."""

    name: str
    wire: str
    clients: int
    one: Row
    two: Row

    @property
    def ratio(self) -> float:
        """Two workers over one; 2 would be perfect."""
        return self.two.rate / self.one.rate


def measure_scaling(case: Case, plan: Plan, say: Say) -> Scaling:
    """Start the server with one worker, then with two, and drive each alike."""
    assert plan.command is not None
    rows = []
    for workers in (1, 2):
        say(f"{case.workload.name}: server, {workers} worker(s), {CLIENTS} clients")
        workload = dataclasses.replace(case.workload, workers=workers)
        sized = dataclasses.replace(case, workload=workload)
        (wire,) = [wire for wire in wires(sized) if wire.name == WIRE]
        with processes.server(sized, plan.command) as running:
            row = point(sized, wire, running, plan, CLIENTS, 1, echo=False)
        say(f"  {row.rate:,.1f}/s  p50 {row.p50_ms:.3f} ms  errors {row.errors}")
        rows.append(row)
    return Scaling(case.workload.name, WIRE, CLIENTS, *rows)
