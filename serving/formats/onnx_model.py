"""Describes an ONNX file: signature, weights' files, digest, and what is proved of it.

The weights are never loaded: constants are skipped where they lie, files of external data are
only looked at for their size and streamed through the digest.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx

from serving.artifact import Artifact, Format
from serving.errors import LoadError
from serving.formats.batch_axis import prove
from serving.formats.batch_axis.claim import fixed_length, real_inputs
from serving.formats.batch_axis.inference import infer
from serving.formats.batch_axis.step import Refusal
from serving.formats.external_data import external_files
from serving.formats.skeleton import read_skeleton
from serving.formats.static_shapes import has_static_outputs
from serving.tensor import BY_ONNX, BYTES, Dim, DType, Signature, TensorSpec

BACKEND = "onnxruntime"
_CHUNK_BYTES = 1 << 20


def describe(path: Path) -> Artifact:
    """Return everything that is known of an ONNX file; raises ``LoadError``.

    Whether onnxruntime has every operator and opset of it is left to onnxruntime at load: its
    limits can only be asked of the engine itself, which no helper imports.
    """
    model = read_skeleton(path)
    if not model.HasField("graph") or not model.graph.output:
        raise LoadError("the ONNX file holds no graph with outputs", code="broken_model")
    signature = read_signature(model)
    files = external_files(model, path.parent)
    paths = [path, *files.values()]
    return Artifact(
        Format.ONNX,
        backend=BACKEND,
        signature=signature,
        batch=prove(model),
        static_outputs=has_static_outputs(model.graph),
        digest=_digest(path, files),
        size_bytes=sum(p.stat().st_size for p in paths),
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        detail=_detail(model),
        notes=tuple(f"weights in {name}" for name in files),
    )


def read_signature(model: onnx.ModelProto) -> Signature:
    """Return inputs and outputs in the model's order; raises ``LoadError`` naming a tensor."""
    inputs = [_input(info) for info in real_inputs(model.graph)]
    types: dict[str, int] = {}
    if any(not _is_typed(output) for output in model.graph.output):
        try:
            types = infer(model).types
        except Refusal as refusal:
            raise LoadError(str(refusal), code="broken_model") from refusal
    outputs = [_output(info, types) for info in model.graph.output]
    return Signature(tuple(inputs), tuple(outputs))


def _is_typed(info: onnx.ValueInfoProto) -> bool:
    kind = info.type.WhichOneof("value")
    return kind is not None and (kind != "tensor_type" or bool(info.type.tensor_type.elem_type))


def _input(info: onnx.ValueInfoProto) -> TensorSpec:
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type":
        told = (kind or "untyped value").replace("_type", "").replace("_", " ")
        raise LoadError(
            f"input '{info.name}' is a {told}, and only tensors can be sent",
            code="unsupported_input",
            fix="export the model with tensors as inputs",
        )
    tensor = info.type.tensor_type
    return TensorSpec(info.name, _dtype("input", info.name, tensor.elem_type), _shape(tensor))


def _output(info: onnx.ValueInfoProto, types: dict[str, int]) -> TensorSpec:
    kind = info.type.WhichOneof("value")
    if kind in ("sequence_type", "map_type", "optional_type"):
        return TensorSpec(info.name, BYTES, ("",), json=True)
    if kind not in (None, "tensor_type"):
        raise LoadError(
            f"output '{info.name}' is a {kind.replace('_type', '').replace('_', ' ')}, which "
            "cannot be answered",
            code="unsupported_output",
        )
    number = info.type.tensor_type.elem_type or types.get(info.name, 0)
    dtype = _dtype("output", info.name, number)
    return TensorSpec(info.name, dtype, _shape(info.type.tensor_type))


def _dtype(side: str, name: str, number: int) -> DType:
    found = BY_ONNX.get(number)
    if found is None:
        known = onnx.TensorProto.DataType.values()
        told = onnx.TensorProto.DataType.Name(number) if number in known else str(number)
        raise LoadError(
            f"{side} '{name}' has the element type {told}, which is not served",
            code="unsupported_dtype",
            fix="cast it inside the model and export again",
        )
    return found


def _shape(tensor: onnx.TypeProto.Tensor) -> tuple[Dim, ...] | None:
    if not tensor.HasField("shape"):
        return None
    return tuple(_dim(dim) for dim in tensor.shape.dim)


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    length = fixed_length(dim)
    name: str = dim.dim_param
    return name if length is None else length


def _detail(model: onnx.ModelProto) -> str:
    versions = {i.domain or "ai.onnx": i.version for i in model.opset_import}
    parts = [f"opset {versions['ai.onnx']}"] if "ai.onnx" in versions else []
    parts += [f"{domain} {versions[domain]}" for domain in sorted(versions) if domain != "ai.onnx"]
    count = len(model.graph.node)
    return ", ".join([*parts, f"{count} node{'' if count == 1 else 's'}"])


def _digest(path: Path, files: dict[str, Path]) -> str:
    """Return the SHA-256 of the file, or of it and each named file of weights in turn."""
    digest = hashlib.sha256()
    _feed(digest, path)
    for location, file in files.items():
        digest.update(f"\0{location}\0{file.stat().st_size}\0".encode())
        _feed(digest, file)
    return digest.hexdigest()


def _feed(digest: hashlib._Hash, path: Path) -> None:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
