"""A loaded OM and its runs.

A run copies rows into pinned memory, and puts copies to the device, the execution and the copies
back on the model's stream; only then does it wait, in the one call that lets other threads of
Python go on (CANN's synchronous calls keep the GIL, and with it a worker's heartbeat).

Each model has one stream and one lock: CANN forbids one model on two streams at once. Its memory
is taken at load, for the largest gear, so that a run of a model with fixed sizes or gears takes
none.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from typing import TYPE_CHECKING, Any, List, Mapping, Optional, Sequence, Tuple

import acl
import numpy as np

from serving.backends.ascend.buffers import Side
from serving.backends.ascend.constants import (
    ACL_DTYPES,
    DEVICE_TO_HOST,
    FORMAT_ND,
    HOST_TO_DEVICE,
)
from serving.backends.ascend.description import (
    Description,
    Told,
    describe,
    free_output_dims,
    output_dims,
)
from serving.backends.ascend.failure import check, handle, value
from serving.backends.ascend.gears import Kind, Shape, named, varied
from serving.backends.ascend.options import OUTPUT_BYTES, unknown
from serving.backends.base import BackendError, Binding, DeviceLost, ModelSource
from serving.tensor import Signature, Tensor, TensorSpec, element_count, shape_text

if TYPE_CHECKING:
    from serving.backends.ascend.device import Ascend

_CANCELLED = "the run was cancelled"


class OmModel:
    """One model on one device; ``load`` makes it whole, or gives back what it took."""

    def __init__(self, device: "Ascend") -> None:
        self._device = device
        self._lock = threading.Lock()
        self._release = contextlib.ExitStack()
        self._model = 0
        self._stream = 0
        self._outputs_at: List[Tuple[Shape, ...]] = []

    def load(self, source: ModelSource) -> "OmModel":
        """Load the file, take the memory, and learn the outputs' sizes at every gear."""
        most = _most_output_bytes(source.options)
        try:
            self._open(source.path, most)
        except BaseException:
            self._release.close()
            raise
        return self

    def _open(self, path: str, most: int) -> None:
        """Take things in the order in which they are given back, from the last to the first."""
        self._stream = value("rt.create_stream", acl.rt.create_stream())
        self._later("rt.destroy_stream", acl.rt.destroy_stream, self._stream)
        desc = handle("mdl.create_desc", acl.mdl.create_desc())
        self._later("mdl.destroy_desc", acl.mdl.destroy_desc, desc)
        self._model = value("mdl.load_from_file", acl.mdl.load_from_file(path))
        self._later("mdl.unload", acl.mdl.unload, self._model)
        check("mdl.get_desc", acl.mdl.get_desc(desc, self._model))
        self._told = told = describe(desc)
        _check_outputs(told, most)
        self._inputs = self._side([t.nbytes for t in told.inputs], told.gear_bytes)
        self._outputs = self._side([t.nbytes or most for t in told.outputs], 0)
        self._learn_outputs(desc)
        self.signature = self._signature()
        self.gears = told.sizes.rows()

    def _side(self, sizes: List[int], gear_bytes: int) -> Side:
        side = Side(self._device.distrust)
        self._release.callback(side.close)
        side.open([*sizes, gear_bytes] if gear_bytes else sizes, 1 if gear_bytes else 0)
        return side

    def _later(self, call: str, release: Any, given: int) -> None:
        self._release.callback(self._device.give_up, call, release, given)

    def _learn_outputs(self, desc: int) -> None:
        sizes = self._told.sizes
        if sizes.kind is Kind.FREE:
            return
        for gear in sizes.gears or ((),):
            self.set_gear(gear)
            count = len(self._told.outputs)
            self._outputs_at.append(tuple(output_dims(desc, index) for index in range(count)))

    def _signature(self) -> Signature:
        sizes, told = self._told.sizes, self._told
        alone = sizes.at(sizes.gears[0]) if len(sizes.gears) == 1 else None
        inputs = tuple(
            TensorSpec(t.name, t.dtype, alone[i] if alone else named(sizes.kind, sizes.inputs[i]))
            for i, t in enumerate(told.inputs)
        )
        outputs = tuple(
            TensorSpec(
                t.name,
                t.dtype,
                varied(sizes.kind, sizes.gears, [shapes[i] for shapes in self._outputs_at])
                if self._outputs_at
                else None,
            )
            for i, t in enumerate(told.outputs)
        )
        return Signature(inputs, outputs)

    # -- what bindings use ----------------------------------------------------------------------

    def set_gear(self, gear: Shape) -> None:
        """Tell CANN the gear of the next execution; it forgets between executions."""
        kind, index = self._told.sizes.kind, self._told.gear_input
        given = self._model, self._inputs.dataset, index
        if kind is Kind.ROWS:
            code = acl.mdl.set_dynamic_batch_size(*given, gear[0])
            check("mdl.set_dynamic_batch_size", code)
        elif kind is Kind.IMAGE:
            check("mdl.set_dynamic_hw_size", acl.mdl.set_dynamic_hw_size(*given, *gear))
        elif kind is Kind.DIMS:
            dims = {"name": "", "dimCount": len(gear), "dims": list(gear)}
            check("mdl.set_input_dynamic_dims", acl.mdl.set_input_dynamic_dims(*given, dims))

    def outputs_at(self, gear: Shape) -> Optional[Tuple[Shape, ...]]:
        """Return the outputs' sizes at a gear, None where only a run can tell."""
        if not self._outputs_at:
            return None
        gears = self._told.sizes.gears
        return self._outputs_at[gears.index(gear) if gears else 0]

    def bind(self, inputs: Sequence[Tensor], outputs: Optional[Sequence[Tensor]]) -> Binding:
        """Find the gear for the arrays; raises BackendError where they do not fit."""
        for spec, tensor in zip(self.signature.inputs, inputs):
            if tensor.dtype is not spec.dtype or tensor.array is None:
                raise BackendError(
                    f"input {spec.name!r} is {tensor.dtype!r}, the model takes {spec.dtype!r}"
                )
        gear = self._told.sizes.gear_of(self.signature.inputs, [t.shape for t in inputs])
        known = self.outputs_at(gear)
        for index, tensor in enumerate(outputs or ()):
            if known is not None and tuple(tensor.shape) != known[index]:
                raise _other_size(tensor, known[index])
        return _Bound(self, gear, tuple(inputs), None if outputs is None else tuple(outputs))

    def execute(self, bound: "_Bound") -> Optional[Tuple[Tensor, ...]]:
        """Run a binding; one at a time."""
        with self._lock, self._device.entered():
            if not self._model:
                raise BackendError("the model was unloaded")
            bound.raise_if_cancelled()
            try:
                shapes = self._compute(bound)
                bound.raise_if_cancelled()
                return self._deliver(bound, shapes)
            except BackendError as error:
                # What was put on the stream before a refusal still uses this run's memory.
                code = acl.rt.synchronize_stream(self._stream)
                if not isinstance(error, DeviceLost):
                    check("rt.synchronize_stream", code)
                raise

    def close(self) -> None:
        """Give everything back, in CANN's order; a run that goes on is waited for."""
        with self._lock, self._device.entered(lost_too=True):
            self._model = 0
            self._release.close()
        self._device.forget(self)

    # -- the steps of a run ---------------------------------------------------------------------

    def _compute(self, bound: "_Bound") -> Tuple[Shape, ...]:
        """Copy in, execute, copy out to pinned memory; returns the outputs' sizes."""
        for index, tensor in enumerate(bound.inputs):
            if self._told.sizes.kind is Kind.FREE:
                self._free_input(index, tensor)
            self._copy_in(index, tensor)
        self.set_gear(bound.gear)
        code = acl.mdl.execute_async(
            self._model, self._inputs.dataset, self._outputs.dataset, self._stream
        )
        check("mdl.execute_async", code)
        shapes = self.outputs_at(bound.gear)
        if shapes is None:
            self._wait()
            count = len(self._told.outputs)
            shapes = tuple(free_output_dims(self._outputs.dataset, i) for i in range(count))
        for index, shape in enumerate(shapes):
            self._copy_out(index, element_count(shape) * self._told.outputs[index].dtype.itemsize)
        self._wait()
        return shapes

    def _free_input(self, index: int, tensor: Tensor) -> None:
        """Tell CANN an input's sizes, and make room for them."""
        self._inputs.grow(index, max(tensor.nbytes, 1))
        dtype = ACL_DTYPES[tensor.dtype]
        made = acl.create_tensor_desc(dtype, [int(d) for d in tensor.shape], FORMAT_ND)
        desc = handle("create_tensor_desc", made)
        try:
            _, code = acl.mdl.set_dataset_tensor_desc(self._inputs.dataset, desc, index)
            check("mdl.set_dataset_tensor_desc", code)
        finally:
            acl.destroy_tensor_desc(desc)

    def _copy_in(self, index: int, tensor: Tensor) -> None:
        assert tensor.array is not None
        side, count = self._inputs, tensor.nbytes
        ctypes.memmove(side.pinned[index], tensor.array.ctypes.data, count)
        target, room = side.device[index], side.room(index)
        code = acl.rt.memcpy_async(
            target, room, side.pinned[index], count, HOST_TO_DEVICE, self._stream
        )
        check("rt.memcpy_async", code)

    def _copy_out(self, index: int, count: int) -> None:
        side = self._outputs
        if count > side.room(index):
            raise BackendError(
                f"output {self._told.outputs[index].name!r} has {count} bytes, the option "
                f"{OUTPUT_BYTES!r} allows {side.room(index)}"
            )
        target, source = side.pinned[index], side.device[index]
        code = acl.rt.memcpy_async(
            target, side.room(index), source, count, DEVICE_TO_HOST, self._stream
        )
        check("rt.memcpy_async", code)

    def _wait(self) -> None:
        check("rt.synchronize_stream", acl.rt.synchronize_stream(self._stream))

    def _deliver(self, bound: "_Bound", shapes: Sequence[Shape]) -> Optional[Tuple[Tensor, ...]]:
        """Copy from pinned memory to where the outputs are wanted, or to arrays of their own."""
        for tensor, shape in zip(bound.outputs or (), shapes):
            if tuple(tensor.shape) != shape:
                raise _other_size(tensor, shape)
        targets = bound.outputs or [
            Tensor(t.name, t.dtype, shape, np.empty(shape, t.dtype.numpy))
            for t, shape in zip(self._told.outputs, shapes)
        ]
        for index, tensor in enumerate(targets):
            assert tensor.array is not None
            ctypes.memmove(tensor.array.ctypes.data, self._outputs.pinned[index], tensor.nbytes)
        return None if bound.outputs is not None else tuple(targets)


class _Bound:
    """Arrays and the gear that fits them."""

    def __init__(
        self,
        model: OmModel,
        gear: Shape,
        inputs: Tuple[Tensor, ...],
        outputs: Optional[Tuple[Tensor, ...]],
    ) -> None:
        self._model = model
        self._cancelled = False
        self.gear = gear
        self.inputs = inputs
        self.outputs = outputs

    def run(self) -> Optional[Tuple[Tensor, ...]]:
        """Run once, blocking this thread and no other."""
        return self._model.execute(self)

    def cancel(self) -> None:
        """Ask for no more: what the device computes at present it computes to its end."""
        self._cancelled = True

    def raise_if_cancelled(self) -> None:
        """Raise BackendError after ``cancel``."""
        if self._cancelled:
            raise BackendError(_CANCELLED)


def _other_size(tensor: Tensor, shape: Shape) -> BackendError:
    return BackendError(
        f"output {tensor.name!r} has shape {shape_text(shape)}, not {shape_text(tensor.shape)}"
    )


def _check_outputs(told: Description, most: int) -> None:
    unbounded: List[Told] = [t for t in told.outputs if not t.nbytes]
    if unbounded and not most:
        raise BackendError(
            f"the model does not say how large output {unbounded[0].name!r} may become; give "
            f"the option {OUTPUT_BYTES!r}, or compile the model with gears "
            f"({Kind.ROWS.value}, {Kind.DIMS.value})"
        )


def _most_output_bytes(options: Mapping[str, str]) -> int:
    """Return what the options say, 0 for nothing; raises BackendError for others or no number."""
    if unknown(options):
        raise BackendError(unknown(options))
    text = options.get(OUTPUT_BYTES, "0")
    if not text.isdecimal():
        raise BackendError(f"the option {OUTPUT_BYTES!r} is a number of bytes, not {text!r}")
    return int(text)
