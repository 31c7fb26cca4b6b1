"""One of TensorRT's execution contexts: shaped, tied to addresses, enqueued."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple

from serving.backends.base import BackendError, DeviceLost
from serving.backends.tensorrt import faults
from serving.backends.tensorrt.buffer import Buffer
from serving.backends.tensorrt.cuda import Cuda, again
from serving.backends.tensorrt.library import Library
from serving.backends.tensorrt.ports import Port, Ports, Shape
from serving.backends.tensorrt.sized_later import sized_later
from serving.tensor import shape_text

Shapes = Tuple[int, Tuple[Shape, ...]]
"""A profile and the inputs' shapes in it."""


class Context:
    """Owns TensorRT's context; used by whoever holds the lane.

    ``shapes`` is what it is set to, None if that is not certain. ``sizes`` are the outputs'
    shapes then, None for one that only the run tells.
    """

    def __init__(
        self,
        cuda: Cuda,
        library: Library,
        engine: Any,
        ports: Ports,
        stream: int,
        scratch: Optional[Buffer],
    ) -> None:
        self._cuda = cuda
        self._library = library
        self._ports = ports
        self._stream = stream
        self.shapes: Optional[Shapes] = None
        self.sizes: Dict[str, Optional[Shape]] = {}
        self.later: Dict[str, Any] = {}
        mark = library.log.mark()
        if scratch is None:
            self._context = engine.create_execution_context()
        else:
            strategy = library.trt.ExecutionContextAllocationStrategy.USER_MANAGED
            self._context = engine.create_execution_context(strategy)
        if self._context is None:
            raise self._refusal("TensorRT created no execution context", mark)
        if scratch is not None:
            self._context.set_device_memory(scratch.address, scratch.size)

    def shape(self, wanted: Shapes, buffers: Mapping[str, Buffer]) -> None:
        """Set the profile and the inputs' shapes, and learn the outputs'; raises BackendError."""
        profile, shapes = wanted
        self.shapes, self.sizes = None, {}
        mark = self._library.log.mark()
        context = self._context
        if context.active_optimization_profile != profile and not (
            context.set_optimization_profile_async(profile, self._stream)
        ):
            raise self._refusal(f"profile {profile} was refused", mark)
        for port, shape in zip(self._ports.inputs, shapes):
            if not context.set_input_shape(port.name, shape):
                what = f"input {port.name!r} of shape {shape_text(shape)} was refused"
                raise self._refusal(what, mark)
            if port.on_host:
                self._address(port, buffers[port.name].address)
        self._infer(mark)
        for port in self._ports.outputs:
            size = tuple(int(n) for n in context.get_tensor_shape(port.name))
            self.sizes[port.name] = None if min(size, default=0) < 0 else size
            if self.sizes[port.name] is None and port.name not in self.later:
                self._size_later(port, buffers[port.name])
        self.shapes = wanted

    def tie(self, buffers: Mapping[str, Buffer]) -> None:
        """Set every address; raises BackendError."""
        for port in self._ports.inputs + self._ports.outputs:
            if port.name not in self.later:
                self._address(port, buffers[port.name].address)

    def enqueue(self) -> None:
        """Queue one run; raises BackendError with TensorRT's words."""
        mark = self._library.log.mark()
        if self._context.execute_async_v3(self._stream):
            return
        for allocator in self.later.values():
            if allocator.failure is not None:
                raise again(allocator.failure)
        raise self._refusal("the run was refused", mark)

    def check_recordable(self) -> None:
        """Raise BackendError where TensorRT knows that runs cannot be recorded."""
        ask = getattr(self._context, "is_stream_capturable", None)  # TensorRT-RTX has it
        if ask is not None and not ask(self._stream):
            raise BackendError("TensorRT says that this model cannot be recorded")

    def close(self) -> None:
        """Let TensorRT's context go, then what it called."""
        self._context = None
        self.later.clear()

    def _infer(self, mark: int) -> None:
        try:
            missing = self._context.infer_shapes()
        except RuntimeError as error:
            what = f"the outputs' shapes cannot be worked out ({faults.plain(str(error))})"
            raise self._refusal(what, mark) from None
        if missing:
            names = ", ".join(map(repr, missing))
            raise self._refusal(f"the shapes do not suffice for {names}", mark)

    def _address(self, port: Port, address: int) -> None:
        mark = self._library.log.mark()
        if not self._context.set_tensor_address(port.name, address):
            raise self._refusal(f"the address of {port.name!r} was refused", mark)

    def _size_later(self, port: Port, buffer: Buffer) -> None:
        mark = self._library.log.mark()
        allocator = sized_later(self._library.trt, buffer)
        self.later[port.name] = allocator
        if not self._context.set_output_allocator(port.name, allocator):
            raise self._refusal(f"the allocator of {port.name!r} was refused", mark)

    def _refusal(self, what: str, mark: int) -> BackendError:
        pending = self._cuda.pending()
        words = self._library.log.since(mark)
        if isinstance(pending, DeviceLost):
            return DeviceLost(f"{pending}; {what}: {words}")
        return faults.of_tensorrt(what, words)
