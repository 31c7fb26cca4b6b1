"""The control link: loading, health and farewell. Python 3.9 syntax."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Dict, Optional, Sequence, Tuple

# -- master to worker --------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """Load a model and warm it. ``prove`` asks for the batch runs that confirm ``batch``.

    ``warmup`` are the samples that must run, as ``WarmUp`` writes them; ``sample`` is the path of
    a request that is known to be proper, empty if there is none. ``options`` are the backend's own.
    """

    KIND: ClassVar[int] = 1
    model: int
    name: str
    path: str
    backend: str
    batch: Dict[str, Any]
    static_outputs: bool
    max_batch_size: int
    threads: int
    prove: bool
    warmup: Sequence[Dict[str, Any]] = ()
    sample: str = ""
    options: Dict[str, str] = field(default_factory=dict)


def leniently(order: Load) -> Load:
    """Return the order for a model whose samples have run already.

    A worker that is started later must not fail for a sample whose file is gone or another by now.
    """
    return replace(order, warmup=[{**sample, "required": False} for sample in order.warmup])


@dataclass(frozen=True)
class Unload:
    """Forget a model; nothing runs it any more."""

    KIND: ClassVar[int] = 2
    model: int


@dataclass(frozen=True)
class Cancel:
    """Terminate a run, if it still runs: nobody waits for it any more."""

    KIND: ClassVar[int] = 3
    run: int


@dataclass(frozen=True)
class Ping:
    """Ask for a sign of life."""

    KIND: ClassVar[int] = 4
    serial: int


@dataclass(frozen=True)
class Stop:
    """Leave; nothing is in flight."""

    KIND: ClassVar[int] = 5


# -- worker to master --------------------------------------------------------------------------


@dataclass(frozen=True)
class Hello:
    """A worker is up: which protocol it speaks and what it is made of."""

    KIND: ClassVar[int] = 16
    protocol: int
    pid: int
    versions: Dict[str, str]


@dataclass(frozen=True)
class Progress:
    """A load has come to its next phase (``warming``)."""

    KIND: ClassVar[int] = 21
    model: int
    phase: str


@dataclass(frozen=True)
class Loaded:
    """A model is loaded and warm. ``batch`` is the claim as the runs left it.

    ``gears`` are the only numbers of rows that a run of it may have, None where any will do.
    """

    KIND: ClassVar[int] = 17
    model: int
    signature: Dict[str, Any]
    batch: Dict[str, Any]
    load_ms: float
    warm_ms: float
    note: str = ""
    gears: Optional[Tuple[int, ...]] = None


@dataclass(frozen=True)
class LoadFailed:
    """A model could not be loaded, and why."""

    KIND: ClassVar[int] = 18
    model: int
    code: str
    message: str


@dataclass(frozen=True)
class Unloaded:
    """A model is gone from the worker."""

    KIND: ClassVar[int] = 19
    model: int


@dataclass(frozen=True)
class Pong:
    """A sign of life."""

    KIND: ClassVar[int] = 20
    serial: int


@dataclass(frozen=True)
class Registered:
    """A stage worker has imported its servable, which registers what has this digest."""

    KIND: ClassVar[int] = 22
    digest: str


@dataclass(frozen=True)
class DeviceGone:
    """The worker's device is beyond use: it ends, and what it ran may be run elsewhere."""

    KIND: ClassVar[int] = 23
    reason: str
