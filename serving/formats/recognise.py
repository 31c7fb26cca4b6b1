"""Tells what format a file has, by its content; a name decides only where content cannot.

Marks at the head of a file (sizes little-endian)::

    08 <ir version>                     ONNX, if opset_import (field 8) is there
    08 04 12 09 "MindSpore"             MindIR 1.0, if it is not
    0a <n> <version> 12 09 "MindSpore"  MindIR since 1.1
    d8|d9|da 5e 3a 7f                   encrypted by MindSpore: AES-GCM, AES-CBC, SM4-CBC
    0a <n> 0a <n> <name> 12             MindSpore checkpoint
    <u64 n> "{"                         safetensors, n bytes of JSON
    .... "MSL2"                         MindSpore Lite (flatbuffer identifier)
    "IMOD"                              OM, 256 bytes of header with the file's length
    "vtrt" "ptrt" "ftrt"                TensorRT engine
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from serving.artifact import Format
from serving.formats import om_file, tensorrt_engine
from serving.formats.wire import LENGTH, VARINT, Buffer, WireError, fields, varint

HEAD_BYTES = 512
_ENCRYPTED = (b"\xd8\x5e\x3a\x7f", b"\xd9\x5e\x3a\x7f", b"\xda\x5e\x3a\x7f")
_PRODUCER = b"\x12\x09MindSpore"
_HERE = "this build runs ONNX and MindIR, and on their devices TensorRT engines, OM and AIR"
_EXPORTED = "export the network as MindIR (mindspore.export(..., file_format='MINDIR'))"
_ANY_WAY = (
    "export that as ONNX (torch.onnx.export, or optimum-cli export onnx for a model of a hub) or "
    "MindIR (mindspore.export)"
)
_BY_TF2ONNX = "convert it to ONNX with tf2onnx"


@dataclass(frozen=True)
class Recognised:
    """A file's format and, unless it can run here, why not and the way out."""

    format: Format
    reason: str = ""


def recognise(path: Path) -> Recognised:
    """Return the format of a file; raises ``OSError`` if it cannot be read."""
    size = path.stat().st_size
    if size == 0:
        return Recognised(Format.UNKNOWN, "the file is empty; copy or export it again")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        head = data[:HEAD_BYTES]
        return (
            _by_mark(head, size, path.suffix.lower())
            or _by_message(data, head, path.suffix.lower())
            or _foreign(head, path.suffix.lower())
        )


def _by_mark(head: bytes, size: int, suffix: str) -> Recognised | None:
    if head[:4] in _ENCRYPTED:
        return _encrypted(suffix)
    if head[:4] == om_file.MAGIC:
        return _om(head, size)
    if head[:4] in tensorrt_engine.MODULES:
        return _tensorrt(head, size)
    if head[4:7] == b"MSL" and head[7:8].isdigit():
        return Recognised(
            Format.MINDSPORE_LITE,
            "MindSpore Lite models need the mindspore-lite runtime, whose backend is not part of "
            f"this build yet; {_EXPORTED}",
        )
    if len(head) > 8 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] <= size - 8:
        return Recognised(Format.SAFETENSORS, _weights_only("safetensors file", way_out=_ANY_WAY))
    return None


def _encrypted(suffix: str) -> Recognised:
    if suffix == ".ckpt":
        return Recognised(Format.CHECKPOINT, _weights_only("encrypted checkpoint", "an"))
    return Recognised(Format.MINDIR_ENCRYPTED)


def _weights_only(what: str, article: str = "a", way_out: str = _EXPORTED) -> str:
    return (
        f"{article} {what} holds weights without the network; load it into the network and "
        f"{way_out}"
    )


def _tensorrt(head: bytes, size: int) -> Recognised:
    problem = tensorrt_engine.header(head[: tensorrt_engine.HEADER_BYTES], size).problem
    if problem:
        return Recognised(Format.UNKNOWN, problem)
    return Recognised(
        Format.TENSORRT,
        "a TensorRT engine needs an NVIDIA GPU and TensorRT: start the server with --devices gpu, "
        "or serve the ONNX model it was built from",
    )


def _om(head: bytes, size: int) -> Recognised:
    """Check the header as the loader of the device would; what it would refuse is no model."""
    problem = om_file.problem(head[: om_file.HEADER_BYTES], size)
    if problem:
        return Recognised(Format.UNKNOWN, problem)
    return Recognised(
        Format.OM,
        "an OM model needs an Ascend device and CANN: start the server with --devices ascend, or "
        "serve the ONNX model it was made from",
    )


def _by_message(data: Buffer, head: bytes, suffix: str) -> Recognised | None:
    """Look at the file as a protobuf message."""
    if head[:1] == b"\x08":
        return _saved_model(head) or _onnx_or_mindir(data, head, suffix)
    if head[:1] != b"\x0a":
        return None
    if _is_mindir(head):
        return Recognised(Format.MINDIR)
    if _is_checkpoint(head):
        if suffix == ".pb":  # the nodes of a graph begin like the weights of a checkpoint
            return Recognised(Format.UNKNOWN, f"the file is a TensorFlow graph; {_BY_TF2ONNX}")
        return Recognised(Format.CHECKPOINT, _weights_only("checkpoint"))
    if suffix == ".air" and _is_message(data):
        return Recognised(
            Format.AIR,
            "an AIR model is compiled for an Ascend device by atc: start the server with --devices "
            f"ascend, or {_EXPORTED}",
        )
    return None


def _saved_model(head: bytes) -> Recognised | None:
    """TensorFlow's SavedModel{version = 1, meta_graph{meta_info ...}}: 08 01 12 <n> 0a."""
    if head[:3] != b"\x08\x01\x12":
        return None
    try:
        _, at = varint(head, 3, len(head))
    except WireError:
        return None
    if head[at : at + 1] != b"\x0a":
        return None
    return Recognised(
        Format.UNKNOWN,
        f"the file is a TensorFlow SavedModel; {_BY_TF2ONNX} (python -m tf2onnx.convert "
        "--saved-model FOLDER --output model.onnx) and put model.onnx beside it",
    )


def _onnx_or_mindir(data: Buffer, head: bytes, suffix: str) -> Recognised | None:
    """MindSpore 1.0 wrote MindIR in ONNX's schema, only without opset_import (field 8)."""
    seen: set[int] = set()
    whole = True
    try:
        for field in fields(data, 0, len(data)):
            wanted = VARINT if field.number == 1 else LENGTH
            if field.number in (1, 2, 3, 7, 8) and field.type != wanted:
                return None
            seen.add(field.number)
    except WireError:
        whole = False
    if 8 in seen:
        return Recognised(Format.ONNX)
    at = _after_number(head)
    if head[at : at + len(_PRODUCER)] == _PRODUCER:
        after = head[at + len(_PRODUCER) : at + len(_PRODUCER) + 1]
        # A file cut short lost its last fields; MindSpore's ONNX has its version (field 3) here.
        return Recognised(Format.MINDIR) if whole or after != b"\x1a" else Recognised(Format.ONNX)
    cut_short = not whole and (2 in seen or (suffix == ".onnx" and 1 in seen))
    return Recognised(Format.ONNX) if 7 in seen or cut_short else None


def _after_number(head: bytes) -> int:
    try:
        return varint(head, 1, len(head))[1]
    except WireError:
        return len(head)


def _is_mindir(head: bytes) -> bool:
    try:
        length, at = varint(head, 1, len(head))
    except WireError:
        return False
    return length < 32 and head[at + length : at + length + len(_PRODUCER)] == _PRODUCER


def _is_checkpoint(head: bytes) -> bool:
    """A first Value{tag = name, tensor = ...}: 0a <n> 0a <n> <name> 12."""
    try:
        _, at = varint(head, 1, len(head))
        if head[at : at + 1] != b"\x0a":
            return False
        length, at = varint(head, at + 1, len(head))
        name, mark = head[at : at + length], head[at + length : at + length + 1]
        return 0 < length < HEAD_BYTES and mark == b"\x12" and name.decode("utf-8").isprintable()
    except (WireError, UnicodeDecodeError):
        return False


def _is_message(data: Buffer) -> bool:
    try:
        return sum(1 for _ in fields(data, 0, len(data))) > 0
    except WireError:
        return False


def _foreign(head: bytes, suffix: str) -> Recognised:
    """Name files that people put here by mistake, with the way out."""
    for mark, at, what in (
        (b"version https://git-lfs", 0, "a Git LFS pointer, not the model; run git lfs pull"),
        (b"PK\x03\x04", 0, "a zip archive (PyTorch saves so); use torch.onnx.export"),
        (b"\x80", 0, "a Python pickle, which is never opened; use torch.onnx.export or skl2onnx"),
        (b"\x89HDF", 0, "an HDF5 file (Keras saves so); convert it to ONNX with tf2onnx"),
        (b"\x1f\x8b", 0, "gzip-compressed; unpack it"),
        (b"TFL3", 4, "a TensorFlow Lite model; convert it to ONNX with tf2onnx"),
        (b"ORTM", 4, "a model in onnxruntime's own format; keep the ONNX file it was made from"),
        (b"<", 0, "a text of HTML or XML, not a model; a download may have gone wrong"),
    ):
        if head[at : at + len(mark)] == mark:
            return Recognised(Format.UNKNOWN, f"the file is {what}")
    if suffix == ".om":
        return Recognised(Format.UNKNOWN, om_file.problem(head, len(head)))
    return Recognised(Format.UNKNOWN, f"the content is of no format that is known here; {_HERE}")
