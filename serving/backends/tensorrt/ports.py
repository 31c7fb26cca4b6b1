"""What an engine takes and gives: names, types, shapes, ranges; read once when it is loaded.

TensorRT's types are mapped to the protocol's by name (its numbers moved between versions).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping, Optional, Tuple

from serving.backends.base import BackendError
from serving.backends.tensorrt.options import Range
from serving.tensor import (
    BF16,
    BOOL,
    FP16,
    FP32,
    INT8,
    INT32,
    INT64,
    UINT8,
    Dim,
    DType,
    Signature,
    TensorSpec,
)

Shape = Tuple[int, ...]

DTYPES: Mapping[str, DType] = {
    "FLOAT": FP32, "HALF": FP16, "BF16": BF16, "INT8": INT8, "UINT8": UINT8, "INT32": INT32,
    "INT64": INT64, "BOOL": BOOL,
}  # fmt: skip


@dataclass(frozen=True)
class Port:
    """One input or output. ``shape`` has -1 where sizes vary.

    ``on_host`` marks a tensor whose values TensorRT reads on the CPU, such as the target shape of
    a Reshape. ``ranges`` holds an input's smallest, usual and largest shape for each profile.
    """

    name: str
    dtype: DType
    shape: Shape
    is_input: bool
    on_host: bool
    ranges: Tuple[Range, ...] = ()


@dataclass(frozen=True)
class Ports:
    """All inputs and outputs, in signature order."""

    inputs: Tuple[Port, ...]
    outputs: Tuple[Port, ...]
    signature: Signature
    profiles: int

    @property
    def any_on_host(self) -> bool:
        """True if shapes or kernels may depend on values of the inputs."""
        return any(port.on_host for port in self.inputs + self.outputs)


def read(engine: Any, trt: Any, told: Optional[Signature]) -> Ports:
    """Read an engine's ports, in the order and with the names of sizes that ``told`` gives.

    Raises BackendError for what cannot be served, or where engine and signature differ.
    """
    profiles = max(int(engine.num_optimization_profiles), 1)
    found: List[Port] = []
    for index in range(engine.num_io_tensors):
        found.append(_port(engine, trt, engine.get_tensor_name(index), profiles))
    inputs = tuple(port for port in found if port.is_input)
    outputs = tuple(port for port in found if not port.is_input)
    signature = Signature(tuple(map(_spec, inputs)), tuple(map(_spec, outputs)))
    if told is None:
        return Ports(inputs, outputs, signature, profiles)
    return Ports(
        _ordered(inputs, told.inputs, "input"),
        _ordered(outputs, told.outputs, "output"),
        Signature(_named(told.inputs, inputs), _named(told.outputs, outputs)),
        profiles,
    )


def _port(engine: Any, trt: Any, name: str, profiles: int) -> Port:
    kind = engine.get_tensor_dtype(name).name
    if kind not in DTYPES:
        raise BackendError(
            f"tensor {name!r} holds {kind}, which no client can send or read: build the engine "
            "with a Cast to FLOAT, HALF, BF16 or an integer type there"
        )
    if engine.get_tensor_format(name) != trt.TensorFormat.LINEAR:
        raise BackendError(
            f"tensor {name!r} is laid out as {engine.get_tensor_format_desc(name)!r}; build the "
            "engine with plain row-major inputs and outputs"
        )
    is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
    on_host = engine.get_tensor_location(name) == trt.TensorLocation.HOST
    shape = tuple(int(size) for size in engine.get_tensor_shape(name))
    ranges: List[Range] = []
    for profile in range(profiles if is_input else 0):
        low, usual, high = (shape, shape, shape)
        if -1 in shape:
            low, usual, high = map(tuple, engine.get_tensor_profile_shape(name, profile))
        ranges.append((low, usual, high))
    return Port(name, DTYPES[kind], shape, is_input, on_host, tuple(ranges))


def _spec(port: Port) -> TensorSpec:
    shape: Tuple[Dim, ...] = tuple("" if size < 0 else size for size in port.shape)
    return TensorSpec(port.name, port.dtype, shape)


def _ordered(ports: Tuple[Port, ...], told: Tuple[TensorSpec, ...], what: str) -> Tuple[Port, ...]:
    known: Dict[str, Port] = {port.name: port for port in ports}
    names = [spec.name for spec in told]
    if sorted(names) != sorted(known):
        raise BackendError(
            f"the engine's {what}s are {sorted(known)}, its description names {sorted(names)}: "
            "it was not built from this model"
        )
    for spec in told:
        if known[spec.name].dtype is not spec.dtype:
            raise BackendError(
                f"the engine's {what} {spec.name!r} holds {known[spec.name].dtype}, its "
                f"description says {spec.dtype}"
            )
    return tuple(known[name] for name in names)


def _named(told: Tuple[TensorSpec, ...], ports: Tuple[Port, ...]) -> Tuple[TensorSpec, ...]:
    """Keep the model's names of sizes where the engine leaves the size open, too."""
    shapes = {port.name: port.shape for port in ports}
    named = []
    for spec in told:
        shape = shapes[spec.name]
        if spec.shape is None or len(spec.shape) != len(shape):
            dims: Tuple[Dim, ...] = tuple("" if size < 0 else size for size in shape)
        else:
            dims = tuple(
                size if size >= 0 else ("" if isinstance(dim, int) else dim)
                for size, dim in zip(shape, spec.shape)
            )
        named.append(replace(spec, shape=dims))
    return tuple(named)
