"""ONNX Runtime's CUDA provider, taken strictly: it computes on the GPU, or there is an error.

The engine itself treats the provider as a wish. Where a library of CUDA is missing it writes a line
to its log and goes on with the CPU; where a device fails, its Python wrapper would do the same.
Nothing is measured about two runs of a model at once, so a worker runs one after the other.
Options as in https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Mapping, Tuple, Union

from serving.backends.base import BackendError, DeviceLost, MemoryExhausted

PROVIDER = "CUDAExecutionProvider"

OPTIONS = ("gpu_mem_limit_mb", "cudnn_conv_algo_search", "use_tf32")
_SEARCHES = ("heuristic", "exhaustive", "default")
_SWITCH = {"true": "1", "false": "0"}

LOST = frozenset(
    {
        3, 4, 46, 100, 201, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721,
        802, 803, 805, 806, 807, 810, 911, 999,
    }
)  # fmt: skip
"""Codes of cudaError_t after which a process's hold on its device is beyond use."""

_FAILURE = re.compile(r"CUDA failure (\d+)")
_NO_MEMORY = re.compile(
    r"CUDA failure 2:|_STATUS_ALLOC_FAILED|Failed to allocate memory|bad_alloc|bad allocation",
    re.IGNORECASE,
)
_LOST_WORDS = re.compile(r"device-side assert|uncorrectable ECC", re.IGNORECASE)
# What the engine says of a failed call beside its cause: the machine's name, files and C++.
_PLACE = re.compile(r" ; GPU=-?\d+ ; hostname=.*?expr=[^;]*;?")

_LINE = re.compile(r"\[([EW]):onnxruntime:[^\]]*\] (.*)")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_MISSING = re.compile(r"with error: (\S+): cannot open shared object file")
_REQUIRED = re.compile(r"Require (.+?)\. Please")


@dataclass(frozen=True)
class Options:
    """What a servable may ask for: bytes in MiB (0: no limit), the search for convolutions, TF32.

    The engine's own search is exhaustive, and begins anew for every shape; batches have many.
    """

    gpu_mem_limit_mb: int = 0
    cudnn_conv_algo_search: str = "heuristic"
    use_tf32: str = "true"

    @staticmethod
    def parse(told: Mapping[str, str]) -> "Options":
        """Read settings; raises BackendError naming the option, what it takes and what it got."""
        for name in told:
            if name not in OPTIONS:
                near = difflib.get_close_matches(name, OPTIONS, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(OPTIONS)}"
                raise BackendError(f"ONNX Runtime has no option {name!r} ({hint})")
        limit = told.get("gpu_mem_limit_mb", "")
        if limit and not (limit.isdigit() and 1 <= int(limit) <= 1 << 20):
            raise _wrong("gpu_mem_limit_mb", "a number from 1 to 1048576", limit)
        search = told.get("cudnn_conv_algo_search", _SEARCHES[0])
        if search not in _SEARCHES:
            raise _wrong("cudnn_conv_algo_search", " or ".join(_SEARCHES), search)
        tf32 = told.get("use_tf32", "true")
        if tf32 not in _SWITCH:
            raise _wrong("use_tf32", "true or false", tf32)
        return Options(int(limit or 0), search, tf32)

    def provider(self, device_id: int) -> Tuple[str, Dict[str, str]]:
        """Return the provider on one device, as a session takes it."""
        told = {
            "device_id": str(device_id),
            "cudnn_conv_algo_search": self.cudnn_conv_algo_search.upper(),
            "use_tf32": _SWITCH[self.use_tf32],
        }
        if self.gpu_mem_limit_mb:
            told["gpu_mem_limit"] = str(self.gpu_mem_limit_mb << 20)
        return PROVIDER, told


def _wrong(name: str, takes: str, given: str) -> BackendError:
    return BackendError(f"ONNX Runtime option {name!r} takes {takes}, given {given!r}")


def without_place(text: str) -> str:
    """Return a failure's text without the machine's name and the engine's source."""
    return _PLACE.sub("", text)


def failure(text: str) -> BackendError:
    """Return the error that a text of the engine means; its kind is told in words alone."""
    codes = {int(code) for code in _FAILURE.findall(text)}
    if codes & LOST or _LOST_WORDS.search(text):
        return DeviceLost(f"the GPU is lost to this process: {text}")
    return (MemoryExhausted if _NO_MEMORY.search(text) else BackendError)(text)


def take_hold(ort: Any, device_id: int, refusal: Callable[[BaseException], BackendError]) -> None:
    """Have the engine compute on a device once, so that what is missing is known at the start.

    Raises BackendError: with the library that is missing, or with what the engine's log said.
    ``refusal`` turns an exception of the engine into ours.
    """
    if PROVIDER not in ort.get_available_providers():
        raise BackendError(
            f"onnxruntime {ort.__version__} was built without CUDA (install onnxruntime-gpu for "
            "the interpreter of the GPU's workers, in place of onnxruntime)"
        )
    with _standard_error() as said:
        if hasattr(ort, "preload_dlls"):  # since 1.21: finds libraries that pip has installed
            ort.preload_dlls()
        try:
            session = ort.InferenceSession(
                _smallest_model(), providers=[Options().provider(device_id)], enable_fallback=0
            )
            on_gpu = PROVIDER in session.get_providers()
            if on_gpu:
                session.run(None, {"x": _zero()})
        except Exception as error:  # ORT raises a family of types without a common base
            raise refusal(error) from error
    if not on_gpu:
        raise BackendError(fell_back("".join(said)))


def fell_back(log: str) -> str:
    """Say why the engine went to the CPU, from what its log said; pure."""
    lines = [_LINE.search(line) for line in _COLOUR.sub("", log).splitlines()]
    errors = [found.group(2) for found in lines if found and found.group(1) == "E"]
    missing = _MISSING.search(" ".join(errors))
    required = _REQUIRED.search(log)
    why = f"it needs {missing.group(1)}, which cannot be found" if missing else ""
    if not why and errors:
        why = re.sub(r"(?:/[\w.\-+]+){2,}/?", "…", "; ".join(errors))[:600]
    need = f" (this build requires {required.group(1)})" if required else ""
    return "ONNX Runtime cannot use CUDA: " + (why or "its log does not say why") + need


@contextlib.contextmanager
def _standard_error() -> Iterator[List[str]]:
    """Catch what is written to standard error meanwhile; it is passed on in the end.

    The engine's log has no other end that Python could hold. What the engine's own Python prints
    goes the same way.
    """
    said: List[str] = []
    kept = os.dup(2)
    try:
        with tempfile.TemporaryFile() as file, contextlib.redirect_stdout(sys.stderr):
            os.dup2(file.fileno(), 2)
            try:
                yield said
            finally:
                os.dup2(kept, 2)
                file.seek(0)
                data = file.read()
                said.append(data.decode(errors="replace"))
                os.write(2, data)
    finally:
        os.close(kept)


def _zero() -> Any:
    import numpy as np

    return np.zeros(1, np.float32)


def _smallest_model() -> bytes:
    """Return an ONNX model of one Relu on one number, written by hand: ``onnx`` may be missing.

    Field numbers are those of onnx.proto.
    """
    one = _field(1, 1)
    shape = _field(2, _field(1, one))
    number = _field(2, _field(1, _field(1, 1) + shape))
    node = _field(1, b"x") + _field(2, b"y") + _field(4, b"Relu")
    graph = _field(1, node) + _field(2, b"g")
    graph += _field(11, _field(1, b"x") + number) + _field(12, _field(1, b"y") + number)
    return _field(1, 8) + _field(7, graph) + _field(8, _field(2, 13))


def _field(number: int, value: Union[int, bytes]) -> bytes:
    """Write a protobuf field: a small number, or bytes of a length below 128."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    return bytes([number << 3 | 2, len(value)]) + value
