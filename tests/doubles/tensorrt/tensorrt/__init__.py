"""A double of TensorRT's Python module, held to its documentation; see ``cuda.simulated``.

Engine files are those of ``tensorrt_plan``: an ONNX model that onnxruntime runs.
"""

from tensorrt.building import (
    Builder,
    IBuilderConfig,
    INetworkDefinition,
    IOptimizationProfile,
    OnnxParser,
)
from tensorrt.context import IExecutionContext
from tensorrt.engine import ICudaEngine, Runtime
from tensorrt.enums import (
    BuilderFlag,
    DataType,
    ExecutionContextAllocationStrategy,
    HardwareCompatibilityLevel,
    MemoryPoolType,
    NetworkDefinitionCreationFlag,
    TensorFormat,
    TensorIOMode,
    TensorLocation,
)
from tensorrt.interfaces import ILogger, IOutputAllocator, IProgressMonitor
from tensorrt_plan import VERSION

__version__ = ".".join(map(str, VERSION))

__all__ = [
    "Builder",
    "BuilderFlag",
    "DataType",
    "ExecutionContextAllocationStrategy",
    "HardwareCompatibilityLevel",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IOutputAllocator",
    "IProgressMonitor",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "Runtime",
    "TensorFormat",
    "TensorIOMode",
    "TensorLocation",
]
