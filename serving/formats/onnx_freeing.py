"""Describes an ONNX file as one whose first axis is free, for a servable that never shows it.

An ONNX file is served as it is, a fixed first axis with it. A servable may declare that this axis
counts rows, of which an instance is one, or that an instance is all of it: then nobody sees how
many stand behind one another in a run. So it is freed, in a copy that goes where converted models
go, if the axis walk then proves that rows are independent. Else the file stays as it is, and its
reason says why.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import onnx

from serving.artifact import Artifact, Conversion
from serving.errors import LoadError
from serving.formats import onnx_model
from serving.formats.batch_axis.step import Refusal
from serving.formats.conversion_cache import MODEL, ConversionCache
from serving.formats.digest import code_digest
from serving.formats.external_data import external_files
from serving.formats.free_batch import proved_free
from serving.formats.progress import Progress
from serving.formats.skeleton import read_skeleton
from serving.inspection import Question
from serving.tensor import TensorSpec


def describe(question: Question, progress: Progress) -> tuple[Artifact, int]:
    """Return what is known of the file, and a descriptor that keeps its copy in place, or -1.

    Raises ``LoadError`` and ``OSError`` for what is wrong with the file itself.
    """
    stamp = _stamp(question.path)
    artifact = onnx_model.describe(question.path, progress)
    if artifact.batch.batched or artifact.signature is None:
        return artifact, -1
    if not all(map(_is_fixed, artifact.signature.inputs)):
        return artifact, -1
    identity = _identity(artifact)
    cache = ConversionCache(Path(question.cache_dir), question.cache_bytes)
    with suppress(OSError):
        found = cache.find(identity)
        if found is not None:
            return found
    try:
        data, made = _freed(question.path, artifact, identity)
    except Refusal as refusal:
        return _as_it_is(artifact, str(refusal)), -1
    except Exception as error:  # the file itself has been found to be in order
        traceback.print_exc(file=sys.stderr)
        return _as_it_is(artifact, f"trying to failed ({type(error).__name__})"), -1
    try:
        with cache.draft() as draft:
            (draft.folder / MODEL).write_bytes(data)
            if _stamp(question.path) != stamp:
                raise LoadError(
                    "the file changed while it was being looked into",
                    code="broken_model",
                    fix="leave it alone once it is in its folder; copy under another name and "
                    "rename",
                )
            return cache.keep(draft, made)
    except OSError as error:
        told = os.strerror(error.errno or 0)
        return _as_it_is(artifact, f"the cache folder cannot be used ({told})"), -1


def _freed(path: Path, artifact: Artifact, identity: str) -> tuple[bytes, Artifact]:
    """Return the model with a free first axis, whole, and what is known of it; raises Refusal."""
    began = time.monotonic()
    skeleton = read_skeleton(path)
    if external_files(skeleton, path.parent):
        raise Refusal("its weights lie in files of their own")
    model, rows = proved_free(skeleton)
    examined = onnx_model.examine(model)
    del model.graph.value_info[:]  # what is between may be told with the fixed length
    whole = {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:  # what the skeleton skips
            tensor.CopyFrom(whole[tensor.name])
    return model.SerializeToString(), replace(
        artifact,
        signature=examined.signature,
        batch=examined.batch,
        static_outputs=examined.static_outputs,
        conversion=Conversion("", identity, round(time.monotonic() - began, 3)),
        exported_rows=rows,
    )


def _as_it_is(artifact: Artifact, why: str) -> Artifact:
    reason = f"{artifact.batch.reason}, and cannot be freed: {why}"
    return replace(artifact, batch=replace(artifact.batch, reason=reason))


def _is_fixed(spec: TensorSpec) -> bool:
    first = spec.shape[0] if spec.shape else ""
    return isinstance(first, int) and first > 0


def _identity(artifact: Artifact) -> str:
    parts = [artifact.digest, "first axis freed", code_digest()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _stamp(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
