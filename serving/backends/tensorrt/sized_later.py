"""Memory for outputs whose size only the run tells: TensorRT asks for it while it enqueues."""

from __future__ import annotations

from typing import Any, Optional

from serving.backends.base import BackendError
from serving.backends.tensorrt.buffer import Buffer
from serving.backends.tensorrt.cuda import attempt
from serving.backends.tensorrt.ports import Shape


def sized_later(trt: Any, buffer: Buffer) -> Any:
    """Return an output allocator over a buffer; its base class is TensorRT's.

    ``shape`` is what TensorRT told last; ``failure`` why memory was refused, if it was.
    """

    class SizedLater(trt.IOutputAllocator):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)
            self.shape: Optional[Shape] = None
            self.failure: Optional[BackendError] = None

        def reallocate_output(self, _name: str, _memory: int, size: int, _alignment: int) -> int:
            self.shape = None
            # An exception must not pass through TensorRT; the lane raises it afterwards.
            self.failure = attempt(buffer.fit, size)
            return buffer.address

        def reallocate_output_async(
            self, name: str, memory: int, size: int, alignment: int, _stream: int
        ) -> int:
            return self.reallocate_output(name, memory, size, alignment)

        def notify_shape(self, _name: str, shape: Any) -> None:
            self.shape = tuple(int(size) for size in shape)

    return SizedLater()
