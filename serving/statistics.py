"""What the server has counted and how it stands: one frozen snapshot, wire-format free.

Made by the data plane when somebody asks (a scrape, a statistics call, the page), read by front
ends. Counters begin when a version is loaded and only ever grow.
"""

from __future__ import annotations

from dataclasses import dataclass

LATENCY_BOUNDS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0,
)  # fmt: skip
"""Upper bounds of the buckets that request times are counted in; one more is for the rest."""


@dataclass(frozen=True)
class Runs:
    """The runs of one size that went well; times are sums over them."""

    rows: int
    count: int
    input_ns: int
    infer_ns: int
    output_ns: int


@dataclass(frozen=True)
class Unanswered:
    """How many requests met one error: its class's word (``errors.kind``) and its own code."""

    kind: str
    code: str
    count: int


@dataclass(frozen=True)
class ErrorAnswers:
    """How many calls a front end answered with one error, whatever the call was about."""

    front_end: str
    code: str
    count: int


@dataclass(frozen=True)
class VersionStatistics:
    """One version that takes requests, or a method or model of one: ``servable:method``.

    ``success_ns`` is from a request's claim to its answer, ``queue_ns`` from its claim until its
    first rows were sent to a worker. ``input_ns``, ``infer_ns`` and ``output_ns`` give each
    answered request the time of the run that it was in, however many shared that run; ``runs``
    count each run once. ``latencies`` counts answered requests by ``LATENCY_BOUNDS_S``, ``rows``
    theirs. ``failures`` were taken in and ended in an error, ``refusals`` were not taken in.
    ``last_run_ms`` is Unix time, 0 before the first run. Of the requests that are ``unfinished``
    now, ``waiting`` have not been sent, with ``waiting_rows`` and ``waiting_bytes``.
    """

    servable: str
    version: int
    rows: int
    success_ns: int
    queue_ns: int
    input_ns: int
    infer_ns: int
    output_ns: int
    latencies: tuple[int, ...]
    runs: tuple[Runs, ...]
    failed_runs: int
    last_run_ms: int
    failures: tuple[Unanswered, ...]
    fail_ns: int
    refusals: tuple[Unanswered, ...]
    unfinished: int
    waiting: int
    waiting_rows: int
    waiting_bytes: int

    @property
    def successes(self) -> int:
        """Requests that were answered."""
        return sum(self.latencies)

    @property
    def executions(self) -> int:
        """Runs that went well, of whatever size."""
        return sum(runs.count for runs in self.runs)

    @property
    def mean_rows(self) -> float:
        """Rows of requests in a run, on average; 0 before the first."""
        return self.rows / self.executions if self.runs else 0.0

    @property
    def mean_infer_ms(self) -> float:
        """What the model takes for a run, on average; 0 before the first."""
        total_ns = sum(runs.infer_ns for runs in self.runs)
        return total_ns / self.executions / 1e6 if self.runs else 0.0

    @property
    def mean_success_ms(self) -> float:
        """What an answered request took, on average; 0 before the first."""
        return self.success_ns / self.successes / 1e6 if self.successes else 0.0

    @property
    def failed(self) -> int:
        """Requests that were taken in and ended in an error."""
        return sum(failure.count for failure in self.failures)


@dataclass(frozen=True)
class StageStatistics:
    """A Python function within one method; ``running`` counts the workers that are at it.

    ``instances`` were run, in ``runs`` that went well as a whole; on ``failures`` of them the
    function itself failed. ``failed_runs`` were lost with their worker, or could not be carried
    out. ``busy_ns`` is the time of all runs in the workers, calls of models included.
    """

    method: str
    function: str
    waiting: int
    running: int
    runs: int
    instances: int
    failures: int
    failed_runs: int
    busy_ns: int


@dataclass(frozen=True)
class VersionStages:
    """The functions of one version that takes requests, in each method that calls them."""

    servable: str
    version: int
    stages: tuple[StageStatistics, ...]


@dataclass(frozen=True)
class ProcessUsage:
    """What the system says of a process; ``started_s`` is Unix time."""

    cpu_s: float
    rss_bytes: int
    started_s: float


@dataclass(frozen=True)
class WorkerStatistics:
    """One place for a worker; ``usage`` is that of the process in it, if one is up.

    ``device`` is what it computes on, empty for one that runs Python functions; ``backend`` what it
    opens there. ``down`` says why it cannot be used. ``runs`` and ``rows`` were sent to it in all.
    """

    name: str
    restarts: int
    usage: ProcessUsage | None
    device: str = ""
    backend: str = ""
    down: str = ""
    runs: int = 0
    rows: int = 0


@dataclass(frozen=True)
class TensorMemory:
    """Shared memory for tensors: lent to requests and runs, held in all, and the most allowed."""

    lent_bytes: int
    held_bytes: int
    budget_bytes: int


@dataclass(frozen=True)
class ServerStatistics:
    """The whole server at one moment; ``versions`` in order of name and number."""

    versions: tuple[VersionStatistics, ...]
    errors: tuple[ErrorAnswers, ...]
    workers: tuple[WorkerStatistics, ...]
    memory: TensorMemory
    process: ProcessUsage
    stages: tuple[VersionStages, ...] = ()
