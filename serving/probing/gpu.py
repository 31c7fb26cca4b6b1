"""Looks for NVIDIA GPUs through the CUDA runtime, and for TensorRT and ONNX Runtime on them.

Every function of ``cuda.bindings.runtime`` returns a tuple, ``(cudaError_t, value...)``.
"""

from __future__ import annotations

import importlib
import os
from typing import Any, Dict, List

from serving.probing.answering import Absent, serve

MODULE_VARIABLE = "SERVING_TENSORRT_MODULE"

_ADVICE = {
    35: "the NVIDIA driver is missing, or older than this CUDA runtime",
    100: "the driver finds no GPU",
    3: "the driver could not be initialised",
    999: "the driver failed",
}
"""The codes of cudaInsufficientDriver, cudaNoDevice, cudaInitializationError, cudaUnknown."""


_ELSEWHERE = "or name an interpreter that has it: python under [backends.tensorrt]"


def devices() -> Dict[str, Any]:
    """Return every GPU with its name, memory and compute capability, and the driver's version."""
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise Absent(
            f"cuda-bindings cannot be imported: {error}; pip install cuda-bindings, {_ELSEWHERE}"
        ) from error

    count = int(_checked(runtime.cudaGetDeviceCount())[0])
    if not count:
        raise Absent("the driver finds no GPU")
    return {
        "devices": [_device(runtime, index) for index in range(count)],
        "versions": {
            "driver": _version(_checked(runtime.cudaDriverGetVersion())[0]),
            "cuda": _version(_checked(runtime.cudaRuntimeGetVersion())[0]),
        },
    }


def engine() -> Dict[str, Any]:
    """Return TensorRT's version."""
    name = os.environ.get(MODULE_VARIABLE, "tensorrt")
    try:
        return {"versions": {name: str(importlib.import_module(name).__version__)}}
    except ImportError as error:
        raise Absent(
            f"{name} cannot be imported: {error}; pip install {name}, {_ELSEWHERE}"
        ) from error


def second() -> Dict[str, Any]:
    """Return ONNX Runtime's version if it computes on the first GPU that works."""
    from serving.backends.base import BackendError, Device
    from serving.backends.registry import open_backend

    working = [found["index"] for found in devices()["devices"] if "problem" not in found]
    if not working:
        raise Absent("no GPU works")
    try:
        return {"versions": open_backend("onnxruntime", Device("gpu", working[0])).versions()}
    except BackendError as error:
        raise Absent(str(error)) from error


def _device(runtime: Any, index: int) -> Dict[str, Any]:
    found: Dict[str, Any] = {"index": index}
    try:
        properties = _checked(runtime.cudaGetDeviceProperties(index))[0]
        name = properties.name
        found["name"] = name.decode() if isinstance(name, bytes) else str(name)
        found["memory_bytes"] = int(properties.totalGlobalMem)
        found["capability"] = f"{properties.major}.{properties.minor}"
        _checked(runtime.cudaSetDevice(index))
        free, _ = _checked(runtime.cudaMemGetInfo())
        found["free_bytes"] = int(free)
    except Absent as absent:
        found["problem"] = str(absent)
    return found


def _checked(answer: Any) -> List[Any]:
    code, *values = answer if isinstance(answer, tuple) else (answer,)
    number = int(code)
    if number:
        advice = _ADVICE.get(number, "")
        raise Absent(f"CUDA error {number}" + (f": {advice}" if advice else f" ({code})"))
    return list(values)


def _version(number: Any) -> str:
    """Return CUDA's 13000 as 13.0."""
    return f"{int(number) // 1000}.{int(number) % 1000 // 10}"


if __name__ == "__main__":
    serve({"devices": devices, "engine": engine, "second": second})
