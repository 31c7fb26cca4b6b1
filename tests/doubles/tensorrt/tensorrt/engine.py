"""``Runtime`` and ``ICudaEngine``: an engine file becomes a session of onnxruntime.

Inputs and outputs are told as TensorRT tells them: -1 for sizes that vary, types by its names.
"""

from __future__ import annotations

from typing import Any

import onnxruntime as ort
from cuda.simulated.machine import MACHINE
from tensorrt.enums import DataType, TensorFormat, TensorIOMode, TensorLocation
from tensorrt.enums import ExecutionContextAllocationStrategy as Strategy
from tensorrt.interfaces import ILogger, require_ready
from tensorrt_plan import Plan

_TYPES = {
    "tensor(float)": DataType.FLOAT, "tensor(float16)": DataType.HALF,
    "tensor(bfloat16)": DataType.BF16, "tensor(int8)": DataType.INT8,
    "tensor(uint8)": DataType.UINT8, "tensor(int32)": DataType.INT32,
    "tensor(int64)": DataType.INT64, "tensor(bool)": DataType.BOOL,
    "tensor(float8e4m3fn)": DataType.FP8,
}  # fmt: skip


def log_error(logger: Any, text: str, *, where: str = "api.cpp::call::1") -> None:
    """Tell the application's logger as TensorRT does, source line and all."""
    logger.log(ILogger.Severity.ERROR, f"[{where}] Error Code 1: {text}")


class Runtime:
    """Deserializes engines."""

    def __init__(self, logger: Any) -> None:
        require_ready(logger, ILogger)
        self.logger = logger
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, serialized_engine: Any) -> ICudaEngine | None:
        error = MACHINE.strike("deserialize_cuda_engine")
        if error:
            log_error(self.logger, f"Deserialization failed (Cuda Runtime {error})")
            return None
        try:
            plan = Plan.from_bytes(bytes(serialized_engine))
        except ValueError as refused:
            log_error(
                self.logger, f"Serialization ({refused})", where="runtime.cpp::parsePlan::314"
            )
            return None
        try:
            return ICudaEngine(plan, self.logger)
        except Exception as refused:  # onnxruntime's errors have no base of their own
            log_error(self.logger, f"the double cannot run this engine: {refused}")
            return None


class ICudaEngine:
    """One engine; counted while it is alive, and must outlive its contexts."""

    def __init__(self, plan: Plan, logger: Any) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self.session = ort.InferenceSession(plan.onnx, options, providers=["CPUExecutionProvider"])
        self.logger = logger
        self.contexts = 0
        self._plan = plan
        self._nodes = {n.name: n for n in (*self.session.get_inputs(), *self.session.get_outputs())}
        self.inputs = [node.name for node in self.session.get_inputs()]
        self.outputs = [node.name for node in self.session.get_outputs()]
        self.num_io_tensors = len(self._nodes)
        self.num_optimization_profiles = max(len(plan.profiles), 1)
        MACHINE.objects["engines"] += 1
        self._counted = True

    def __del__(self) -> None:
        if getattr(self, "_counted", False):
            MACHINE.objects["engines"] -= 1
            if self.contexts:
                MACHINE.violate("an engine was destroyed before its contexts")

    @property
    def device_memory_size_v2(self) -> int:
        return 1 << 10

    def get_tensor_name(self, index: int) -> str:
        return [*self.inputs, *self.outputs][index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return _TYPES[self._nodes[name].type]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(size if isinstance(size, int) else -1 for size in self._nodes[name].shape)

    def get_tensor_location(self, name: str) -> TensorLocation:
        return TensorLocation.HOST if name in self._plan.on_host else TensorLocation.DEVICE

    def get_tensor_format(self, name: str) -> TensorFormat:
        return TensorFormat[self._plan.formats.get(name, "LINEAR")]

    def get_tensor_format_desc(self, name: str) -> str:
        return f"{self.get_tensor_format(name).name} format"

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        if name not in self.inputs or not 0 <= profile_index < self.num_optimization_profiles:
            log_error(self.logger, f"no input {name} in profile {profile_index}")
            return []
        shape = self.get_tensor_shape(name)
        if not self._plan.profiles:
            return [shape, shape, shape]
        ranges = self._plan.profiles[profile_index].get(name, (shape, shape, shape))
        return [tuple(sizes) for sizes in ranges]

    def create_execution_context(self, strategy: Strategy = Strategy.STATIC) -> Any:
        from tensorrt.context import IExecutionContext

        error = MACHINE.strike("create_execution_context")
        if error:
            log_error(self.logger, f"OutOfMemory (Requested context memory: {error})")
            return None
        return IExecutionContext(self, strategy)
