"""The part of ``cuda.bindings.runtime`` that a server of engines needs, with its real signatures.

Every call returns a tuple that begins with its ``cudaError_t``; on failure the rest is None.
"""

from __future__ import annotations

import enum
import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from cuda.simulated.machine import MACHINE, STICKY
from cuda.simulated.memory import POISON, Span, mapped, view
from cuda.simulated.stream import Recording, Stream

cudaHostRegisterDefault = 0
cudaHostRegisterReadOnly = 8
cudaHostAllocDefault = 0
cudaStreamNonBlocking = 1


class cudaError_t(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInitializationError = 3
    cudaErrorInvalidMemcpyDirection = 21
    cudaErrorInsufficientDriver = 35
    cudaErrorDevicesUnavailable = 46
    cudaErrorNoDevice = 100
    cudaErrorInvalidDevice = 101
    cudaErrorECCUncorrectable = 214
    cudaErrorInvalidResourceHandle = 400
    cudaErrorIllegalState = 401
    cudaErrorIllegalAddress = 700
    cudaErrorLaunchOutOfResources = 701
    cudaErrorLaunchTimeout = 702
    cudaErrorAssert = 710
    cudaErrorHostMemoryAlreadyRegistered = 712
    cudaErrorHostMemoryNotRegistered = 713
    cudaErrorHardwareStackError = 714
    cudaErrorIllegalInstruction = 715
    cudaErrorMisalignedAddress = 716
    cudaErrorLaunchFailure = 719
    cudaErrorNotSupported = 801
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901
    cudaErrorStreamCaptureWrongThread = 908
    cudaErrorUnknown = 999


class cudaMemcpyKind(enum.IntEnum):
    cudaMemcpyHostToHost = 0
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3
    cudaMemcpyDefault = 4


class cudaStreamCaptureMode(enum.IntEnum):
    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1
    cudaStreamCaptureModeRelaxed = 2


class cudaDeviceAttr(enum.IntEnum):
    cudaDevAttrComputeCapabilityMajor = 75
    cudaDevAttrComputeCapabilityMinor = 76
    cudaDevAttrHostRegisterReadOnlySupported = 113


class cudaDeviceProp:
    """The fields that are told of a device."""

    def __init__(self, index: int) -> None:
        self.name = b"Simulated GPU"
        self.totalGlobalMem = MACHINE.memory
        self.major, self.minor = 8, 0
        self.pciBusID, self.pciDeviceID, self.pciDomainID = index + 1, 0, 0


_TEXTS = {
    "cudaSuccess": "no error",
    "cudaErrorMemoryAllocation": "out of memory",
    "cudaErrorInvalidValue": "invalid argument",
    "cudaErrorIllegalAddress": "an illegal memory access was encountered",
    "cudaErrorLaunchFailure": "unspecified launch failure",
}


class Refused(Exception):
    """A call's own error."""

    def __init__(self, error: str) -> None:
        self.error = error


def _api(values: int = 0, *, releases: bool = False, in_recording: bool = True) -> Any:
    """Give a function CUDA's manners: an error first, failures on order, sticky errors.

    ``values`` is how many values follow the error. What ``releases`` does so even when it returns
    an error, as CUDA does where that comes from earlier work. What is not allowed ``in_recording``
    spoils a recording that the calling thread has begun.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., tuple[Any, ...]]:
        @functools.wraps(function)
        def call(*arguments: Any) -> tuple[Any, ...]:
            error = MACHINE.strike(function.__name__)
            result: Any = None
            if not error or releases:
                try:
                    if not in_recording:
                        _spoil()
                    result = function(*arguments)
                except Refused as refused:
                    error = error or refused.error
                if not values:  # what hands something out does so or fails before
                    error = error or MACHINE.sticky
            if error:
                MACHINE.graphs.pop(result, None)  # a recording that fails hands out no graph
                MACHINE.fail(error)
                return (cudaError_t[error], *[None] * values)
            told = result if isinstance(result, tuple) else (result,)
            return (cudaError_t.cudaSuccess, *told[:values])

        return call

    return decorate


def _spoil() -> None:
    for stream in MACHINE.streams.values():
        recording = stream.recording
        if recording is not None and recording.thread == threading.get_ident():
            recording.void = True
            raise Refused("cudaErrorStreamCaptureUnsupported")


def _stream(handle: Any) -> Stream:
    stream = MACHINE.streams.get(int(handle))
    if stream is None:
        MACHINE.violate(f"a stream was used that is not alive: {int(handle)}")
        raise Refused("cudaErrorInvalidResourceHandle")
    return stream


# -- errors and devices -----------------------------------------------------------------------


def cudaGetErrorString(error: Any) -> tuple[cudaError_t, bytes]:
    return cudaError_t.cudaSuccess, _TEXTS.get(error.name, error.name).encode()


def cudaGetErrorName(error: Any) -> tuple[cudaError_t, bytes]:
    return cudaError_t.cudaSuccess, error.name.encode()


def cudaGetLastError() -> tuple[cudaError_t]:
    error, MACHINE.last = MACHINE.sticky or MACHINE.last, MACHINE.sticky
    return (cudaError_t[error or "cudaSuccess"],)


@_api(1)
def cudaGetDeviceCount() -> int:
    if not MACHINE.devices:
        raise Refused("cudaErrorNoDevice")
    return MACHINE.devices


@_api()
def cudaSetDevice(device: int) -> None:
    if not 0 <= device < MACHINE.devices:
        raise Refused("cudaErrorInvalidDevice")
    MACHINE.choose(device)


@_api(1)
def cudaDeviceGetAttribute(attr: cudaDeviceAttr, device: int) -> int:
    return {
        cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor: 8,
        cudaDeviceAttr.cudaDevAttrComputeCapabilityMinor: 0,
        cudaDeviceAttr.cudaDevAttrHostRegisterReadOnlySupported: int(MACHINE.read_only),
    }[attr]


@_api(1)
def cudaGetDeviceProperties(device: int) -> cudaDeviceProp:
    if not 0 <= device < MACHINE.devices:
        raise Refused("cudaErrorInvalidDevice")
    return cudaDeviceProp(device)


@_api(2)
def cudaMemGetInfo() -> tuple[int, int]:
    return MACHINE.memory - MACHINE.on_device.total, MACHINE.memory


@_api(1)
def cudaDriverGetVersion() -> int:
    return 13010


@_api(1)
def cudaRuntimeGetVersion() -> int:
    return 13010


# -- memory -----------------------------------------------------------------------------------


@_api(1, in_recording=False)
def cudaMalloc(size: int) -> int:
    with MACHINE.lock:
        if MACHINE.on_device.total + size > MACHINE.memory:
            raise Refused("cudaErrorMemoryAllocation")
        return MACHINE.on_device.allocate(size)


@_api(releases=True, in_recording=False)
def cudaFree(pointer: int) -> None:
    MACHINE.drain()
    with MACHINE.lock:
        if MACHINE.on_device.live.pop(pointer, None) is None:
            MACHINE.violate("cudaFree of memory that is not alive")
            raise Refused("cudaErrorInvalidValue")


@_api(1, in_recording=False)
def cudaHostAlloc(size: int, flags: int) -> int:
    with MACHINE.lock:
        return MACHINE.pinned.allocate(size)


@_api(releases=True, in_recording=False)
def cudaFreeHost(pointer: int) -> None:
    MACHINE.drain()
    with MACHINE.lock:
        if MACHINE.pinned.live.pop(pointer, None) is None:
            MACHINE.violate("cudaFreeHost of memory that is not alive")
            raise Refused("cudaErrorInvalidValue")


@_api(in_recording=False)
def cudaHostRegister(pointer: int, size: int, flags: int) -> None:
    with MACHINE.lock:
        if not size or flags not in (cudaHostRegisterDefault, cudaHostRegisterReadOnly):
            raise Refused("cudaErrorInvalidValue")
        read_only = flags == cudaHostRegisterReadOnly
        if read_only and not MACHINE.read_only:
            raise Refused("cudaErrorNotSupported")
        if MACHINE.registered.meeting(pointer, size):
            MACHINE.violate("cudaHostRegister of memory that is registered")
            raise Refused("cudaErrorHostMemoryAlreadyRegistered")
        if not mapped(pointer, size, writable=not read_only):
            raise Refused("cudaErrorInvalidValue")
        MACHINE.registered.live[pointer] = Span(pointer, size, read_only)


@_api(releases=True, in_recording=False)
def cudaHostUnregister(pointer: int) -> None:
    MACHINE.drain()
    with MACHINE.lock:
        if MACHINE.registered.live.pop(pointer, None) is None:
            MACHINE.violate("cudaHostUnregister of memory that is not registered")
            raise Refused("cudaErrorHostMemoryNotRegistered")


@_api()
def cudaMemcpyAsync(dst: int, src: int, count: int, kind: cudaMemcpyKind, stream: Any) -> None:
    """Copy in stream order; what lands on the host is poison until the stream is waited for."""
    queue = _stream(stream)
    if kind == cudaMemcpyKind.cudaMemcpyHostToDevice:
        _check_copy(device=dst, host=src, count=count, write=False)
        sent = view(src, count).tobytes()
        queue.enqueue(functools.partial(_to_device, dst, src, sent))
    elif kind == cudaMemcpyKind.cudaMemcpyDeviceToHost:
        _check_copy(device=src, host=dst, count=count, write=True)
        if queue.recording is None:
            view(dst, count)[:] = POISON
        queue.enqueue(functools.partial(_to_host, queue, dst, src, count))
    else:
        MACHINE.violate(f"cudaMemcpyAsync of kind {kind!r}")
        raise Refused("cudaErrorInvalidMemcpyDirection")


def _check_copy(*, device: int, host: int, count: int, write: bool) -> None:
    if MACHINE.on_device.find(device, count) is None:
        MACHINE.violate(f"a copy of {count} bytes reaches beyond live device memory")
        raise Refused("cudaErrorInvalidValue")
    if not MACHINE.reached(host, count, write=write):
        way = "to" if write else "from"
        MACHINE.violate(f"a copy {way} {count} bytes of the host that the device does not reach")
        raise Refused("cudaErrorInvalidValue")


def _to_device(dst: int, src: int, sent: bytes) -> None:
    if not np.array_equal(view(src, len(sent)), np.frombuffer(sent, np.uint8)):
        MACHINE.violate("memory of the host was written while a copy from it was under way")
    MACHINE.write(dst, sent)


def _to_host(queue: Stream, dst: int, src: int, count: int) -> None:
    data = MACHINE.read(src, count)

    def land() -> None:
        if MACHINE.reached(dst, count, write=True):
            view(dst, count)[:] = memoryview(data)
        else:
            MACHINE.violate("memory of the host was let go of while a copy to it was under way")

    queue.landing.append(land)


# -- streams ----------------------------------------------------------------------------------


@_api(1)
def cudaStreamCreateWithFlags(flags: int) -> int:
    handle = MACHINE.handle()
    MACHINE.streams[handle] = Stream(handle, MACHINE.device)
    return handle


@_api(releases=True)
def cudaStreamDestroy(stream: Any) -> None:
    queue = _stream(stream)
    del MACHINE.streams[queue.handle]
    queue.end()


@_api()
def cudaStreamSynchronize(stream: Any) -> None:
    queue = _stream(stream)
    if queue.recording is not None:
        queue.recording.void = True
        raise Refused("cudaErrorStreamCaptureUnsupported")
    queue.wait()


@_api()
def cudaDeviceSynchronize() -> None:
    for queue in list(MACHINE.streams.values()):
        queue.wait()


# -- graphs -----------------------------------------------------------------------------------


@_api()
def cudaStreamBeginCapture(stream: Any, mode: cudaStreamCaptureMode) -> None:
    queue = _stream(stream)
    if queue.recording is not None:
        raise Refused("cudaErrorIllegalState")
    queue.recording = Recording(threading.get_ident())


@_api(1, releases=True)
def cudaStreamEndCapture(stream: Any) -> int:
    queue = _stream(stream)
    recording = queue.recording
    if recording is None:
        raise Refused("cudaErrorIllegalState")
    if recording.thread != threading.get_ident():
        raise Refused("cudaErrorStreamCaptureWrongThread")
    queue.recording = None
    if recording.void or MACHINE.last in STICKY:
        raise Refused("cudaErrorStreamCaptureInvalidated")
    handle = MACHINE.handle()
    MACHINE.graphs[handle] = list(recording.work)
    return handle


@_api(1)
def cudaGraphInstantiate(graph: Any, flags: int) -> int:
    if int(graph) not in MACHINE.graphs:
        raise Refused("cudaErrorInvalidValue")
    handle = MACHINE.handle()
    MACHINE.executables[handle] = MACHINE.graphs[int(graph)]
    return handle


@_api()
def cudaGraphLaunch(graph: Any, stream: Any) -> None:
    work = MACHINE.executables.get(int(graph))
    if work is None:
        MACHINE.violate("a graph was launched that is not alive")
        raise Refused("cudaErrorInvalidValue")
    MACHINE.graph_launches += 1
    for step in work:
        _stream(stream).enqueue(step)


@_api(releases=True)
def cudaGraphDestroy(graph: Any) -> None:
    if MACHINE.graphs.pop(int(graph), None) is None:
        raise Refused("cudaErrorInvalidValue")


@_api(releases=True)
def cudaGraphExecDestroy(graph: Any) -> None:
    if MACHINE.executables.pop(int(graph), None) is None:
        raise Refused("cudaErrorInvalidValue")
