"""What front ends hand to the data plane and get back: frozen, typed, wire-format free."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Tuple, Union

from serving.tensor import BatchAxes, Signature, Tensor

VersionName = Union[int, str]
"""A version as requests ask for it: by its number, or by a label."""


@dataclass(frozen=True)
class Description:
    """What a caller may know of one version of a servable: enough to decode its requests.

    ``generation`` tells one loading of a version from another; ``labels`` are all that stand for
    versions of the servable now. ``method`` is the name of the pipeline that is described, empty
    for a model itself, and ``methods`` are all that the version offers. ``class_labels`` name the
    classes that elements of an output stand for. A pipeline takes and gives values whose types the
    signature may leave open (``ANY``, shape None); axis 0 of each of its tensors counts instances.
    """

    servable: str
    version: int
    signature: Signature
    batch: BatchAxes
    max_batch_size: int
    platform: str
    ready: bool = True
    versions: Tuple[int, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    generation: int = 0
    method: str = ""
    methods: Tuple[str, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)
    class_labels: Mapping[str, Tuple[str, ...]] = field(default_factory=dict)


class FileSpan(NamedTuple):
    """``size`` bytes from ``at`` on of a client's file, which ``holder`` keeps open as ``fd``."""

    holder: object
    fd: int
    at: int
    size: int


class Elsewhere(NamedTuple):
    """Tensors of a request that lie in files of its client, by name.

    The inputs in ``sources`` are numbers without elements: a worker reads those. ``targets`` are
    the places where it may write outputs (see ``stored`` of the response).
    """

    sources: Mapping[str, FileSpan]
    targets: Mapping[str, FileSpan]


class InferRequest(NamedTuple):
    """One request for one method of one servable (a tuple: a frozen dataclass takes 1 µs more).

    ``inputs`` have the engine's shapes, batch axis included (a request may carry several
    rows). ``outputs`` names the wanted outputs in the wanted order, ``None`` wants all.
    ``deadline`` is monotonic seconds; ``priority`` 0 is the most urgent. ``generation`` is that of
    the description that it was decoded with: it goes there, even if another has taken its place
    in the meantime.
    """

    servable: str
    inputs: Tuple[Tensor, ...]
    version: Optional[VersionName] = None
    method: Optional[str] = None
    outputs: Optional[Tuple[str, ...]] = None
    id: str = ""
    deadline: Optional[float] = None
    priority: int = 0
    sequence: str = ""
    parameters: Mapping[str, Any] = MappingProxyType({})
    generation: int = 0
    elsewhere: Optional[Elsewhere] = None


class InferResponse:
    """The answer: outputs that may be views of shared memory until ``release`` is called.

    Whoever receives it encodes it and calls ``release`` exactly once (later calls do nothing);
    after that the arrays must not be touched. The outputs in ``stored`` are at the places that
    the request named for them.
    """

    __slots__ = ("_release", "id", "outputs", "parameters", "servable", "stored", "version")

    def __init__(
        self,
        servable: str,
        version: int,
        id: str,
        outputs: Tuple[Tensor, ...],
        release: Optional[Callable[[], None]] = None,
    ) -> None:
        self.servable = servable
        self.version = version
        self.id = id
        self.outputs = outputs
        self.parameters: Dict[str, Any] = {}
        self.stored: Tuple[str, ...] = ()
        self._release = release

    def release(self) -> None:
        """Give the rows back; the output arrays are invalid from here on."""
        release, self._release = self._release, None
        if release is not None:
            release()


Listener = Callable[[Union[InferResponse, BaseException]], None]
"""Takes what a request came to: the response, or what went wrong."""

RowsListener = Callable[[int, int, Union[InferResponse, BaseException]], None]
"""Takes what some of the callers who came together came to: from which number on, how many, what.

A response has the rows of each, in their order.
"""
