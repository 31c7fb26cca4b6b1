"""The files beside an ONNX model that hold its weights: which they are, and that they are whole.

An entry names a file relative to the model's folder (onnx.proto, TensorProto.external_data). A
model must not reach out of that folder, so every other place is refused, symbolic links included.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Iterator

import onnx

from serving.errors import LoadError
from serving.formats.skeleton import SKIPPED


@dataclass(frozen=True)
class Reference:
    """One tensor's place in a file: ``length`` bytes from ``offset`` on."""

    tensor: str
    location: str
    offset: int
    length: int


def external_files(model: onnx.ModelProto, folder: Path) -> dict[str, Path]:
    """Return the files by location, sorted; raises ``LoadError`` for one that cannot be used."""
    found: dict[str, Path] = {}
    for reference in references(model):
        if reference.location not in found:
            found[reference.location] = locate(reference, folder)
        check_whole(reference, found[reference.location])
    return dict(sorted(found.items()))


def references(model: onnx.ModelProto) -> Iterator[Reference]:
    """Yield where the tensors outside the model file lie."""
    graphs = [model.graph]
    nodes = [n for function in model.functions for n in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            nodes += graph.node
            yield from _external(graph.initializer)
            continue
        for attribute in nodes.pop().attribute:
            graphs += [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
            yield from _external([attribute.t] if attribute.HasField("t") else attribute.tensors)


def _external(tensors: list[onnx.TensorProto]) -> Iterator[Reference]:
    for tensor in tensors:
        entries = {e.key: e.value for e in tensor.external_data}
        if tensor.data_location != onnx.TensorProto.EXTERNAL or SKIPPED in entries:
            continue
        try:
            offset, length = int(entries.get("offset", 0)), int(entries.get("length", -1))
        except ValueError as error:
            raise _broken(tensor.name, "has a place that is not a number") from error
        if length < 0:
            length = _byte_count(tensor)
        if offset < 0:
            raise _broken(tensor.name, "lies before the start of its file")
        yield Reference(tensor.name, entries.get("location", ""), offset, length)


def _byte_count(tensor: onnx.TensorProto) -> int:
    try:
        bits = int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize) * 8
    except KeyError as error:
        raise _broken(tensor.name, "has an unknown element type") from error
    if onnx.TensorProto.DataType.Name(tensor.data_type) in ("INT4", "UINT4", "FLOAT4E2M1"):
        bits = 4
    count: int = bits
    for dim in tensor.dims:
        count *= int(dim)
    return (count + 7) // 8


def _broken(tensor: str, why: str) -> LoadError:
    return LoadError(f"constant '{tensor}' {why}", code="broken_model", fix="export it again")


def locate(reference: Reference, folder: Path) -> Path:
    """Return the file of a reference; raises ``LoadError`` if it is missing or outside."""
    location = reference.location
    parts = PurePosixPath(location.replace("\\", "/"))
    anchored = parts.is_absolute() or PureWindowsPath(location).anchor
    if not location or "\0" in location or anchored or ".." in parts.parts:
        raise _outside(reference)
    path = folder / location
    if not path.resolve().is_relative_to(folder.resolve()):
        raise _outside(reference)
    if not path.is_file():
        inside = parts.parent.as_posix()
        raise LoadError(
            f"the file '{parts}' with the model's weights is missing",
            code="weights_missing",
            fix="copy it beside the model"
            if inside == "."
            else f"copy the folder '{inside}' beside the model, under that name",
        )
    return path


def _outside(reference: Reference) -> LoadError:
    return LoadError(
        f"constant '{reference.tensor}' is kept in a file outside the model's folder",
        code="weights_outside",
        fix="save the weights beside the model, under a relative name",
    )


def check_whole(reference: Reference, path: Path) -> None:
    """Raise ``LoadError`` if the file is too short for a reference."""
    size = path.stat().st_size
    if reference.offset + reference.length > size:
        raise LoadError(
            f"the file '{path.name}' with the model's weights is cut short",
            code="weights_truncated",
            expected=f"at least {reference.offset + reference.length} bytes",
            given=f"{size}",
            fix="copy it again",
        )
