"""Reads an ONNX file without its weights: the graph, and of large constants only type and shape.

Weights are most of a model and nothing here looks at them, so they are skipped where they lie
in the file instead of being parsed. Field numbers are those of onnx.proto (onnx 1.17):
ModelProto.graph 7, GraphProto.initializer 5, and of TensorProto dims 1, data_type 2, name 8,
external_data 13, data_location 14.
"""

from __future__ import annotations

import mmap
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from serving.errors import LoadError
from serving.formats.wire import LENGTH, Buffer, Field, WireError, fields, length_prefixed

LARGE_TENSOR_BYTES = 4096
"""Constants whose field is longer are kept without their data."""
PROTOBUF_LIMIT_BYTES = 2**31 - 1
SKIPPED = "skipped"
"""Key of the external_data entry that marks a constant whose data stayed in the model file."""

_GRAPH, _INITIALIZER = 7, 5
_KEPT_OF_TENSOR = frozenset((1, 2, 8, 13, 14))
_EXTERNAL = b"\x70\x01"  # data_location (14) = EXTERNAL (1)
_SKIPPED_ENTRY = length_prefixed(13, length_prefixed(1, SKIPPED.encode()))


def read_skeleton(path: Path) -> onnx.ModelProto:
    """Return the model of a file, large constants marked as skipped; raises ``LoadError``."""
    size = path.stat().st_size
    if size == 0:
        raise LoadError("the file is empty", code="broken_model", fix="export it again")
    if size > PROTOBUF_LIMIT_BYTES:
        raise LoadError(
            "the ONNX file is larger than 2 GiB, which protobuf cannot hold",
            code="broken_model",
            fix="save its weights as external data",
        )
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            model = onnx.ModelProto.FromString(_model_bytes(data))
        except (WireError, DecodeError) as error:
            why = str(error) if isinstance(error, WireError) else "a part of it has another schema"
            raise LoadError(
                f"the file is not a whole ONNX model: {why}",
                code="broken_model",
                fix="copy or export it again",
            ) from error
    return model


def _model_bytes(data: Buffer) -> bytes:
    out = bytearray()
    for field in fields(data, 0, len(data)):
        if field.number == _GRAPH and field.type == LENGTH:
            out += length_prefixed(_GRAPH, _graph_bytes(data, field))
        else:
            out += data[field.begin : field.end]
    return bytes(out)


def _graph_bytes(data: Buffer, graph: Field) -> bytes:
    out = bytearray()
    for field in fields(data, graph.start, graph.end):
        is_tensor = field.number == _INITIALIZER and field.type == LENGTH
        if is_tensor and field.end - field.start > LARGE_TENSOR_BYTES:
            out += length_prefixed(_INITIALIZER, _tensor_bytes(data, field))
        else:
            out += data[field.begin : field.end]
    return bytes(out)


def _tensor_bytes(data: Buffer, tensor: Field) -> bytes:
    out = bytearray()
    for field in fields(data, tensor.start, tensor.end):
        if field.number in _KEPT_OF_TENSOR:
            out += data[field.begin : field.end]
    return bytes(out + _EXTERNAL + _SKIPPED_ENTRY)
