"""A stream with memory and execution contexts of its own: runs go through it one at a time.

::

    rows ──copy──▶ input buffers ──enqueue or graph──▶ output buffers ──copy──▶ rows
    └──────────────────────────── one stream ────────────────────────────────┘ wait

Rows that the GPU does not reach are copied through pinned memory of the lane. Two lanes let the
copies of one run overlap with the kernels of another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from serving.backends.base import BackendError, DeviceLost
from serving.backends.tensorrt import profiles
from serving.backends.tensorrt.buffer import Buffer, packed
from serving.backends.tensorrt.context import Context, Shapes
from serving.backends.tensorrt.cuda import Cuda, again, attempt, worst
from serving.backends.tensorrt.graphs import Graphs
from serving.backends.tensorrt.library import Library
from serving.backends.tensorrt.ports import Port, Ports, Shape
from serving.tensor import Array, element_count, shape_text


@dataclass(frozen=True)
class Place:
    """Rows of one tensor in memory of the host; ``reached`` if the GPU copies them by itself."""

    array: Array
    address: int
    reached: bool


@dataclass(frozen=True)
class Job:
    """What one run takes and, if they are bound, gives; in the order of the ports."""

    shapes: Shapes
    inputs: Tuple[Place, ...]
    outputs: Optional[Tuple[Place, ...]]


class Lane:
    """Owns a stream, contexts, buffers and graphs. Whoever holds it is its only user."""

    def __init__(
        self, cuda: Cuda, library: Library, engine: Any, ports: Ports, *, graphs: bool
    ) -> None:
        self._cuda = cuda
        self._library = library
        self._engine = engine
        self._ports = ports
        self._stream = 0
        self._common: Optional[Context] = None
        self._tied = False
        self._buffers = {
            port.name: Buffer(cuda, pinned=port.on_host) for port in ports.inputs + ports.outputs
        }
        self._scratch = Buffer(cuda, pinned=False)
        self._staged_in = Buffer(cuda, pinned=True)
        self._staged_out = Buffer(cuda, pinned=True)
        self._graphs = Graphs(cuda, 0, self._make, refused="not open yet")
        try:
            self._open(graphs=graphs)
        except BaseException:
            self.close()
            raise

    def run(self, job: Job) -> Optional[List[Array]]:
        """Run once; None when outputs are bound, else new arrays. Raises BackendError.

        When it returns or raises, nothing is under way: no copy touches the rows any more.
        """
        self._cuda.use()
        try:
            return self._run(job)
        except BaseException as error:
            self._forget()
            # What was begun may still copy from or to rows.
            after = attempt(self._cuda.call, "cudaStreamSynchronize", self._stream)
            if isinstance(after, DeviceLost) and not isinstance(error, DeviceLost):
                raise again(after) from None
            raise

    def close(self) -> Optional[BackendError]:
        """Let everything go, in the order of its use; returns what went wrong."""
        errors = [self._graphs.clear()]
        if self._common is not None:
            self._common.close()
        self._common = self._engine = None
        buffers = [*self._buffers.values(), self._scratch, self._staged_in, self._staged_out]
        errors += [buffer.free() for buffer in buffers]
        stream, self._stream = self._stream, 0
        if stream:
            errors.append(attempt(self._cuda.call, "cudaStreamDestroy", stream))
        return worst(errors)

    # -- opening ------------------------------------------------------------------------------

    def _open(self, *, graphs: bool) -> None:
        self._stream = self._cuda.stream()
        refused = "switched off" if not graphs else _unrecordable(self._library, self._ports)
        if not refused:
            self._scratch.fit(int(self._engine.device_memory_size_v2))
        self._common = self._make()
        self._reserve(self._common)
        if self._common.later:
            refused = "sizes of outputs depend on values"
        self._graphs = Graphs(self._cuda, self._stream, self._make, refused=refused)

    def _make(self) -> Context:
        scratch = self._scratch if self._scratch.size else None
        return Context(self._cuda, self._library, self._engine, self._ports, self._stream, scratch)

    def _reserve(self, context: Context) -> None:
        """Take the memory of the largest run now: a model that lacks it fails when it is loaded."""
        for port in self._ports.inputs:
            self._buffers[port.name].fit(_nbytes(port, profiles.largest(port)))
        # Where shapes depend on values, only a run has them.
        for profile in range(0 if self._ports.any_on_host else self._ports.profiles):
            largest = tuple(port.ranges[profile][2] for port in self._ports.inputs)
            context.shape((profile, largest), self._buffers)
            self._fit(context)
        context.shapes = None
        self._cuda.call("cudaStreamSynchronize", self._stream)

    # -- a run --------------------------------------------------------------------------------

    def _run(self, job: Job) -> Optional[List[Array]]:
        self._copy_to_host_ports(job)
        graph = self._graphs.find(job.shapes, self._buffers)
        context = self._shaped(job.shapes) if graph is None else graph.context
        self._check_bound([context.sizes[port.name] for port in self._ports.outputs], job)
        self._copy_in(job)
        if graph is None:
            context.enqueue()
        else:
            self._graphs.run(graph)
        shapes = self._final_shapes(context, job)
        if job.outputs is not None:
            self._copy_out(job.outputs)
            return None
        new = [
            np.empty(shape, port.dtype.numpy) for port, shape in zip(self._ports.outputs, shapes)
        ]
        self._copy_out([Place(array, 0, False) for array in new])
        return new

    def _shaped(self, shapes: Shapes) -> Context:
        """Return the common context, ready for these shapes."""
        context = self._common
        assert context is not None
        if context.shapes != shapes or self._ports.any_on_host:
            context.shape(shapes, self._buffers)
            if self._fit(context):
                self._tied = False
                error = self._graphs.clear()
                if error is not None:
                    raise again(error)
        if not self._tied or self._ports.any_on_host:
            context.tie(self._buffers)
            self._tied = True
        return context

    def _fit(self, context: Context) -> bool:
        """Make room for the outputs; True if any of them moved."""
        moved = False
        for port in self._ports.outputs:
            size = context.sizes[port.name]
            if size is not None:
                moved |= self._buffers[port.name].fit(_nbytes(port, size))
        return moved

    def _forget(self) -> None:
        """Trust nothing of what the common context was set to."""
        self._tied = False
        if self._common is not None:
            self._common.shapes = None

    def _final_shapes(self, context: Context, job: Job) -> List[Shape]:
        """Return all outputs' shapes; raises BackendError where bound rows have others."""
        shapes: List[Shape] = []
        for port in self._ports.outputs:
            known = context.sizes[port.name]
            size = context.later[port.name].shape if known is None else known
            if size is None:
                raise BackendError(f"TensorRT told no shape for output {port.name!r}")
            shapes.append(size)
        self._check_bound(shapes, job)
        return shapes

    def _check_bound(self, shapes: Sequence[Optional[Shape]], job: Job) -> None:
        """Refuse rows of another size than an output has, before anything is written to them."""
        for port, shape, place in zip(self._ports.outputs, shapes, job.outputs or ()):
            if shape is not None and place.array.shape != shape:
                bound = shape_text(place.array.shape)
                raise BackendError(
                    f"output {port.name!r} has the shape {shape_text(shape)}, bound was {bound}"
                )

    # -- copies -------------------------------------------------------------------------------

    def _copy_to_host_ports(self, job: Job) -> None:
        for port, place in zip(self._ports.inputs, job.inputs):
            if port.on_host:
                self._buffers[port.name].fit(place.array.nbytes)
                _fill(self._buffers[port.name], 0, place.array)

    def _copy_in(self, job: Job) -> None:
        offsets = _stage(self._staged_in, job.inputs)
        for port, place, offset in zip(self._ports.inputs, job.inputs, offsets):
            nbytes = place.array.nbytes
            if port.on_host or not nbytes:
                continue
            source = place.address
            if not place.reached:
                _fill(self._staged_in, offset, place.array)
                source = self._staged_in.address + offset
            self._cuda.to_device(self._buffers[port.name].address, source, nbytes, self._stream)

    def _copy_out(self, places: Sequence[Place]) -> None:
        """Copy outputs to where they belong, and wait until they are there."""
        offsets = _stage(self._staged_out, places)
        for port, place, offset in zip(self._ports.outputs, places, offsets):
            if port.on_host or not place.array.nbytes:
                continue
            target = place.address if place.reached else self._staged_out.address + offset
            source = self._buffers[port.name].address
            self._cuda.to_host(target, source, place.array.nbytes, self._stream)
        self._cuda.call("cudaStreamSynchronize", self._stream)
        for port, place, offset in zip(self._ports.outputs, places, offsets):
            if port.on_host:
                _pour(self._buffers[port.name], 0, place.array)
            elif not place.reached:
                _pour(self._staged_out, offset, place.array)


def _unrecordable(library: Library, ports: Ports) -> str:
    """Return why runs of an engine cannot be recorded, or nothing."""
    if ports.any_on_host:
        return "shapes depend on values of the inputs"
    trt = library.trt
    shares = hasattr(trt.IExecutionContext, "set_device_memory")
    if not shares or not hasattr(trt.ICudaEngine, "device_memory_size_v2"):
        return "this TensorRT cannot share memory between contexts"
    return ""


def _stage(buffer: Buffer, places: Sequence[Place]) -> List[int]:
    """Make room for what goes through pinned memory; return each one's offset there."""
    offsets, total = packed([0 if place.reached else place.array.nbytes for place in places])
    if total:
        buffer.fit(total)
    return offsets


def _nbytes(port: Port, shape: Shape) -> int:
    return element_count(shape) * port.dtype.itemsize


def _fill(buffer: Buffer, offset: int, array: Array) -> None:
    if array.nbytes:
        buffer.bytes(offset, array.nbytes)[:] = array.reshape(-1).view(np.uint8)


def _pour(buffer: Buffer, offset: int, array: Array) -> None:
    if array.nbytes:
        array.reshape(-1).view(np.uint8)[:] = buffer.bytes(offset, array.nbytes)
