"""Turns a ``config.pbtxt`` into what the rest of the server works with; pure.

Queue, batching, versions and file become ``ServableSettings``, inputs and outputs a
``Declaration``; what is not honoured becomes notes, and what would change answers an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from serving.errors import ConfigError
from serving.repository import names, triton_limits, triton_warmup
from serving.repository.declaration import Declaration, DeclaredTensor
from serving.repository.instances import EVERYWHERE, Instances
from serving.repository.settings import DEFAULT_SETTINGS, ServableSettings
from serving.repository.stubs import triton_model_config_pb2 as pb
from serving.repository.triton_text import parse_config
from serving.repository.version_policy import (
    AllVersions,
    LatestVersions,
    SpecificVersions,
    VersionPolicy,
)
from serving.tensor import BY_NAME, DType

THREADS_KEY = "intra_op_thread_count"
"""The one of ONNX Runtime's ``parameters`` that is honoured."""

_MAX_THREADS = 1024


@dataclass(frozen=True)
class TritonFolder:
    """What a model folder's ``config.pbtxt`` says; ``config`` is its message, as written."""

    settings: ServableSettings
    declaration: Declaration
    notes: tuple[str, ...]
    config: Any


def read_folder(data: bytes, file: str, folder: str) -> TritonFolder:
    """Read the bytes of a ``config.pbtxt``; ``folder`` is the name of the servable's folder.

    ``file`` is the file's name for messages, relative to the model directory. Raises
    ConfigError for a mistake in it, and for what would change answers if it were ignored.
    """
    config = parse_config(data, file)
    if config.name not in ("", folder):
        raise ConfigError(
            f"{file}: name is {config.name!r}, but the folder is called {folder!r}",
            where="name", fix="rename one of the two, or remove name",
        )  # fmt: skip
    if reason := triton_limits.refusal(config):
        raise ConfigError(f"{file}: {reason}", code="not_run_here")
    max_batch_size = config.max_batch_size if config.HasField("max_batch_size") else None
    if max_batch_size is not None and max_batch_size < 0:
        raise _wrong(file, "max_batch_size", "0 or more", max_batch_size)
    declaration = Declaration(
        file,
        max_batch_size,
        tuple(_tensors(file, "input", config.input)),
        tuple(_tensors(file, "output", config.output)),
    )
    notes = (*triton_limits.remarks(config), *_parameter_notes(config))
    return TritonFolder(
        _settings(config, file),
        declaration,
        tuple(f"{names.TRITON_FILE}: {note}" for note in notes),
        config,
    )


def _settings(config: Any, file: str) -> ServableSettings:
    batching = config.dynamic_batching
    queued = batching.default_queue_policy.max_queue_size
    model_file = config.default_model_filename
    if model_file in (".", "..") or "/" in model_file or "\0" in model_file:
        raise _wrong(file, "default_model_filename", "a name without a folder", model_file)
    return ServableSettings(
        model_file=model_file or None,
        backend=_backend(config),
        instances=_instances(config),
        max_batch_size=config.max_batch_size or DEFAULT_SETTINGS.max_batch_size,
        max_queue_delay_ms=_delay_ms(batching),
        max_queue_size=queued or DEFAULT_SETTINGS.max_queue_size,
        threads=_threads(config, file),
        warmup=tuple(triton_warmup.samples(config, file)),
        versions=_versions(config.version_policy, file),
        set_keys=frozenset({"max_queue_size"} if queued else ()),
    )


def _backend(config: Any) -> Literal["onnxruntime", "tensorrt"] | None:
    """Return the engine that is asked for.

    Where Triton would run ONNX Runtime on a GPU, this server runs TensorRT: nothing is pinned.
    """
    named = config.backend or config.platform
    if named in triton_limits.TENSORRT:
        return "tensorrt"
    return "onnxruntime" if named and not triton_limits.on_gpu(config) else None


def _instances(config: Any) -> Instances:
    """Return the kinds of devices of the instance groups; AUTO leaves them open."""
    kinds: dict[str, tuple[int, ...] | None] = {}
    for group in config.instance_group:
        if group.kind == pb.ModelInstanceGroup.KIND_CPU:
            kinds["cpu"] = None
        elif group.kind == pb.ModelInstanceGroup.KIND_GPU or group.gpus:
            numbers = tuple(sorted(set(group.gpus)))
            known = kinds.get("gpu", ())
            kinds["gpu"] = None if known is None or not numbers else (*known, *numbers)
        else:
            return EVERYWHERE
    return Instances(kinds, firm=False) if kinds else EVERYWHERE


def _delay_ms(batching: Any) -> float | None:
    if not batching.HasField("max_queue_delay_microseconds"):
        return DEFAULT_SETTINGS.max_queue_delay_ms
    delay_us: int = batching.max_queue_delay_microseconds
    return delay_us / 1e3


def _versions(policy: Any, file: str) -> VersionPolicy:
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return AllVersions()
    if choice == "specific":
        versions = policy.specific.versions
        if not versions or min(versions) < 1:
            key = "version_policy.specific.versions"
            raise _wrong(file, key, "one or more numbers, each 1 or more", list(versions))
        return SpecificVersions(tuple(sorted(set(versions))))
    if choice == "latest":
        count = policy.latest.num_versions
        if count < 1:
            raise _wrong(file, "version_policy.latest.num_versions", "1 or more", count)
        return LatestVersions(count)
    return DEFAULT_SETTINGS.versions


def _threads(config: Any, file: str) -> int | None:
    """Return the engine's threads; ONNX Runtime's 0 (let it choose) is our default."""
    text = config.parameters[THREADS_KEY].string_value if THREADS_KEY in config.parameters else "0"
    if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text) <= _MAX_THREADS):
        key = f"parameters[{THREADS_KEY!r}].string_value"
        raise _wrong(file, key, f'"0" to "{_MAX_THREADS}"', text)
    return int(text) or None


def _tensors(file: str, side: str, tensors: Any) -> Iterator[DeclaredTensor]:
    seen: set[str] = set()
    for place, tensor in enumerate(tensors):
        if not tensor.name or tensor.name in seen:
            expected = "a name that no other has"
            raise _wrong(file, f"{side}[{place}].name", expected, tensor.name)
        seen.add(tensor.name)
        if any(dim < 1 and dim != -1 for dim in tensor.dims):
            expected = "sizes of 1 or more, or -1 for one that varies"
            raise _wrong(file, f"{side}[{place}].dims", expected, list(tensor.dims))
        # Without dims nothing is said: an empty shape cannot be told from one left out.
        yield DeclaredTensor(tensor.name, _dtype(tensor.data_type), tuple(tensor.dims) or None)


def _dtype(number: int) -> DType | None:
    """Return the data type of a Triton number; 0 says nothing."""
    if number == pb.TYPE_INVALID:
        return None
    name = pb.DataType.Name(number).removeprefix("TYPE_")
    return BY_NAME["BYTES" if name == "STRING" else name]


def _parameter_notes(config: Any) -> Iterator[str]:
    for key in sorted(config.parameters):
        if key != THREADS_KEY:
            yield f"not honoured: parameters {key!r}: this server knows {THREADS_KEY!r} only"


def _wrong(file: str, key: str, expected: str, given: object) -> ConfigError:
    return ConfigError(
        f"{file}: {key!r} has a wrong value", where=key, expected=expected, given=repr(given)
    )
