"""What the master and a front-end process say to each other: small, typed, never a pickle.

A request is known by its *serial*, which the front end counts. Each ``Claim`` has exactly one end:
``Answer``, ``Failed``, or ``Gone`` where it was withdrawn before that. Until then the memory of its
inputs is the master's to read. An answer that is ``held`` lies in the master's memory until the
front end says ``Release``, or ``Abandon``, which may cross it. The elements of small tensors travel
in the message, those of large ones lie in a segment that the master has lent, and only their place
travels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

PROTOCOL = 3
"""Raised whenever a message changes."""


class Place(NamedTuple):
    """Where the elements of a tensor lie: in a segment, or (segment 0) in the message's data."""

    segment: int
    offset: int
    nbytes: int


# -- packed ------------------------------------------------------------------------------------


class Claim(NamedTuple):
    """A request to be run; ``look`` is all but its id and its values, as ``looks`` writes it.

    ``deadline`` is monotonic seconds, which all processes of a machine share. ``afar`` says which
    tensors lie in regions of clients, as ``afar`` writes it; no place is that of such an input.
    """

    serial: int
    generation: int
    deadline: float | None
    priority: int
    look: bytes
    id: str
    places: tuple[Place, ...]
    data: bytes = b""
    afar: bytes = b""


class Answer(NamedTuple):
    """The response to a request."""

    serial: int
    held: bool
    look: bytes
    places: tuple[Place, ...]
    data: bytes = b""


class Abandon(NamedTuple):
    """Nobody waits for the answer any more."""

    serial: int


class Release(NamedTuple):
    """A held answer has been read."""

    serial: int


class Gone(NamedTuple):
    """A request was withdrawn: there will be no answer, and its inputs are not read any more."""

    serial: int


class Gather(NamedTuple):
    """Requests of ``unit`` rows each, on axis 0 of their one input; all else as ``Claim``.

    Each has exactly one end, in a ``RowsAnswer`` or ``RowsFailed``, or none once an ``AbandonRow``
    was for it, which either may cross.
    """

    serial: int
    generation: int
    unit: int
    look: bytes
    place: Place
    data: bytes = b""


class RowsAnswer(NamedTuple):
    """The responses to so many ``callers`` from ``first`` on: of every output the rows of each."""

    serial: int
    first: int
    callers: int
    look: bytes
    places: tuple[Place, ...]
    data: bytes = b""


class AbandonRow(NamedTuple):
    """Nobody waits for the answer to one of those that were gathered any more."""

    serial: int
    caller: int


# -- front end to master, as JSON --------------------------------------------------------------


@dataclass(frozen=True)
class Hello:
    """The process is up."""

    KIND: ClassVar[int] = 16
    protocol: int


@dataclass(frozen=True)
class Opened:
    """It accepts connections. ``error`` says why it cannot; then it ends."""

    KIND: ClassVar[int] = 17
    error: str = ""


@dataclass(frozen=True)
class Want:
    """Lend a segment to receive into."""

    KIND: ClassVar[int] = 18
    nbytes: int


@dataclass(frozen=True)
class Back:
    """A segment that was lent to receive into is not needed any more."""

    KIND: ClassVar[int] = 19
    segment: int


@dataclass(frozen=True)
class Counted:
    """A call was answered with an error."""

    KIND: ClassVar[int] = 20
    front_end: str
    code: str


@dataclass(frozen=True)
class Ask:
    """A question that is not about a request to a model; ``Told`` or ``Refused`` is the answer."""

    KIND: ClassVar[int] = 21
    serial: int
    about: str
    given: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Unused:
    """A region that was unshared is held by nothing here any more: no claim will name it."""

    KIND: ClassVar[int] = 24
    region: int


@dataclass(frozen=True)
class Pong:
    """A sign of life."""

    KIND: ClassVar[int] = 22
    serial: int


@dataclass(frozen=True)
class Drained:
    """All that was accepted is answered, and every connection closed."""

    KIND: ClassVar[int] = 23


# -- master to front end, as JSON --------------------------------------------------------------


@dataclass(frozen=True)
class Begin:
    """The settings of the server, as ``words`` writes them, and its tokens."""

    KIND: ClassVar[int] = 32
    settings: dict[str, Any]
    admin_token: str | None = field(default=None, repr=False)
    client_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Failed:
    """A request came to an error, whose words these are; ``refused``: it was not taken in."""

    KIND: ClassVar[int] = 33
    serial: int
    error: dict[str, Any]
    refused: bool = False


@dataclass(frozen=True)
class RowsFailed:
    """Requests that were gathered came to an error, whose words these are."""

    KIND: ClassVar[int] = 44
    serial: int
    first: int
    callers: int
    error: dict[str, Any]


@dataclass(frozen=True)
class Lend:
    """A segment, whose descriptor travels along: to receive into, or one that answers lie in."""

    KIND: ClassVar[int] = 34
    segment: int
    size: int
    tray: bool


@dataclass(frozen=True)
class Deny:
    """There is no segment for the oldest ``Want``."""

    KIND: ClassVar[int] = 35
    error: dict[str, Any]


@dataclass(frozen=True)
class Forget:
    """A segment that answers lay in is closed: unmap it."""

    KIND: ClassVar[int] = 36
    segment: int


@dataclass(frozen=True)
class Share:
    """A client has registered a region; the descriptor of its object travels along."""

    KIND: ClassVar[int] = 45
    region: int
    name: str
    key: str
    offset: int
    size: int


@dataclass(frozen=True)
class Unshare:
    """A region was unregistered; ``Unused`` is the answer once that is so."""

    KIND: ClassVar[int] = 46
    region: int


@dataclass(frozen=True)
class Table:
    """What is served has changed: the entries of these servables, as ``directory`` writes them.

    ``serial`` counts the tables; None for a servable that is not known any more.
    """

    KIND: ClassVar[int] = 37
    serial: int
    servables: dict[str, dict[str, Any] | None]


@dataclass(frozen=True)
class Ready:
    """Whether the server takes requests."""

    KIND: ClassVar[int] = 38
    ready: bool


@dataclass(frozen=True)
class Told:
    """The answer to ``Ask``."""

    KIND: ClassVar[int] = 39
    serial: int
    answer: Any


@dataclass(frozen=True)
class Refused:
    """The error that ``Ask`` came to."""

    KIND: ClassVar[int] = 40
    serial: int
    error: dict[str, Any]


@dataclass(frozen=True)
class Ping:
    """Ask for a sign of life."""

    KIND: ClassVar[int] = 41
    serial: int


@dataclass(frozen=True)
class Drain:
    """Accept nothing more, and answer what was accepted."""

    KIND: ClassVar[int] = 42
    deadline_s: float


@dataclass(frozen=True)
class Stop:
    """Leave at once."""

    KIND: ClassVar[int] = 43


Message = (
    Claim | Answer | Abandon | Release | Gone | Gather | RowsAnswer | AbandonRow | RowsFailed
    | Hello | Opened | Want | Back | Counted | Ask | Unused | Pong | Drained
    | Begin | Failed | Lend | Deny | Forget | Share | Unshare | Table | Ready | Told
    | Refused | Ping | Drain | Stop
)  # fmt: skip
