"""What a worker asks of an engine; every backend and the stub pass one contract suite.

A backend is imported in workers only. It needs the standard library, numpy and its engine;
Python 3.9 syntax, because a worker may live in another virtual environment than the master.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Mapping, Optional, Protocol, Sequence, Tuple

import numpy as np

from serving.devices import Device as Device
from serving.tensor import Array, Signature, Tensor


class BackendError(Exception):
    """The engine's refusal or failure, in words fit for the caller. The worker is well."""


class MemoryExhausted(BackendError):
    """The engine could not get the memory that it wanted."""


class DeviceLost(BackendError):
    """The device, or this process's hold on it, is beyond use: the worker ends and is replaced.

    The run was not at fault and may be run again elsewhere.
    """


@dataclass(frozen=True)
class ModelSource:
    """What to load: the path of the main file and how many threads a run may use.

    ``options`` are the backend's own settings, by the names that its documentation gives.
    """

    path: str
    threads: int
    options: Mapping[str, str] = field(default_factory=dict)


class Binding(Protocol):
    """Inputs and outputs tied to fixed addresses, ready to run again and again."""

    def run(self) -> Optional[Tuple[Tensor, ...]]:
        """Run once; None when outputs were bound, else the outputs in signature order.

        Raises BackendError. Output arrays are valid until the next run of this binding.
        """
        ...

    def cancel(self) -> None:
        """Ask a run in progress on another thread to end early with BackendError."""
        ...


class Model(Protocol):
    """A loaded model. ``bind`` and ``run`` are called by one thread at a time per binding."""

    @property
    def signature(self) -> Signature:
        """Inputs and outputs as the engine sees them."""
        ...

    @property
    def gears(self) -> Optional[Tuple[int, ...]]:
        """The only numbers of rows that a run may have, ascending; None where any will do."""
        ...

    def bind(self, inputs: Sequence[Tensor], outputs: Optional[Sequence[Tensor]]) -> Binding:
        """Tie the model to these very arrays; they must outlive the binding.

        ``inputs`` are in signature order with the engine's shapes; so are ``outputs``, or None
        to let the engine find their sizes. Raises BackendError.
        """
        ...

    def close(self) -> None:
        """Free what the engine holds for it."""
        ...


class Backend(Protocol):
    """An engine on one device, in this process.

    ``slots`` is how many runs it takes at once, each on a thread of its own: 2 where copies to
    and from the device overlap with computing, else 1.
    """

    name: str
    slots: int

    def versions(self) -> Dict[str, str]:
        """Return the engine's name and version, for logs and cache keys."""
        ...

    def load(self, source: ModelSource) -> Model:
        """Load a model file; raises BackendError with the engine's reason."""
        ...

    def lend(self, address: int, nbytes: int, *, writable: bool) -> None:
        """Learn of shared memory that runs will be bound to: a device may want it registered."""
        ...

    def take_back(self, address: int) -> None:
        """Let go of memory that was lent; it is unmapped next, and no binding uses it any more."""
        ...

    def close(self) -> None:
        """Let go of the device; every model is closed."""
        ...


def string_array(tensor: Tensor) -> Array:
    """Return a BYTES tensor as an object array of ``str``; raises BackendError if not UTF-8."""
    flat = np.empty(len(tensor.items or ()), dtype=object)
    for index, item in enumerate(tensor.items or ()):
        try:
            flat[index] = item.decode()
        except UnicodeDecodeError as error:
            raise BackendError(
                f"input {tensor.name!r} element {index} is not UTF-8 text: {error.reason} "
                f"at byte {error.start} (a model's strings are text: export it with a UINT8 input "
                "for the bytes of a picture, or send the picture decoded)"
            ) from error
    return flat.reshape(tensor.shape)
