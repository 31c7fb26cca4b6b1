"""ONNX Runtime on CPUs, and on NVIDIA GPUs through its CUDA provider.

Inputs and outputs are bound by address to the shared pages (an IOBinding that is built once for
each set of addresses and reused: 19 µs a run against 37 when bound anew). The engine checks the
shape of every bound output against what it computes, so a wrong guess is an error, never a
silently misread buffer. Models with strings, sequences or maps cannot be bound; they are run
with plain feeds.

On a GPU it is the same: rows are bound where they lie in the shared pages, and the engine copies
them to the device and its results back. ``onnxruntime_cuda`` is what else a GPU asks for.
"""

from __future__ import annotations

import ctypes
import json
import re
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import onnxruntime as ort

from serving.backends import onnxruntime_cuda
from serving.backends.base import (
    Backend,
    BackendError,
    Device,
    Model,
    ModelSource,
    string_array,
)
from serving.backends.onnxruntime_refusals import explained
from serving.tensor import BF16, BY_ONNX, BYTES, DType, Signature, Tensor, TensorSpec

_ENGINE_TYPES = {
    "bool": 9, "uint8": 2, "uint16": 4, "uint32": 12, "uint64": 13, "int8": 3, "int16": 5,
    "int32": 6, "int64": 7, "float16": 10, "float": 1, "double": 11, "string": 8, "bfloat16": 16,
}  # fmt: skip

# ORT's texts carry build paths, line numbers and C++ signatures that help nobody.
_SOURCE = re.compile(r"/onnxruntime_src/\S+?:\d+ ")
_QUALIFIERS = re.compile(r"(?: const| mutable| noexcept| \[with [^\]]*\])*")
_PREFIX = re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")


def plain(error: BaseException) -> str:
    """Return the engine's own words without its source paths and signatures."""
    text = onnxruntime_cuda.without_place(str(error).replace("\n", " ").strip())
    found = _SOURCE.search(text)
    while found:
        text = text[: found.start()] + " " + text[_signature_end(text, found.end()) :].lstrip()
        found = _SOURCE.search(text)
    text = _PREFIX.sub("", text)
    text = text.replace("Error in execution: ", "").replace("Status Message: ", "")
    return re.sub(r"(?:/[\w.\-+]+){2,}/?", "…", re.sub(r"  +", " ", text)).strip()


def _refusal(error: BaseException) -> BackendError:
    """Return the engine's exception as ours."""
    return onnxruntime_cuda.failure(plain(error))


def _not_loaded(error: BaseException) -> BackendError:
    """Return the engine's exception on a model that it does not load as ours."""
    return onnxruntime_cuda.failure(explained(plain(error), ort.__version__))


def _signature_end(text: str, start: int) -> int:
    """Return where the C++ signature that begins at ``start`` ends, ``start`` if none does."""
    depth = 0
    for at in range(start, len(text)):
        if text[at] == "(":
            if not depth and "::" not in text[start:at]:
                return start
            depth += 1
        elif text[at] == ")":
            depth -= 1
            if not depth and text[at + 1 : at + 2] in (" ", ""):
                qualifiers = _QUALIFIERS.match(text, at + 1)
                return qualifiers.end() if qualifiers else at + 1
    return start


def open(device: Device) -> Backend:
    """Return the backend of this process; raises BackendError where the device cannot be had."""
    if device.kind not in ("cpu", "gpu"):
        raise BackendError(f"the backend 'onnxruntime' runs on cpu and gpu, not on {device}")
    if device.kind == "gpu":
        onnxruntime_cuda.take_hold(ort, device.index, _refusal)
    return OnnxRuntime(device)


class OnnxRuntime:
    """The engine; one per worker process, on a device that can be had."""

    name = "onnxruntime"
    slots = 1

    def __init__(self, device: Device) -> None:
        self._device = device

    def versions(self) -> Dict[str, str]:
        """Return ONNX Runtime's version."""
        return {"onnxruntime": ort.__version__}

    def load(self, source: ModelSource) -> Model:
        """Load an ONNX file; what runs on the CPU gets ``threads`` threads a run."""
        wanted = onnxruntime_cuda.Options.parse(source.options)
        on_gpu = self._device.kind == "gpu"
        providers = [wanted.provider(self._device.index)] if on_gpu else ["CPUExecutionProvider"]
        options = ort.SessionOptions()
        options.intra_op_num_threads = source.threads
        options.inter_op_num_threads = 1
        # A spinning thread takes the core that the master or another worker needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4
        try:
            # Without that the engine's wrapper answers a failure of the device with the CPU.
            session = ort.InferenceSession(
                source.path, options, providers=providers, enable_fallback=0
            )
        except Exception as error:  # ORT raises a family of types without a common base
            raise _not_loaded(error) from error
        if on_gpu and onnxruntime_cuda.PROVIDER not in session.get_providers():
            raise BackendError(
                f"ONNX Runtime put the model on the CPU, not on {self._device}; its log says why"
            )
        return OnnxModel(session)

    def lend(self, address: int, nbytes: int, *, writable: bool) -> None:
        """Do nothing: the engine reads shared memory as it is."""

    def take_back(self, address: int) -> None:
        """Do nothing, as for ``lend``."""

    def close(self) -> None:
        """Do nothing: a CPU is not let go of, and a GPU with this process."""


class OnnxModel:
    """One session. Runs release the GIL, so slots of a worker may share it."""

    gears = None

    def __init__(self, session: Any) -> None:
        self._session = session
        self.signature = Signature(
            tuple(_spec(node, output=False) for node in session.get_inputs()),
            tuple(_spec(node, output=True) for node in session.get_outputs()),
        )
        specs = self.signature.inputs + self.signature.outputs
        self._bindable = not any(s.dtype.is_bytes for s in specs)
        self._engine_types = {s.name: _engine_type(s.dtype) for s in specs}

    def bind(self, inputs: Sequence[Tensor], outputs: Optional[Sequence[Tensor]]) -> Any:
        """Tie the session to the arrays, or take them as plain feeds where it must be so."""
        if not self._bindable:
            return _Feed(self._session, self.signature, inputs)
        return _Bound(self._session, self.signature, inputs, outputs, self._engine_types)

    def close(self) -> None:
        """Let the session go."""
        self._session = None


class _Bound:
    """An IOBinding over fixed addresses."""

    def __init__(
        self,
        session: Any,
        signature: Signature,
        inputs: Sequence[Tensor],
        outputs: Optional[Sequence[Tensor]],
        engine_types: Dict[str, Any],
    ) -> None:
        self._session = session
        self._signature = signature
        self._options = _run_options()
        # ORT keeps addresses only: the arrays must be kept alive here.
        self._held = (tuple(inputs), tuple(outputs or ()))
        self._known = outputs is not None
        self._echoes = _echoes(inputs, outputs or ())
        self._binding = session.io_binding()
        try:
            for tensor in inputs:
                self._binding.bind_input(
                    tensor.name, "cpu", 0, engine_types[tensor.name], tensor.shape, _address(tensor)
                )
            for tensor in outputs or ():
                self._binding.bind_output(
                    tensor.name, "cpu", 0, engine_types[tensor.name], tensor.shape, _address(tensor)
                )
        except Exception as error:
            raise _refusal(error) from error

    def run(self) -> Optional[Tuple[Tensor, ...]]:
        """Run once in place."""
        try:
            if not self._known:
                # Anew each time: a binding keeps the values of its last run and then refuses
                # outputs of any other size.
                self._binding.clear_binding_outputs()
                for spec in self._signature.outputs:
                    self._binding.bind_output(spec.name, "cpu")
            self._session.run_with_iobinding(self._binding, self._options)
        except Exception as error:
            raise _refusal(error) from error
        if self._known:
            for target, source in self._echoes:
                _echo(target, source)
            return None
        values = self._binding.get_outputs()
        # The engine answers an input that is an output as well with the input's own memory.
        mine = {tensor.name for tensor in self._held[0]}
        return tuple(
            _from_value(spec, value, copied=spec.name in mine)
            for spec, value in zip(self._signature.outputs, values)
        )

    def cancel(self) -> None:
        """Set the engine's terminate flag; it is looked at between nodes."""
        self._options.terminate = True


def _echoes(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> Tuple[Tuple[Tensor, Tensor], ...]:
    """Pair outputs that are inputs, which the engine never writes, with these."""
    given = {tensor.name: tensor for tensor in inputs}
    return tuple((tensor, given[tensor.name]) for tensor in outputs if tensor.name in given)


def _echo(output: Tensor, given: Tensor) -> None:
    if output.shape != given.shape:
        raise BackendError(
            f"output {output.name!r} is the input of that name, of shape {list(given.shape)}, not "
            f"{list(output.shape)}"
        )
    assert output.array is not None
    assert given.array is not None
    np.copyto(output.array, given.array)


class _Feed:
    """Plain feeds, for models with strings, sequences or maps."""

    def __init__(self, session: Any, signature: Signature, inputs: Sequence[Tensor]) -> None:
        self._session = session
        self._signature = signature
        self._inputs = tuple(inputs)
        self._options = _run_options()

    def run(self) -> Tuple[Tensor, ...]:
        """Run once; strings become Python objects here and only here."""
        feed: Dict[str, Any] = {}
        for tensor in self._inputs:
            if tensor.dtype.is_bytes:
                feed[tensor.name] = string_array(tensor)
            elif tensor.dtype is BF16:
                feed[tensor.name] = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(
                    tensor.array, BF16.onnx
                )
            else:
                feed[tensor.name] = tensor.array
        try:
            values = self._session.run(None, feed, self._options)
        except Exception as error:
            raise _refusal(error) from error
        return tuple(
            _from_python(spec, value) for spec, value in zip(self._signature.outputs, values)
        )

    def cancel(self) -> None:
        """Set the engine's terminate flag; it is looked at between nodes."""
        self._options.terminate = True


def _run_options() -> Any:
    options = ort.RunOptions()
    options.log_severity_level = 4
    # The default, spelled out: ORT's wrapper asks for this entry at every run, and where it is
    # missing the answer is a C++ exception, which took 37 of a run's 41 µs.
    options.add_run_config_entry("gpu_graph_id", "0")
    return options


def _spec(node: Any, *, output: bool) -> TensorSpec:
    kind: str = node.type
    if not kind.startswith("tensor("):
        if not output:
            raise BackendError(f"input {node.name!r} is a {kind}; only tensors can be served")
        return TensorSpec(node.name, BYTES, ("",), json=True)
    element = kind[len("tensor(") : -1]
    if element not in _ENGINE_TYPES:
        raise BackendError(f"tensor {node.name!r} holds {element}, which cannot be served")
    dims = tuple(d if isinstance(d, int) else ("" if d is None else str(d)) for d in node.shape)
    return TensorSpec(node.name, BY_ONNX[_ENGINE_TYPES[element]], dims)


def _engine_type(dtype: DType) -> Any:
    return BF16.onnx if dtype is BF16 else dtype.numpy


def _address(tensor: Tensor) -> int:
    assert tensor.array is not None
    return int(tensor.array.__array_interface__["data"][0])


def _from_value(spec: TensorSpec, value: Any, *, copied: bool) -> Tensor:
    """Turn an OrtValue into a tensor, without copying unless that is asked for."""
    if spec.dtype is not BF16:
        array = np.array(value.numpy()) if copied else value.numpy()
        return Tensor(spec.name, spec.dtype, array.shape, array)
    shape = tuple(value.shape())
    count = int(np.prod(shape, dtype=np.int64))
    raw = (ctypes.c_uint16 * count).from_address(value.data_ptr()) if count else ()
    bits = np.array(raw, dtype=np.uint16)  # a copy: the OrtValue dies with this call
    return Tensor(spec.name, BF16, shape, bits.reshape(shape))


def _from_python(spec: TensorSpec, value: Any) -> Tensor:
    """Turn what ``session.run`` returned into a tensor."""
    if spec.json:
        items = _documents(value)
        return Tensor(spec.name, BYTES, (len(items),), items=items)
    if value is None:
        raise BackendError(f"output {spec.name!r} is empty (an optional without a value)")
    array = np.asarray(value)
    if spec.dtype.is_bytes:
        items = [str(text).encode() for text in array.reshape(-1).tolist()]
        return Tensor(spec.name, BYTES, array.shape, items=items)
    return Tensor(spec.name, spec.dtype, array.shape, np.ascontiguousarray(array))


def _documents(value: Any) -> List[bytes]:
    """Write a sequence as one JSON document per element; a map or an optional is one document."""
    elements = value if isinstance(value, list) else [value]
    return [_document(element) for element in elements]


def _document(value: Any) -> bytes:
    return json.dumps(_jsonable(value), ensure_ascii=False, separators=(",", ":")).encode()


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    if isinstance(value, np.ndarray):
        return _finite(value.tolist())
    return _finite(value.item() if isinstance(value, np.generic) else value)


def _finite(value: Any) -> Any:
    """Write NaN and infinities as the strings this server uses for them in JSON."""
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and value - value != 0.0:
        return "NaN" if value != value else ("Infinity" if value > 0 else "-Infinity")
    return value
