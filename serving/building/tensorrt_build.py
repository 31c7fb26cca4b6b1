"""Builds one engine: ONNX through TensorRT's parser, profiles, settings, timing cache, file."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.backends.tensorrt import faults
from serving.backends.tensorrt.description import FILE, Description
from serving.backends.tensorrt.library import Library
from serving.backends.tensorrt.ports import DTYPES
from serving.building.tensorrt_identity import Target, content_of
from serving.building.tensorrt_order import Order
from serving.building.tensorrt_precision import lowered
from serving.building.tensorrt_profiles import Profile, profiles
from serving.building.tensorrt_progress import monitor
from serving.building.tensorrt_timing import TimingCache
from serving.errors import LoadError
from serving.formats.progress import Progress
from serving.tensor import Signature, TensorSpec, shape_text

ENGINE = "model.plan"
_ERRORS_SHOWN = 5


@dataclass
class _Build:
    """One build's objects of TensorRT; they must go in this order, so one thing holds them."""

    library: Library
    builder: Any
    network: Any
    config: Any


def build(order: Order, target: Target, progress: Progress) -> dict[str, Any]:
    """Build into the order's folder and return what is told of it; raises LoadError."""
    assert order.folder is not None
    began = time.monotonic()
    wanted = profiles(order)
    progress.stage("reading the model")
    parts = target.parts(order, content_of(order, progress))
    source, notes = lowered(order, progress)
    made = _begin(target.library)
    # A sign of life for whoever waits: tactics that are timed are told in the log alone.
    made.library.log.alive = lambda: progress.step("building the engine")
    progress.stage("parsing the model")
    _parse(made, source)
    signature = _agreed(made.network, order.signature)
    _configure(made, order, wanted)
    timing = TimingCache(order.folder.parent, target)
    notes += timing.attach(made.config)
    progress.stage("building the engine")
    _write(order.folder / ENGINE, _built(made, progress))
    timing.keep(made.config)
    if source != order.source:
        _remove(source)
    told = Description(
        ENGINE, target.library.name, target.library.version, target.gpu, signature,
        order.batch_sizes,
    )  # fmt: skip
    (order.folder / FILE).write_text(json.dumps(told.to_json()))
    return {
        "file": ENGINE,
        "identity_parts": parts,
        "notes": notes,
        "signature": signature.to_json(),
        "gears": None,
        "took_s": time.monotonic() - began,
    }


def _begin(library: Library) -> _Build:
    trt = library.trt
    mark = library.log.mark()
    builder = trt.Builder(library.logger)
    # Strongly typed: the types of the ONNX model are those that run, none is chosen for speed.
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    config = builder.create_builder_config()
    if network is None or config is None:
        raise _failed("TensorRT cannot begin a build", library.log.since(mark))
    return _Build(library, builder, network, config)


def _parse(made: _Build, source: Path) -> None:
    parser = made.library.trt.OnnxParser(made.network, made.library.logger)
    if parser.parse_from_file(os.fspath(source)):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    shown = [_complaint(error) for error in errors[:_ERRORS_SHOWN]]
    more = len(errors) - len(shown)
    raise LoadError(
        f"{made.library.name} {made.library.version} cannot take this model: {'; '.join(shown)}"
        + (f"; and {more} more" if more > 0 else ""),
        code="unsupported_operator",
        fix="serve it on a CPU, or export it without what is named",
    )


def _complaint(error: Any) -> str:
    """Return one of the parser's errors with the node that it means."""
    text = faults.plain(error.desc())
    operator, name, number = error.node_operator(), error.node_name(), error.node()
    if not operator:
        return text
    return f"node {number} {operator}{f' {name!r}' if name else ''}: {text}"


def _agreed(network: Any, signature: Signature) -> Signature:
    """Hold the network against the model's signature; raises LoadError where they differ."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    for tensor in inputs:
        if tensor.is_shape_tensor:
            raise LoadError(
                f"input '{tensor.name}' decides shapes by its values, and no range of values is "
                "known for it",
                code="unknown_shape",
                fix="build the engine with trtexec, or serve the model on a CPU",
            )
    return Signature(
        _held_against("input", inputs, signature.inputs),
        _held_against("output", outputs, signature.outputs),
    )


def _held_against(
    what: str, tensors: list[Any], specs: tuple[TensorSpec, ...]
) -> tuple[TensorSpec, ...]:
    known = {tensor.name: tensor for tensor in tensors}
    for spec in specs:
        tensor = known.get(spec.name)
        if tensor is None:
            raise LoadError(
                f"TensorRT's network has no {what} '{spec.name}'", code="signature_differs"
            )
        if DTYPES.get(tensor.dtype.name) is not spec.dtype:
            raise LoadError(
                f"TensorRT takes {what} '{spec.name}' as {tensor.dtype.name}, the model declares "
                f"{spec.dtype}",
                code="signature_differs",
                fix="cast it inside the model and export again",
            )
        shape = tuple(int(size) for size in tensor.shape)
        if spec.shape is not None and len(spec.shape) != len(shape):
            raise LoadError(
                f"TensorRT takes {what} '{spec.name}' as {shape_text(shape)}, the model declares "
                f"{shape_text(spec.shape)}",
                code="signature_differs",
            )
    return specs


def _configure(made: _Build, order: Order, wanted: list[Profile]) -> None:
    trt, config, options = made.library.trt, made.config, order.options
    for profile in wanted:
        _add_profile(made, profile)
    # TensorRT-RTX records runs as CUDA graphs only of engines that compute in our memory.
    flag = getattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION", None)
    if flag is not None:
        config.set_flag(flag)
    if options.memory_pool_mb:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.memory_pool_mb << 20)
    if options.optimization_level >= 0:
        _require(config, "builder_optimization_level", "optimization_level", made.library)
        config.builder_optimization_level = options.optimization_level
    if options.hardware_compatibility != "none":
        _require(config, "hardware_compatibility_level", "hardware_compatibility", made.library)
        name = options.hardware_compatibility.upper().replace(
            "SAME_CAPABILITY", "SAME_COMPUTE_CAPABILITY"
        )
        config.hardware_compatibility_level = _member(
            trt.HardwareCompatibilityLevel, name, "hardware_compatibility", made.library
        )
    if options.compute_capability:
        _set_capability(made, options.compute_capability)


def _add_profile(made: _Build, ranges: Profile) -> None:
    mark = made.library.log.mark()
    profile = made.builder.create_optimization_profile()
    for name, (low, usual, high) in ranges.items():
        try:
            profile.set_shape(name, low, usual, high)
        except (ValueError, RuntimeError) as error:
            raise _failed(f"input '{name}': TensorRT refuses the profile", str(error)) from None
    if not profile or made.config.add_optimization_profile(profile) < 0:
        raise _failed("TensorRT refuses the profile", made.library.log.since(mark))


def _set_capability(made: _Build, text: str) -> None:
    """Build for a kind of GPU that need not be here: TensorRT-RTX only."""
    _require(made.config, "num_compute_capabilities", "compute_capability", made.library)
    name = "SM" + text.replace(".", "")
    capability = _member(
        made.library.trt.ComputeCapability, name, "compute_capability", made.library
    )
    mark = made.library.log.mark()
    made.config.num_compute_capabilities = 1
    if not made.config.set_compute_capability(capability, 0):
        raise _failed(f"compute capability {text} was refused", made.library.log.since(mark))


def _require(config: Any, attribute: str, option: str, library: Library) -> None:
    if not hasattr(config, attribute):
        raise LoadError(
            f"{library.name} {library.version} knows no option '{option}'",
            code="bad_option",
            fix="leave it out, or use the other TensorRT module",
        )


def _member(kind: Any, name: str, option: str, library: Library) -> Any:
    members = kind.__members__
    if name not in members:
        raise LoadError(
            f"{library.name} {library.version} takes no such value for '{option}'; it has "
            f"{', '.join(sorted(members))}",
            code="bad_option",
        )
    return members[name]


def _built(made: _Build, progress: Progress) -> Any:
    mark = made.library.log.mark()
    watch: Callable[[Any], Any] = monitor(made.library.trt, progress)
    made.config.progress_monitor = watch
    serialized = made.builder.build_serialized_network(made.network, made.config)
    if serialized is None:
        raise _failed("TensorRT built no engine", made.library.log.since(mark))
    return serialized


def _write(path: Path, serialized: Any) -> None:
    with path.open("wb") as file:
        file.write(serialized)
        file.flush()
        os.fsync(file.fileno())


def _remove(source: Path) -> None:
    source.unlink()
    source.with_name(source.name + ".data").unlink(missing_ok=True)


def _failed(what: str, words: str) -> LoadError:
    return LoadError(
        str(faults.of_tensorrt(what, words)),
        code="build_failed",
        fix="see the log for what TensorRT said before",
    )
