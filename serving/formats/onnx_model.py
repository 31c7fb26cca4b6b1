"""Describes an ONNX file: signature, weights' files, digest, and what is proved of it.

The weights are never loaded: constants are skipped where they lie, files of external data are
only looked at for their size and streamed through the digest.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import onnx

from serving.artifact import Artifact, Format
from serving.errors import LoadError, listing
from serving.formats.batch_axis import prove
from serving.formats.batch_axis.claim import fixed_length, real_inputs
from serving.formats.batch_axis.inference import infer
from serving.formats.batch_axis.step import Refusal
from serving.formats.digest import digest_of
from serving.formats.external_data import external_files
from serving.formats.onnx_trials import trials
from serving.formats.progress import SILENT, Progress
from serving.formats.skeleton import read_skeleton
from serving.formats.static_shapes import has_static_outputs
from serving.tensor import BY_ONNX, BYTES, Dim, DType, Signature, TensorSpec

BACKEND = "onnxruntime"


def describe(path: Path, progress: Progress = SILENT) -> Artifact:
    """Return everything that is known of an ONNX file; raises ``LoadError``.

    Whether onnxruntime has every operator and opset of it is left to onnxruntime, at load: its
    limits can only be asked of the engine itself. Who wants to know before has it try ``trials``.
    """
    model = read_skeleton(path)
    examined = examine(model)
    files = external_files(model, path.parent)
    return replace(
        examined,
        digest=digest_of(path, files, progress),
        size_bytes=sum(p.stat().st_size for p in (path, *files.values())),
        detail=examined.detail + (f", weights in {listing(files, limit=3)}" if files else ""),
    )


def examine(model: onnx.ModelProto) -> Artifact:
    """Return what follows from the graph alone, large weights left out; raises ``LoadError``."""
    if not model.HasField("graph") or not model.graph.output:
        raise LoadError("the ONNX file holds no graph with outputs", code="broken_model")
    return Artifact(
        Format.ONNX,
        backend=BACKEND,
        signature=read_signature(model),
        batch=prove(model),
        static_outputs=has_static_outputs(model.graph),
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        detail=_detail(model),
        operators=dict(Counter(_full_name(node) for node in model.graph.node).most_common()),
        trials=trials(model),
    )


def _full_name(node: onnx.NodeProto) -> str:
    domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}."
    return f"{domain}{node.op_type}"


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
            f"input '{info.name}' is {_article(told)} {told}, and only tensors can be sent",
            code="unsupported_input",
            fix="export the model with tensors as inputs",
        )
    tensor = info.type.tensor_type
    return TensorSpec(info.name, _dtype("input", info.name, tensor.elem_type), _shape(tensor))


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


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
