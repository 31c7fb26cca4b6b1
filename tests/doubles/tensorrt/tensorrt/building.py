"""The build half, as far as a server needs it: ONNX in, one of the double's engine files out.

It refuses what the real one was seen to refuse: a model that is no model, strings, dynamic inputs
without a profile; and tells it in the same places (the parser's errors, the log, None).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cuda.simulated.machine import MACHINE
from tensorrt.engine import log_error
from tensorrt.enums import DataType, HardwareCompatibilityLevel, MemoryPoolType
from tensorrt.interfaces import ILogger, IProgressMonitor, require_ready
from tensorrt_plan import Plan

_TYPES = {
    1: DataType.FLOAT, 10: DataType.HALF, 16: DataType.BF16, 3: DataType.INT8, 2: DataType.UINT8,
    6: DataType.INT32, 7: DataType.INT64, 9: DataType.BOOL, 17: DataType.FP8,
}  # fmt: skip
Shape = tuple[int, ...]


class ITensor:
    """An input or output of the network."""

    def __init__(self, info: Any) -> None:
        kind = info.type.tensor_type
        self.name = info.name
        self.dtype = _TYPES[kind.elem_type]
        sizes = [size.dim_value if size.HasField("dim_value") else -1 for size in kind.shape.dim]
        self.shape = tuple(sizes)
        self.is_shape_tensor = False


class INetworkDefinition:
    """What the parser wrote."""

    def __init__(self) -> None:
        self.onnx = b""
        self._inputs: list[ITensor] = []
        self._outputs: list[ITensor] = []

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    @property
    def num_outputs(self) -> int:
        return len(self._outputs)

    def get_input(self, index: int) -> ITensor:
        return self._inputs[index]

    def get_output(self, index: int) -> ITensor:
        return self._outputs[index]

    def fill(self, model: Any) -> None:
        stored = {tensor.name for tensor in model.graph.initializer}
        self._inputs = [ITensor(i) for i in model.graph.input if i.name not in stored]
        self._outputs = [ITensor(o) for o in model.graph.output]
        self.onnx = model.SerializeToString()


class ParserError:
    """One complaint of the parser."""

    def __init__(self, text: str, node: int = -1, name: str = "", operator: str = "") -> None:
        self._told = text, node, name, operator

    def desc(self) -> str:
        return self._told[0]

    def node(self) -> int:
        return self._told[1]

    def node_name(self) -> str:
        return self._told[2]

    def node_operator(self) -> str:
        return self._told[3]


class OnnxParser:
    """Reads an ONNX file into a network."""

    def __init__(self, network: INetworkDefinition, logger: Any) -> None:
        require_ready(logger, ILogger)
        self._network = network
        self._logger = logger
        self._errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def parse_from_file(self, model: str) -> bool:
        if MACHINE.strike("parse_from_file"):
            self._errors.append(ParserError("the parser failed on order"))
            return False
        try:
            proto = onnx.load(Path(model))
        except Exception:
            self._errors.append(ParserError("Failed to parse the ONNX model."))
            return False
        for info in proto.graph.input:
            if info.type.tensor_type.elem_type not in _TYPES:
                self._errors.append(ParserError("Failed to convert ONNX date type"))
        for index, node in enumerate(proto.graph.node):
            if node.domain not in ("", "ai.onnx"):
                text = "Plugin not found, are the plugin name, version, and namespace correct?"
                self._errors.append(ParserError(text, index, node.name, node.op_type))
        if self._errors:
            log_error(self._logger, self._errors[0].desc())
            return False
        self._network.fill(proto)
        return True


class IOptimizationProfile:
    """Ranges of the inputs' shapes."""

    def __init__(self) -> None:
        self.ranges: dict[str, tuple[Shape, Shape, Shape]] = {}

    def __bool__(self) -> bool:
        return True

    def set_shape(self, input: str, min: Shape, opt: Shape, max: Shape) -> None:
        if not np.all((np.array(min) <= opt) & (np.array(opt) <= max)):
            raise ValueError(f"profile of {input}: {min}, {opt}, {max}")
        self.ranges[input] = (tuple(min), tuple(opt), tuple(max))


class ITimingCache:
    """Bytes that grow with each build."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content


class IBuilderConfig:
    """Settings of a build."""

    def __init__(self) -> None:
        self.profiles: list[IOptimizationProfile] = []
        self.builder_optimization_level = 3
        self.hardware_compatibility_level = HardwareCompatibilityLevel.NONE
        self.progress_monitor: Any = None
        self._cache: ITimingCache | None = None
        self.pools: dict[MemoryPoolType, int] = {}

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self.pools[pool] = pool_size

    def create_timing_cache(self, serialized_timing_cache: Any) -> ITimingCache:
        return ITimingCache(bytes(serialized_timing_cache))

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._cache

    def timed(self, network: INetworkDefinition) -> None:
        """Remember a build."""
        if self._cache is not None:
            self._cache.content += len(network.onnx).to_bytes(8, "little")


class Builder:
    """Builds engine files."""

    def __init__(self, logger: Any) -> None:
        require_ready(logger, ILogger)
        self._logger = logger

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> bytes | None:
        MACHINE.note({"event": "build"})
        if MACHINE.strike("build_serialized_network"):
            log_error(self._logger, "the build failed on order")
            return None
        dynamic = [t.name for t in network._inputs if -1 in t.shape]
        lacking = [n for n in dynamic for p in config.profiles if n not in p.ranges]
        if dynamic and (not config.profiles or lacking):
            log_error(
                self._logger,
                "Network has dynamic or shape inputs, but no optimization profile has been "
                "defined.",
            )
            return None
        if config.progress_monitor is not None and not _report(config.progress_monitor):
            log_error(self._logger, "the build was stopped")
            return None
        config.timed(network)
        return Plan(network.onnx, [p.ranges for p in config.profiles]).to_bytes()


def _report(monitor: Any) -> bool:
    require_ready(monitor, IProgressMonitor)
    monitor.phase_start("Building engine", None, 2)
    monitor.phase_start("Timing tactics", "Building engine", 3)
    going = all(monitor.step_complete("Timing tactics", step) for step in range(3))
    monitor.phase_finish("Timing tactics")
    going = going and monitor.step_complete("Building engine", 0)
    monitor.phase_finish("Building engine")
    return going
