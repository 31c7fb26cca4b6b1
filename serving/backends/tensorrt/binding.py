"""Rows tied to an engine: what is copied where is decided once, at bind."""

from __future__ import annotations

from typing import Callable, List, Optional, Sequence, Tuple

from serving.backends.base import BackendError
from serving.backends.tensorrt import profiles
from serving.backends.tensorrt.lane import Job, Place
from serving.backends.tensorrt.lent import LentMemory
from serving.backends.tensorrt.ports import Port, Ports
from serving.tensor import Array, Tensor, shape_text

Runner = Callable[[Job], Optional[List[Array]]]


class TensorRtBinding:
    """One job, run again and again. A kernel that has begun is not stopped: no GPU can.

    ``cancel`` ends a run before it is enqueued; one that is under way ends with its kernels, as
    a failure.
    """

    def __init__(self, job: Job, ports: Ports, run: Runner) -> None:
        self._job = job
        self._ports = ports
        self._run = run
        self._cancelled = False

    def run(self) -> Optional[Tuple[Tensor, ...]]:
        """Run once; None when outputs were bound. Raises BackendError."""
        self._check_wanted()
        arrays = self._run(self._job)
        self._check_wanted()
        if arrays is None:
            return None
        return tuple(
            Tensor(port.name, port.dtype, array.shape, array)
            for port, array in zip(self._ports.outputs, arrays)
        )

    def cancel(self) -> None:
        """Have the run fail, at once if it has not reached the GPU yet."""
        self._cancelled = True

    def _check_wanted(self) -> None:
        if self._cancelled:
            raise BackendError("the run was cancelled")


def job_of(
    ports: Ports, lent: LentMemory, inputs: Sequence[Tensor], outputs: Optional[Sequence[Tensor]]
) -> Job:
    """Check arrays against the ports and choose the profile; raises BackendError."""
    places = _places("input", ports.inputs, inputs, lent)
    shapes = tuple(tuple(place.array.shape) for place in places)
    bound = None if outputs is None else _places("output", ports.outputs, outputs, lent)
    return Job((profiles.choose(ports, shapes), shapes), places, bound)


def _places(
    what: str, ports: Sequence[Port], tensors: Sequence[Tensor], lent: LentMemory
) -> Tuple[Place, ...]:
    if len(tensors) != len(ports):
        raise BackendError(f"the engine has {len(ports)} {what}s, {len(tensors)} were bound")
    places = []
    for port, tensor in zip(ports, tensors):
        array = tensor.array
        if array is None:
            raise BackendError(
                f"{what} {tensor.name!r} holds strings, which TensorRT cannot carry; serve the "
                "model on a CPU, or turn the strings into numbers before it"
            )
        if tensor.name != port.name or tensor.dtype is not port.dtype:
            raise BackendError(
                f"bound {tensor.name!r} {tensor.dtype}{shape_text(tensor.shape)} where the "
                f"engine's {what} {port.name!r} {port.dtype}{shape_text(port.shape)} belongs"
            )
        address = int(array.__array_interface__["data"][0])
        reached = bool(array.nbytes) and lent.reaches(address, array.nbytes)
        places.append(Place(array, address, reached and not port.on_host))
    return tuple(places)
