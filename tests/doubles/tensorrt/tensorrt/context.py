"""``IExecutionContext``: held to its documentation.

Shapes outside of the profile, addresses that are not set, dead or too short, an enqueue while
another is under way: all return False with a line in the log, and most are violations besides.
"""

from __future__ import annotations

import functools
import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from cuda.simulated.machine import MACHINE
from cuda.simulated.memory import POISON, view
from numpy.typing import NDArray
from tensorrt.engine import ICudaEngine, log_error
from tensorrt.enums import DataType, TensorLocation
from tensorrt.enums import ExecutionContextAllocationStrategy as Strategy
from tensorrt.interfaces import IOutputAllocator, require_ready

_NUMPY = {
    DataType.FLOAT: "<f4", DataType.HALF: "<f2", DataType.BF16: "<u2", DataType.INT8: "<i1",
    DataType.UINT8: "<u1", DataType.INT32: "<i4", DataType.INT64: "<i8", DataType.BOOL: "?",
}  # fmt: skip
_BF16 = 16
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Launch:
    """What a kernel takes and gives: addresses and shapes as they were when it was enqueued."""

    inputs: dict[str, tuple[int, Shape]]
    outputs: dict[str, tuple[int, Shape]]


class IExecutionContext:
    """One context; the engine must outlive it."""

    def __init__(self, engine: ICudaEngine, strategy: Strategy) -> None:
        self._engine = engine
        self._own_memory = strategy == Strategy.USER_MANAGED
        self._scratch = 0
        self._shapes_set = 0
        self._settled = -1
        self._logger = engine.logger
        self._shapes: dict[str, Shape] = {}
        self._addresses: dict[str, int] = {}
        self._allocators: dict[str, Any] = {}
        self._inferred: dict[str, Shape] | None = None
        self._under_way = False
        self.active_optimization_profile = 0
        engine.contexts += 1
        MACHINE.objects["contexts"] += 1
        self._forget_shapes()

    def __del__(self) -> None:
        if hasattr(self, "active_optimization_profile"):
            MACHINE.objects["contexts"] -= 1
            self._engine.contexts -= 1
            if self._under_way and not MACHINE.sticky:  # a lost device runs nothing any more
                MACHINE.violate("a context was destroyed while its run was under way")

    # -- settings -----------------------------------------------------------------------------

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if self._refuses("set_optimization_profile_async", stream=stream_handle):
            return False
        if not 0 <= profile_index < self._engine.num_optimization_profiles:
            return self._refuse(f"profile {profile_index} does not exist")
        self.active_optimization_profile = profile_index
        self._shapes_set += 1
        self._forget_shapes()
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...] | list[int]) -> bool:
        if self._refuses("set_input_shape"):
            return False
        if name not in self._engine.inputs:
            return self._refuse(f"{name} is no input")
        ranges = self._engine.get_tensor_profile_shape(name, self.active_optimization_profile)
        low, _, high = ranges
        shape = tuple(shape)
        if len(shape) != len(low) or not all(
            a <= size <= b for a, size, b in zip(low, shape, high, strict=True)
        ):
            return self._refuse(
                f"Static dimension mismatch or out of profile while setting input shape for "
                f"{name}. Set dimensions are {list(shape)}. Supported range is {list(low)} to "
                f"{list(high)}"
            )
        self._shapes[name] = shape
        self._inferred = None
        self._shapes_set += 1
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if self._refuses("set_tensor_address"):
            return False
        if name not in (*self._engine.inputs, *self._engine.outputs):
            return self._refuse(f"{name} is no input or output")
        if not memory:
            return self._refuse(f"the address of {name} is null")
        self._addresses[name] = memory
        return True

    def set_device_memory(self, memory: int, size: int) -> None:
        if not self._own_memory or MACHINE.on_device.find(memory, size) is None:
            MACHINE.violate("memory was given to a context that has its own, or it is not alive")
        if size < self._engine.device_memory_size_v2:
            MACHINE.violate("the memory given to a context is too short")
        self._scratch = memory

    def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
        if self._refuses("set_output_allocator"):
            return False
        if name not in self._engine.outputs:
            return self._refuse(f"{name} is no output")
        if output_allocator is None:
            self._allocators.pop(name, None)
            return True
        require_ready(output_allocator, IOutputAllocator)
        self._allocators[name] = output_allocator
        return True

    def infer_shapes(self) -> list[str]:
        error = MACHINE.strike("infer_shapes")
        if error:
            log_error(self._logger, f"shape inference failed ({error})")
            raise RuntimeError("infer_shapes failed")
        missing = [name for name in self._engine.inputs if name not in self._shapes]
        missing += [
            name
            for name in self._engine.inputs
            if name not in self._addresses and self._on_host(name)
        ]
        if not missing:
            self._inferred = self._infer()
        return missing

    def get_tensor_shape(self, name: str) -> Shape:
        if name in self._shapes:
            return self._shapes[name]
        if name in self._engine.outputs and self._inferred is not None:
            return self._inferred[name]
        return self._engine.get_tensor_shape(name)

    # -- a run --------------------------------------------------------------------------------

    def execute_async_v3(self, stream_handle: int) -> bool:
        if self._refuses("execute_async_v3", stream=stream_handle):
            return False
        if MACHINE.last:
            return self._refuse(f"Cuda failure before the launch: {MACHINE.last}")
        if self._under_way or self._scratch in MACHINE.scratch:
            MACHINE.violate("a context was enqueued while a run in its memory was under way")
            return self._refuse("the context is in use")
        if self._own_memory and not self._scratch:
            return self._refuse("the context was given no memory")
        if self._inferred is None and self.infer_shapes():
            return self._refuse("not all input shapes were set")
        queue = MACHINE.streams[stream_handle]
        later = [
            name for name, shape in (self._inferred or {}).items() if min(shape, default=0) < 0
        ]
        if later and queue.recording is not None:
            queue.recording.void = True
            return self._refuse("a run that synchronizes cannot be captured")
        found = self._allocate(later, queue) if later else {}
        launch = None if found is None else self._launch(found)
        if launch is None:
            return False
        if queue.recording is None:
            self._settled = self._shapes_set
            self._begin(queue)
            queue.enqueue(functools.partial(self._compute, launch, queue))
            return True
        if self._settled != self._shapes_set:
            MACHINE.violate("a run was recorded that was not run plainly since its shapes were set")
        queue.enqueue(functools.partial(self._replay, launch, queue, self._shapes_set))
        return True

    def _begin(self, queue: Any) -> None:
        self._under_way = True
        if self._scratch:
            MACHINE.scratch.add(self._scratch)
        queue.on_wait.append(self._rest)

    def _rest(self) -> None:
        self._under_way = False
        MACHINE.scratch.discard(self._scratch)

    def _replay(self, launch: Launch, queue: Any, shapes_set: int) -> None:
        if shapes_set != self._shapes_set:
            MACHINE.violate("a recording was played after its context's shapes had changed")
        self._compute(launch, queue)

    def _launch(self, found: dict[str, Shape]) -> Launch | None:
        """Check every address; None, with words in the log, if one will not do."""
        places: dict[str, tuple[int, Shape]] = {}
        for name in (*self._engine.inputs, *self._engine.outputs):
            address = self._addresses.get(name, 0)
            shape = found.get(name) or self.get_tensor_shape(name)
            nbytes = self._nbytes(name, shape)
            if not address:
                self._refuse(f"the address of {name} is not set")
                return None
            spans = MACHINE.pinned if self._on_host(name) else MACHINE.on_device
            if spans.find(address, max(nbytes, 1)) is None:
                MACHINE.violate(f"{name} lies in memory that is not alive or too short")
                self._refuse(f"the address of {name} is invalid")
                return None
            places[name] = (address, shape)
        inputs = {name: places[name] for name in self._engine.inputs}
        return Launch(inputs, {name: places[name] for name in self._engine.outputs})

    def _compute(self, launch: Launch, queue: Any) -> None:
        """Be the kernels: on the stream's thread."""
        told = {"stream": queue.handle, "device": queue.device}
        MACHINE.choose(queue.device)
        MACHINE.note({"event": "begin", **told})
        MACHINE.launches += 1
        try:
            error = MACHINE.strike("kernel")
            for name, (address, shape) in launch.outputs.items():
                if not self._on_host(name):
                    MACHINE.write(address, bytes([POISON]) * self._nbytes(name, shape))
            if MACHINE.sleep_s:
                time.sleep(MACHINE.sleep_s)
            if error:
                return
            try:
                results = self._run(
                    {n: self._read(n, *place) for n, place in launch.inputs.items()}
                )
            except Exception as failure:
                log_error(self._logger, f"a kernel failed: {failure}")
                MACHINE.fail("cudaErrorLaunchFailure")
                return
            for name, (address, shape) in launch.outputs.items():
                self._write(name, address, shape, results[name], queue)
        finally:
            MACHINE.note({"event": "end", **told})

    def _allocate(self, later: list[str], queue: Any) -> dict[str, Shape] | None:
        """Find out sizes that depend on values: this waits, as the real one does."""
        queue.drain()
        inputs = {}
        for name in self._engine.inputs:
            inputs[name] = self._read(name, self._addresses[name], self._shapes[name])
        results = self._run(inputs)
        found: dict[str, Shape] = {}
        for name in later:
            allocator = self._allocators.get(name)
            if allocator is None:
                self._refuse(f"the shape of {name} depends on data and has no allocator")
                return None
            shape = tuple(results[name].shape)
            nbytes = self._nbytes(name, shape)
            address = allocator.reallocate_output_async(
                name, self._addresses.get(name, 0), nbytes, 256, queue.handle
            )
            if not address:
                self._refuse(f"the allocator gave no memory for {name}")
                return None
            self._addresses[name] = address
            allocator.notify_shape(name, shape)
            found[name] = shape
        return found

    # -- values -------------------------------------------------------------------------------

    def _read(self, name: str, address: int, shape: Shape) -> NDArray[Any]:
        nbytes = self._nbytes(name, shape)
        if self._on_host(name):
            data = view(address, nbytes).tobytes()
        else:
            data = MACHINE.read(address, nbytes)
        kind = _NUMPY[self._engine.get_tensor_dtype(name)]
        return np.frombuffer(data, kind).reshape(shape)

    def _write(self, name: str, address: int, shape: Shape, array: Any, queue: Any) -> None:
        data = np.ascontiguousarray(array).tobytes()
        if tuple(array.shape) != shape:
            MACHINE.fault(f"{name} came out as {array.shape} where {shape} was inferred")
        elif self._on_host(name):
            queue.landing.append(functools.partial(_land, address, data))
        else:
            MACHINE.write(address, data)

    def _run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        binding = self._engine.session.io_binding()
        held = []
        for name, array in inputs.items():
            if self._engine.get_tensor_dtype(name) == DataType.BF16:
                value = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array.copy(), _BF16)
            else:
                value = ort.OrtValue.ortvalue_from_numpy(array.copy())
            held.append(value)
            binding.bind_ortvalue_input(name, value)
        for name in self._engine.outputs:
            binding.bind_output(name, "cpu")
        self._engine.session.run_with_iobinding(binding)
        results = {}
        for name, value in zip(self._engine.outputs, binding.get_outputs(), strict=True):
            shape = tuple(value.shape())
            if self._engine.get_tensor_dtype(name) == DataType.BF16:
                bits = view(value.data_ptr(), 2 * math.prod(shape)).copy()
                results[name] = bits.view(np.uint16).reshape(shape)
            else:
                results[name] = value.numpy()
        return results

    def _infer(self) -> dict[str, Shape]:
        """Work out shapes by running on zeros; what then differs on ones depends on data."""
        told = {name: self._engine.get_tensor_shape(name) for name in self._engine.outputs}
        if all(-1 not in shape for shape in told.values()):
            return told
        shapes: list[dict[str, Shape]] = []
        for fill in (0, 1):
            inputs = {
                name: self._read(name, self._addresses[name], self._shapes[name])
                if self._on_host(name)
                else np.full(shape, fill, _NUMPY[self._engine.get_tensor_dtype(name)])
                for name, shape in self._shapes.items()
            }
            try:
                results = self._run(inputs)
            except Exception:
                continue  # a model may fail on made-up values
            shapes.append({name: tuple(array.shape) for name, array in results.items()})
        if not shapes:
            raise RuntimeError("shapes cannot be inferred")
        first, last = shapes[0], shapes[-1]
        return {
            name: tuple(a if a == b else -1 for a, b in zip(first[name], last[name], strict=True))
            for name in self._engine.outputs
        }

    # -- refusals -----------------------------------------------------------------------------

    def _refuses(self, call: str, *, stream: int = -1) -> bool:
        error = MACHINE.strike(call)
        if error:
            return not self._refuse(f"{call} failed (Cuda Runtime {error})")
        if stream == -1:
            return False
        if stream not in MACHINE.streams:
            MACHINE.violate(f"{call} on a stream that is not alive")
            return not self._refuse("invalid stream")
        return False

    def _refuse(self, text: str) -> bool:
        log_error(self._logger, text, where="executionContext.cpp::check::2037")
        return False

    def _forget_shapes(self) -> None:
        self._shapes = {
            name: shape
            for name in self._engine.inputs
            if -1 not in (shape := self._engine.get_tensor_shape(name))
        }
        self._inferred = None

    def _on_host(self, name: str) -> bool:
        return self._engine.get_tensor_location(name) == TensorLocation.HOST

    def _nbytes(self, name: str, shape: Shape) -> int:
        return math.prod(shape) * np.dtype(_NUMPY[self._engine.get_tensor_dtype(name)]).itemsize


def _land(address: int, data: bytes) -> None:
    view(address, len(data))[:] = memoryview(data)
