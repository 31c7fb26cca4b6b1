"""A double of ``onnxruntime-gpu``: the real ``onnxruntime``, with CUDA played by its CPU provider.

It computes as the real one does on a CPU, and treats the CUDA provider as ``onnxruntime-gpu`` 1.31
does, its convenient and dangerous habits included:

- a library that is missing is two lines on standard error, and a session on the CPU;
- options are refused by name and value, and so is a device that is not there; but with
  ``enable_fallback``, the default, that too becomes a session on the CPU;
- a call that fails raises an exception that tells the code of ``cudaError_t`` in words alone, and
  after a code that CUDA holds on to, all that follow do.

The environment is the machine: ``ORT_DOUBLE_DEVICES`` (1) how many GPUs; ``ORT_DOUBLE_MISSING`` a
library that lacks; ``ORT_DOUBLE_FAIL`` ``CODE:N[@DEVICE]``: the Nth run of the process (on that
device) fails; ``ORT_DOUBLE_FAIL_ONCE`` a file: if it exists nothing fails, else it is written
then; ``ORT_DOUBLE_TRACE`` a file that gets a line for each session: JSON of its provider's options.
"""

from __future__ import annotations

import importlib.machinery
import json
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent


def _real() -> Path:
    """Return the folder of the package that this one stands before."""
    places = [p for p in sys.path if Path(p or ".").resolve() != _HERE.parent]
    spec = importlib.machinery.PathFinder.find_spec("onnxruntime", places)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


__path__ = [str(_real())]
# The real package's names, with its own module-level code, under the name that it expects.
_file = Path(__path__[0]) / "__init__.py"
exec(compile(_file.read_text(), str(_file), "exec"))

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_BOOLS = ("0", "1")
_OPTIONS: dict[str, tuple[str, ...]] = {
    "device_id": (),
    "gpu_mem_limit": (),
    "cudnn_conv_algo_search": ("EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
    "use_tf32": _BOOLS,
    "arena_extend_strategy": ("kNextPowerOfTwo", "kSameAsRequested"),
    "do_copy_in_default_stream": _BOOLS,
    "cudnn_conv_use_max_workspace": _BOOLS,
}
_WORDS = {
    2: "out of memory", 214: "uncorrectable ECC error encountered",
    700: "an illegal memory access was encountered", 710: "device-side assert triggered",
    719: "unspecified launch failure",
}  # fmt: skip
_HELD_ON_TO = {214, 700, 710, 719}
_RealSession = globals()["InferenceSession"]
_RuntimeException = __import__(
    "onnxruntime.capi.onnxruntime_pybind11_state", fromlist=["x"]
).RuntimeException


class _Machine:
    """What this process has done to its GPUs."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.runs = 0
        self.held = 0

    def run(self, device: int) -> None:
        """Count a run; raises what it is to fail with."""
        told = os.environ.get("ORT_DOUBLE_FAIL", "")
        once = os.environ.get("ORT_DOUBLE_FAIL_ONCE", "")
        with self.lock:
            if self.held:
                raise _failed(self.held, device)
            plan, _, only = told.partition("@")
            if not plan or (only and int(only) != device):
                return
            code, _, number = plan.partition(":")
            self.runs += 1
            if self.runs != int(number) or (once and Path(once).exists()):
                return
            if once:
                Path(once).touch()
            if int(code) in _HELD_ON_TO:
                self.held = int(code)
            raise _failed(int(code), device)


_MACHINE = _Machine()


def _failed(code: int, device: int) -> Exception:
    cuda = "/onnxruntime_src/onnxruntime/core/providers/cuda/"
    return _RuntimeException(
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running "
        f"MatMul node. Name:'m' Status Message: {cuda}cuda_call.cc:129 void onnxruntime::CudaCall("
        f"ERRTYPE, const char*) [with ERRTYPE = cudaError] CUDA failure {code}: {_WORDS[code]} ; "
        f"GPU={device} ; hostname={socket.gethostname()} ; file={cuda}gpu_data_transfer.cc ; "
        "line=63 ; expr=cudaMemcpyAsync(to, from, bytes, kind, stream); "
    )


def get_available_providers() -> list[str]:
    """Return what the package was built with, whether or not it can be used."""
    return [CUDA, CPU]


def preload_dlls(*_: Any, **__: Any) -> None:
    """Say what is missing, where the real one does."""
    if lacks := os.environ.get("ORT_DOUBLE_MISSING"):
        print(f"Failed to load {lacks}: {lacks}: cannot open shared object file")


def _provider_options(providers: Any, provider_options: Any) -> dict[str, str] | None:
    """Return the options of the CUDA provider, None where it is not asked for."""
    given = list(provider_options or [{}] * len(providers or ()))
    for provider, options in zip(providers or (), given, strict=True):
        name, own = provider if isinstance(provider, tuple) else (provider, options)
        if name == CUDA:
            return dict(own)
    return None


def _check(options: dict[str, str]) -> int:
    """Return the device; raises what the real one raises for options that it does not take."""
    for name, value in options.items():
        if name not in _OPTIONS:
            raise RuntimeError(f'Unknown provider option: "{name}".')
        if not isinstance(value, str):
            raise RuntimeError("provider options must be strings")
        allowed = _OPTIONS[name]
        if not (value in allowed if allowed else value.isdigit()):
            raise RuntimeError(f'Failed to parse provider option "{name}": "{value}"')
    device, count = int(options.get("device_id", "0")), int(_devices())
    if device >= count:
        raise RuntimeError(
            f"Invalid device id. Device id should be less than total number of devices ({count})"
        )
    return device


def _devices() -> str:
    return os.environ.get("ORT_DOUBLE_DEVICES", "1")


def _log(level: str, place: str, text: str) -> None:
    colour = {"E": "1;31", "W": "0;93"}[level]
    line = f"\x1b[{colour}m2026-01-01 00:00:00.0 [{level}:onnxruntime:Default, {place}] {text}"
    os.write(2, f"{line}\x1b[m\n".encode())


def _tell_missing(library: str) -> None:
    _log(
        "E", "provider_bridge_ort.cc:2458 operator()",
        "/onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:2043 onnxruntime::"
        "Provider& onnxruntime::ProviderLibrary::Get() [ONNXRuntimeError] : 1 : FAIL : Failed to "
        "load library /opt/capi/libonnxruntime_providers_cuda.so with error: "
        f"{library}: cannot open shared object file: No such file or directory",
    )  # fmt: skip
    _log(
        "W", "onnxruntime_pybind_state.cc:1295 CreateExecutionProviderFactoryInstance",
        "Failed to create CUDAExecutionProvider. Require cuDNN 9.* and CUDA 13.*. Please install "
        "all dependencies as mentioned in the GPU requirements page",
    )  # fmt: skip


class InferenceSession(_RealSession):  # type: ignore[misc,valid-type]
    """A session of the real package on the CPU that answers for CUDA where it was asked for."""

    def __init__(
        self,
        path_or_bytes: Any,
        sess_options: Any = None,
        providers: Any = None,
        provider_options: Any = None,
        **kwargs: Any,
    ) -> None:
        self._device: int | None = None
        asked = _provider_options(providers, provider_options)
        if asked is not None and (lacks := os.environ.get("ORT_DOUBLE_MISSING")):
            _tell_missing(lacks)
        elif asked is not None:
            try:
                self._device = _check(asked)
            except RuntimeError as error:
                if not int(kwargs.get("enable_fallback", 1)):
                    raise
                print(f"EP Error {error} when using {providers}\nFalling back to CPU")
        super().__init__(path_or_bytes, sess_options, [CPU], **kwargs)
        if asked is not None and (trace := os.environ.get("ORT_DOUBLE_TRACE")):
            with open(trace, "a") as file:
                file.write(json.dumps(asked) + "\n")

    def get_providers(self) -> list[str]:
        """Return the providers that the session has, which need not be those asked for."""
        return [CPU] if self._device is None else [CUDA, CPU]

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run as a GPU would, or fail as one."""
        if self._device is not None:
            _MACHINE.run(self._device)
        return super().run(*args, **kwargs)

    def run_with_iobinding(self, *args: Any, **kwargs: Any) -> None:
        """Run as a GPU would, or fail as one."""
        if self._device is not None:
            _MACHINE.run(self._device)
        super().run_with_iobinding(*args, **kwargs)
