"""The settings a version really runs with, as the ``ModelConfig`` that Triton's clients read; pure.

Given to clients for every servable, whatever it is set up by. Only what is in effect is in it: a
setting of ``config.pbtxt`` that is not honoured is left out.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor

from serving.repository.settings import ServableSettings
from serving.repository.stubs import triton_model_config_pb2 as pb
from serving.repository.triton_folder import THREADS_KEY, TritonFolder
from serving.repository.version_policy import AllVersions, LatestVersions
from serving.tensor import ANY, BatchAxes, Signature, TensorSpec


def effective_config(
    name: str,
    platform: str,
    backend: str,
    model_file: str,
    settings: ServableSettings,
    signature: Signature,
    batch: BatchAxes,
    triton: TritonFolder | None,
) -> Any:
    """Return the ``ModelConfig`` message of one version.

    ``max_batch_size`` is what ``config.pbtxt`` says, else it is above 0 where every tensor counts
    rows on axis 0; ``dims`` leave out that axis then. A tensor with no other has ``dims`` of 1,
    reshaped to none.
    """
    config = pb.ModelConfig(
        name=name, platform=platform, backend=backend, default_model_filename=model_file
    )
    config.max_batch_size = _rows(settings, batch, triton)
    written = triton.config if triton else pb.ModelConfig()
    formats = {tensor.name: tensor.format for tensor in written.input}
    for spec in signature.inputs:
        config.input.add(format=formats.get(spec.name, 0), **_tensor(spec, config.max_batch_size))
    labels = {tensor.name: tensor.label_filename for tensor in written.output}
    for spec in signature.outputs:
        tensor = _tensor(spec, config.max_batch_size)
        config.output.add(label_filename=labels.get(spec.name, ""), **tensor)
    _set_versions(config.version_policy, settings)
    if batch.batched:
        queue = config.dynamic_batching
        queue.max_queue_delay_microseconds = round((settings.max_queue_delay_ms or 0) * 1e3)
        queue.priority_levels = written.dynamic_batching.priority_levels
        queue.default_queue_policy.max_queue_size = settings.max_queue_size
        queue.default_queue_policy.allow_timeout_override = True
    config.model_warmup.extend(written.model_warmup)
    if settings.threads:
        config.parameters[THREADS_KEY].string_value = str(settings.threads)
    return config


def config_json(config: Any) -> dict[str, Any]:
    """Return a message as Triton's JSON: names as in ``config.pbtxt``, every number a number.

    Protobuf's own JSON writes 64-bit numbers as strings, which Triton's does not.
    """
    return {
        field.name: _field_json(field, getattr(config, field.name))
        for field in config.DESCRIPTOR.fields
        if not field.has_presence or config.HasField(field.name)
    }


def config_bytes(document: dict[str, Any]) -> bytes:
    """Return what ``config_json`` made as the bytes of a ``ModelConfig`` message."""
    data: bytes = json_format.ParseDict(document, pb.ModelConfig()).SerializeToString()
    return data


def _field_json(field: FieldDescriptor, value: Any) -> Any:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        inner = entry.fields_by_name["value"]
        return {str(key): _one_json(inner, value[key]) for key in sorted(value)}
    if isinstance(value, MutableSequence):
        return [_one_json(field, item) for item in value]
    return _one_json(field, value)


def _one_json(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        return config_json(value)
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    return value


def _rows(settings: ServableSettings, batch: BatchAxes, triton: TritonFolder | None) -> int:
    if triton is not None and triton.declaration.max_batch_size is not None:
        return triton.declaration.max_batch_size
    first = batch.batched and all(axis == 0 for axis in (*batch.inputs, *batch.outputs))
    return settings.max_batch_size if first else 0


def _tensor(spec: TensorSpec, rows: int) -> dict[str, Any]:
    shape = ("",) if spec.shape is None else spec.shape
    sizes = [d if isinstance(d, int) and d >= 0 else -1 for d in shape]
    name = "STRING" if spec.dtype.is_bytes else spec.dtype.name
    if spec.dtype is ANY:
        name = "INVALID"  # Triton's word for no type in particular
    told = {"name": spec.name, "data_type": pb.DataType.Value(f"TYPE_{name}")}
    dims = sizes[1:] if rows else sizes
    if dims:
        return {**told, "dims": dims}
    # Triton has no tensor without sizes, and clients look for them.
    return {**told, "dims": [1], "reshape": pb.ModelTensorReshape()}


def _set_versions(message: Any, settings: ServableSettings) -> None:
    policy = settings.versions
    if isinstance(policy, AllVersions):
        message.all.SetInParent()
    elif isinstance(policy, LatestVersions):
        message.latest.num_versions = policy.count
    else:
        message.specific.versions.extend(policy.versions)
