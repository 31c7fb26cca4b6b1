"""Opens the file or files of a MindIR: decrypts them, and leaves weights where they lie.

Weights are most of a file. They are cut out before protobuf parses the rest, so that their
bytes are never copied: a weight is a view of the file mapped into memory. Field numbers:
ModelProto.graph 7, TensorProto.raw_data 9 in both schemas; weights are GraphProto.parameter 3,
or ``initializer`` 5 in ONNX's schema, which MindSpore 1.0 used.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from serving.errors import LoadError
from serving.formats.external_data import Reference, check_whole, locate
from serving.formats.mindir.broken import broken
from serving.formats.mindir.encryption import decrypt, is_encrypted
from serving.formats.mindir.stubs import mindir_pb2
from serving.formats.wire import LENGTH, Field, WireError, fields, length_prefixed

_GRAPH, _RAW_DATA = 7, 9
_PARAMETER, _INITIALIZER = 3, 5
_VARIABLES_HEADER_BYTES = 64


@dataclass(frozen=True)
class Container:
    """A parsed file: ``proto`` in one of two schemas, without the data of the main graph's weights.

    ``data`` holds that data by place: ``data[i]`` belongs to parameter (initializer) ``i``.
    """

    proto: mindir_pb2.ModelProto | mindir_pb2.LegacyModelProto
    data: tuple[memoryview, ...]

    @property
    def is_legacy(self) -> bool:
        """Return whether the file is of MindSpore 1.0, in ONNX's schema."""
        return isinstance(self.proto, mindir_pb2.LegacyModelProto)


def open_container(path: Path, key: bytes | None = None) -> Container:
    """Return the content of a file; raises ``LoadError``, and ``OSError`` if it cannot be read."""
    content = read_bytes(path, key)
    legacy = content[0] == 0x08
    try:
        stripped, data = _strip(content, _INITIALIZER if legacy else _PARAMETER)
        schema = mindir_pb2.LegacyModelProto if legacy else mindir_pb2.ModelProto
        return Container(schema.FromString(stripped), tuple(data))
    except (WireError, DecodeError) as error:
        why = str(error) if isinstance(error, WireError) else "a part of it has another schema"
        raise broken(why) from error


def read_bytes(path: Path, key: bytes | None) -> memoryview:
    """Return a file's plain content: a view of the mapped file, or what was decrypted."""
    if path.stat().st_size == 0:
        raise broken(f"the file '{path.name}' is empty")
    with path.open("rb") as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    if not is_encrypted(content[:4]):
        return content
    if key is None:
        raise LoadError(
            "the MindIR file is encrypted",
            code="key_missing",
            fix="give the key that it was exported with",
        )
    return memoryview(decrypt(content, key))


class SplitWeights:
    """The files ``<name>_variables/data_<n>`` beside a model, each opened once.

    A file begins with 64 bytes, of which the first is 1 if numbers are little-endian.
    """

    def __init__(self, folder: Path, key: bytes | None) -> None:
        self._folder = folder
        self._key = key
        self._open: dict[str, memoryview] = {}

    def view(self, tensor: str, location: str, offset: int, length: int) -> memoryview:
        """Return the bytes of one tensor; raises ``LoadError`` if they are not all there."""
        reference = Reference(tensor, location, offset, length)
        if offset < _VARIABLES_HEADER_BYTES or length < 0:
            raise broken(f"the data of weight '{tensor}' lies outside its file")
        if location not in self._open:
            path = locate(reference, self._folder)
            self._open[location] = read_bytes(path, self._key)
            if self._open[location][0] != 1:
                raise broken(f"the file '{path.name}' does not hold little-endian weights")
        content = self._open[location]
        if offset + length > len(content):
            check_whole(reference, locate(reference, self._folder))
            raise broken(f"the data of weight '{tensor}' lies outside its file")
        return content[offset : offset + length]


def _strip(content: memoryview, weights: int) -> tuple[bytes, list[memoryview]]:
    """Return the model without its weights' data, and that data."""
    out = bytearray()
    data: list[memoryview] = []
    for field in fields(content, 0, len(content)):
        if field.number == _GRAPH and field.type == LENGTH:
            out += length_prefixed(_GRAPH, _strip_graph(content, field, weights, data))
        else:
            out += content[field.begin : field.end]
    return bytes(out), data


def _strip_graph(content: memoryview, graph: Field, weights: int, data: list[memoryview]) -> bytes:
    out = bytearray()
    for field in fields(content, graph.start, graph.end):
        if field.number == weights and field.type == LENGTH:
            out += length_prefixed(weights, _strip_tensor(content, field, data))
        else:
            out += content[field.begin : field.end]
    return bytes(out)


def _strip_tensor(content: memoryview, tensor: Field, data: list[memoryview]) -> bytes:
    out = bytearray()
    found = content[:0]
    for field in fields(content, tensor.start, tensor.end):
        if field.number == _RAW_DATA and field.type == LENGTH:
            found = content[field.start : field.end]
        else:
            out += content[field.begin : field.end]
    data.append(found)
    return bytes(out)
