"""Descriptions of servables on the wire, and back again."""

from __future__ import annotations

from collections.abc import Sequence

from serving.request import Description
from serving.tensor import ANY, BatchAxes, Dim, Signature, TensorSpec
from serving.v1.stubs import serving_v1_pb2 as pb
from serving.v1.tensors import DTYPES

_DTYPES = {**DTYPES, ANY.name: ANY}


def to_message(description: Description) -> pb.DescribeResponse:
    """Return what ``Describe`` answers."""
    batch, signature = description.batch, description.signature
    return pb.DescribeResponse(
        servable=description.servable,
        version=description.version,
        versions=description.versions,
        ready=description.ready,
        inputs=_specs(signature.inputs, batch.inputs if batch.batched else ()),
        outputs=_specs(signature.outputs, batch.outputs if batch.batched else ()),
        batched=batch.batched,
        batching=batch.reason,
        max_batch_size=description.max_batch_size if batch.batched else 0,
        platform=description.platform,
        labels=description.labels,
        method=description.method,
        methods=description.methods,
    )


def from_message(message: pb.DescribeResponse) -> Description:
    """Return what the message says; raises KeyError for a dtype that is not known here."""
    batch = BatchAxes(
        message.batched,
        message.batching,
        _axes(message.inputs) if message.batched else (),
        _axes(message.outputs) if message.batched else (),
    )
    return Description(
        servable=message.servable,
        version=message.version,
        signature=Signature(
            tuple(_spec(spec) for spec in message.inputs),
            tuple(_spec(spec) for spec in message.outputs),
        ),
        batch=batch,
        max_batch_size=message.max_batch_size,
        platform=message.platform,
        ready=message.ready,
        versions=tuple(message.versions),
        labels=dict(message.labels),
        method=message.method,
        methods=tuple(message.methods),
    )


def _specs(specs: Sequence[TensorSpec], axes: Sequence[int | None]) -> list[pb.TensorSpec]:
    messages = []
    for index, spec in enumerate(specs):
        message = pb.TensorSpec(
            name=spec.name,
            dtype=spec.dtype.name,
            shape=[_dim(dim) for dim in spec.shape or ()],
            any_rank=spec.shape is None,
            json=spec.json,
        )
        axis = axes[index] if index < len(axes) else None
        if axis is not None:
            message.batch_axis = axis
        messages.append(message)
    return messages


def _dim(dim: Dim) -> pb.Dim:
    return pb.Dim(size=-1, name=dim) if isinstance(dim, str) else pb.Dim(size=dim)


def _spec(message: pb.TensorSpec) -> TensorSpec:
    shape = tuple(dim.name if dim.size < 0 else dim.size for dim in message.shape)
    return TensorSpec(
        message.name, _DTYPES[message.dtype], None if message.any_rank else shape, message.json
    )


def _axes(messages: Sequence[pb.TensorSpec]) -> tuple[int | None, ...]:
    return tuple(m.batch_axis if m.HasField("batch_axis") else None for m in messages)
