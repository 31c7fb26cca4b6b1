"""Loaded models, what is known of them, data sets, and the execution of one."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime as ort

from acl import _memory, _om, _stream
from acl._om import BATCH, DIMS, FREE, IMAGE, Definition
from acl._world import World, fail

GEAR_INPUT = "ascend_mbatch_shape_data"
AIPP_INPUT = "ascend_dynamic_aipp_data"
SLACK = 64
INVALID, NOT_A_GEAR, GEAR_LENGTH = 100000, 145013, 145012
WRONG_SIZE, EXECUTION = 145000, 507011
NUMPY = {
    0: "f4", 1: "f2", 2: "i1", 3: "i4", 4: "u1", 6: "i2", 7: "u2", 8: "u4", 9: "i8", 10: "u8",
    11: "f8", 12: "?", 27: "u2",
}  # fmt: skip
GEAR_BYTES = 256


@dataclass
class Loaded:
    """A model on the device."""

    definition: Definition
    session: Any
    gear: list[int] | None = None
    """The gear that was set last, on whichever data set: what the current output sizes are of."""


@dataclass
class DataBuffer:
    """An address and a size; neither is owned."""

    address: int
    size: int


@dataclass
class TensorDesc:
    """A data type, sizes and a format."""

    dtype: int
    dims: list[int]


@dataclass
class DataSet:
    """The buffers of one side of a run, in order; ``gear`` is good for one execution."""

    buffers: list[int] = field(default_factory=list)
    gear: list[int] | None = None
    descs: dict[int, int] = field(default_factory=dict)


def inputs(definition: Definition) -> list[dict[str, Any]]:
    """Return the inputs as the library tells them: those that set gears come last."""
    found = list(definition.inputs)
    if definition.dynamic_aipp:
        found.append({"name": AIPP_INPUT, "dtype": 4, "shape": [GEAR_BYTES]})
    if definition.kind in (BATCH, IMAGE, DIMS):
        found.append({"name": GEAR_INPUT, "dtype": 9, "shape": [GEAR_BYTES // 8]})
    return found


def shape_at(definition: Definition, index: int, gear: list[int]) -> list[int]:
    """Return an input's sizes at a gear."""
    shape = list(definition.inputs[index]["shape"])
    if definition.kind == BATCH:
        return [gear[0] if d < 0 else d for d in shape]
    if definition.kind == IMAGE:
        sizes = iter(gear)
        return [next(sizes) if d < 0 else d for d in shape]
    if definition.kind == DIMS:
        before = sum(len(one["shape"]) for one in definition.inputs[:index])
        return gear[before : before + len(shape)]
    return shape


def largest(definition: Definition) -> list[int]:
    """Return the gear with the most elements."""
    return max(definition.gears, key=math.prod) if definition.gears else []


def nbytes(shape: list[int], dtype: int) -> int:
    """Return a tensor's size; 0 where a size is not bounded."""
    return 0 if any(d < 0 for d in shape) else math.prod(shape) * np.dtype(NUMPY[dtype]).itemsize


def input_bytes(definition: Definition, index: int) -> int:
    """Return the bytes of an input at the largest gear."""
    if index >= len(definition.inputs):
        return GEAR_BYTES
    shape = shape_at(definition, index, largest(definition))
    return nbytes(shape, definition.inputs[index]["dtype"])


def output_shape(definition: Definition, index: int, gear: list[int] | None) -> list[int] | None:
    """Return an output's sizes at a gear, None for a gear that is not one."""
    shapes = definition.outputs[index]["shapes"]
    if not definition.gears:
        return list(shapes[0])
    return list(shapes[definition.gears.index(gear)]) if gear in definition.gears else None


def output_bytes(definition: Definition, index: int) -> int:
    """Return the bytes of an output at the largest gear."""
    one = definition.outputs[index]
    return max(nbytes(list(shape), one["dtype"]) for shape in one["shapes"])


# -- execution ---------------------------------------------------------------------------------


def prepare(here: World, model: int, given: int, wanted: int, *, sync: bool) -> tuple[int, Any]:
    """Check an execution; returns a code and, where it is 0, the job that does it."""
    thing = here.get(model, "model")
    if thing.context != here.current():
        raise here.violation("a model is executed under another context than it was loaded in")
    loaded: Loaded = thing.holds
    definition = loaded.definition
    sources = here.get(given, "dataset").holds
    targets = here.get(wanted, "dataset").holds
    ins, outs = _buffers(here, sources), _buffers(here, targets)
    if len(ins) != len(inputs(definition)) or len(outs) != len(definition.outputs):
        return fail(here, 100017, "the data sets have another number of buffers"), None
    if definition.gears and sources.gear not in definition.gears:
        return fail(here, NOT_A_GEAR, "no gear was set for this execution"), None
    if any(not b.address for b in ins) or (not sync and any(not b.address for b in outs)):
        return fail(here, INVALID, "a data buffer has no memory"), None
    gear, sources.gear = sources.gear or [], None
    shapes = _shapes(here, definition, sources, gear)
    if shapes is None:
        return fail(here, INVALID, "an input's sizes were not set"), None
    code = _sizes(here, definition, ins, outs, shapes)
    if code:
        return code, None
    views = [
        _memory.region(here, b.address, nbytes(s, one["dtype"]), _memory.DEVICE)[1]
        for b, s, one in zip(ins, shapes, definition.inputs, strict=False)
    ]
    here.trace(
        event="execute", model=model, device=thing.device, gear=gear, shapes=shapes, sync=sync,
        soc=definition.soc,
    )  # fmt: skip
    held = [model, given, wanted, *sources.buffers, *targets.buffers]
    held += [_memory.owner(here, b.address) for b in (*ins, *outs) if b.address]
    left_s = max(here.pause_s(), definition.sleep_ms / 1e3)

    def do() -> int:
        return _compute(here, loaded, views, shapes, outs, targets)

    return 0, _stream.Job(do, held, model, left_s)


def busy(seconds: float) -> None:
    """Let time pass as the synchronous calls do: no other thread of Python runs meanwhile."""
    if seconds > 0:
        ctypes.PyDLL(None).usleep(int(seconds * 1e6))  # PyDLL keeps the GIL


def _buffers(here: World, dataset: DataSet) -> list[DataBuffer]:
    return [here.get(handle, "data buffer").holds for handle in dataset.buffers]


def _shapes(
    here: World, definition: Definition, sources: DataSet, gear: list[int]
) -> list[list[int]] | None:
    if definition.kind != FREE:
        return [shape_at(definition, index, gear) for index in range(len(definition.inputs))]
    shapes = []
    for index, one in enumerate(definition.inputs):
        if index not in sources.descs:
            return None
        shapes.append(list(here.get(sources.descs[index], "dataset tensor desc").holds.dims))
        if len(shapes[-1]) != len(one["shape"]) or any(
            d not in (-1, s) for d, s in zip(one["shape"], shapes[-1], strict=True)
        ):
            return None
    return shapes


def _sizes(
    here: World,
    definition: Definition,
    ins: list[DataBuffer],
    outs: list[DataBuffer],
    shapes: list[list[int]],
) -> int:
    """Hold buffers against the model's sizes, with the slack that the real check has."""
    for index, buffer in enumerate(ins):
        needed = input_bytes(definition, index)
        if not needed and index < len(shapes):
            needed = nbytes(shapes[index], definition.inputs[index]["dtype"])
        if buffer.size + SLACK < needed:
            return fail(here, WRONG_SIZE, f"input {index} has {buffer.size} of {needed} bytes")
    for index, buffer in enumerate(outs):
        needed = output_bytes(definition, index)
        if buffer.address and buffer.size + SLACK < needed:
            return fail(here, WRONG_SIZE, f"output {index} has {buffer.size} of {needed} bytes")
    return 0


def _compute(
    here: World,
    loaded: Loaded,
    views: list[Any],
    shapes: list[list[int]],
    outs: list[DataBuffer],
    targets: DataSet,
) -> int:
    """Run the ONNX model on what lies in device memory now."""
    feeds = {}
    for node, one, bits, shape in zip(
        loaded.session.get_inputs(), loaded.definition.inputs, views, shapes, strict=True
    ):
        feeds[node.name] = bits.copy().view(NUMPY[one["dtype"]]).reshape(shape)
    try:
        results = loaded.session.run(None, feeds)
    except Exception as error:  # whatever the engine says, the device would only say this
        return fail(here, EXECUTION, f"the execution failed: {error}")
    for index, (result, buffer) in enumerate(zip(results, outs, strict=True)):
        bits = np.ascontiguousarray(result).reshape(-1).view(np.uint8)
        if not buffer.address:
            # The library's own trap: memory that the caller now owns, and must free.
            buffer.address = _memory.take_device(here, max(bits.size, 1), max(bits.size, 32))
            buffer.size = bits.size
        if bits.size > buffer.size:
            return fail(here, WRONG_SIZE, f"output {index} needs {bits.size} bytes")
        _memory.region(here, buffer.address, bits.size, _memory.DEVICE)[1][:] = bits
        desc = targets.descs.get(index)
        made = TensorDesc(loaded.definition.outputs[index]["dtype"], list(result.shape))
        if desc is None:
            targets.descs[index] = here.make("dataset tensor desc", made)
        else:
            here.get(desc, "dataset tensor desc").holds = made
    return 0


def load(here: World, path: str) -> tuple[int, Loaded | None]:
    """Read a file; returns a code and, where it is 0, the model."""
    try:
        found = _om.unpack(path)
    except OSError:
        return fail(here, 145002, f"the model file {path} cannot be read"), None
    if found is None:
        return fail(here, 145006, "the model file is not whole"), None
    definition, model = found
    if definition.soc != here.soc:
        text = f"the model is for {definition.soc}, the device is {here.soc}"
        return fail(here, 545001, text), None
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        return fail(here, 545001, f"the model cannot be loaded: {error}"), None
    return 0, Loaded(definition, session)
