"""What CUDA's and TensorRT's failures mean for the run, the worker and the device; pure."""

from __future__ import annotations

import re

from serving.backends.base import BackendError, DeviceLost, MemoryExhausted

NO_MEMORY = frozenset({"cudaErrorMemoryAllocation"})

# After these the process's hold on the device is beyond use: CUDA returns them again from every
# later call ("sticky"), or the hardware, the driver or the link to it has failed.
LOST = frozenset(
    {
        "cudaErrorInitializationError", "cudaErrorCudartUnloading", "cudaErrorDevicesUnavailable",
        "cudaErrorNoDevice", "cudaErrorDeviceUninitialized", "cudaErrorECCUncorrectable",
        "cudaErrorNvlinkUncorrectable", "cudaErrorContained", "cudaErrorIllegalAddress",
        "cudaErrorLaunchTimeout", "cudaErrorContextIsDestroyed", "cudaErrorAssert",
        "cudaErrorHardwareStackError", "cudaErrorIllegalInstruction", "cudaErrorMisalignedAddress",
        "cudaErrorInvalidAddressSpace", "cudaErrorInvalidPc", "cudaErrorLaunchFailure",
        "cudaErrorTensorMemoryLeak", "cudaErrorSystemNotReady", "cudaErrorSystemDriverMismatch",
        "cudaErrorMpsConnectionFailed", "cudaErrorMpsRpcFailure", "cudaErrorMpsServerNotReady",
        "cudaErrorMpsClientTerminated", "cudaErrorExternalDevice", "cudaErrorUnknown",
    }
)  # fmt: skip

_MEMORY_WORDS = re.compile(r"out ?of ?memory|insufficient memory", re.IGNORECASE)
_SOURCE = re.compile(r"\[[\w./]+::[\w~:<>]+::\d+\]\s*|\b\w+\.cpp:\d+:?\s*")
_FOLDERS = re.compile(r"(?:/[\w.\-+]+){2,}/?")
_WORDS_KEPT = 600


def of_cuda(call: str, name: str, text: str) -> BackendError:
    """Return the error for a CUDA call that failed with the code ``name``."""
    said = f"{call} failed: {text} ({name})"
    if name in NO_MEMORY:
        return MemoryExhausted(f"memory does not suffice: {said}")
    if name in LOST:
        return DeviceLost(f"the GPU is lost to this process: {said}")
    return BackendError(said)


def of_tensorrt(what: str, words: str) -> BackendError:
    """Return the error for a TensorRT call that returned nothing or False."""
    said = f"{what}: {words or 'TensorRT said nothing about it'}"
    if _MEMORY_WORDS.search(words):
        return MemoryExhausted(said)
    return BackendError(said)


def plain(words: str) -> str:
    """Return TensorRT's words without its source lines and folders."""
    text = _FOLDERS.sub("…", _SOURCE.sub("", words.replace("\n", " ")))
    return re.sub(r"  +", " ", text).strip()[:_WORDS_KEPT]
