"""Describes a MindIR file by converting it: what is served is the ONNX model that it becomes.

Where the first axis of the inputs is fixed and can be freed, it is, if the axis walk then proves
that rows are independent. The converted model goes where the question says; see
``serving.inspection``.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx

from serving.artifact import Artifact, Conversion, Format
from serving.errors import LoadError
from serving.formats.batch_axis.claim import fixed_length
from serving.formats.batch_axis.step import Refusal
from serving.formats.conversion_cache import MODEL, ConversionCache
from serving.formats.digest import code_digest, digest_of
from serving.formats.external_data import Reference, locate
from serving.formats.free_batch import proved_free
from serving.formats.mindir.builder import Initializer
from serving.formats.mindir.container import open_container
from serving.formats.mindir.convert import Converted, converted
from serving.formats.mindir.graph import Model
from serving.formats.mindir.reach import Reach
from serving.formats.mindir.reader import read_model
from serving.formats.mindir.walk import PLUMBING
from serving.formats.model_key import key_for
from serving.formats.onnx_model import examine
from serving.formats.progress import Progress
from serving.formats.skeleton import LARGE_TENSOR_BYTES, PROTOBUF_LIMIT_BYTES, SKIPPED
from serving.inspection import Question

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Described:
    """What was found out, and a descriptor that keeps the converted model in place, or -1."""

    artifact: Artifact
    held: int = -1


@dataclass(frozen=True)
class _Source:
    """The file that is asked about: its key if it is encrypted, the digest of all its files."""

    format: Format
    key: bytes | None = field(repr=False)
    digest: str
    size_bytes: int
    notes: tuple[str, ...]
    paths: tuple[Path, ...]
    stamps: tuple[tuple[int, ...], ...]

    def require_unchanged(self) -> None:
        """Raise ``LoadError`` if a file is another than when its digest was taken.

        A weight is read when it is written, so this is asked after that.
        """
        if _stamps(self.paths) != self.stamps:
            raise LoadError(
                "the file changed while it was being converted",
                code="broken_model",
                fix="leave it alone once it is in its folder; copy under another name and rename",
            )


def describe(question: Question, format: Format, progress: Progress) -> Described:
    """Convert a file, or find what was made of it before; raises ``LoadError`` and ``OSError``."""
    source = _source(question, format, progress)
    identity = _identity(source)
    in_memory = source.key is not None and bool(question.private)
    cache = None
    if question.cache_dir and not (question.output or in_memory):
        cache = ConversionCache(Path(question.cache_dir), question.cache_bytes)
        if found := _found(cache, identity):
            artifact, held = found
            return Described(replace(artifact, notes=source.notes), held)
    made, artifact = _convert(question, source, identity, progress)
    if made is None:
        return Described(artifact)
    if cache is not None:
        try:
            return _keep(cache, source, made, artifact, progress)
        except OSError as error:
            note = (
                f"the cache folder cannot be used ({_told(error)}): converted into a temporary "
                "folder, and again at every start"
            )
            artifact = replace(artifact, notes=(*artifact.notes, note))
    if question.output:
        artifact = _write(made, artifact, Path(question.output), progress)
    elif in_memory:
        artifact = _write_whole(made, artifact, Path(question.private), progress)
    elif question.scratch:
        folder = _own_folder(Path(question.scratch), identity)
        artifact = _write(made, artifact, folder / MODEL, progress)
    source.require_unchanged()
    return Described(artifact)


def _source(question: Question, format: Format, progress: Progress) -> _Source:
    path, key = question.path, None
    notes: list[str] = []
    if format is Format.MINDIR_ENCRYPTED:
        key = key_for(path, question.key)
    elif question.key is not None:
        notes.append("a key is named, but the file is not encrypted")
    files = _weight_files(path, key)
    paths = (path, *files.values())
    stamps = _stamps(paths)
    return _Source(
        format,
        key,
        digest_of(path, files, progress),
        sum(file.stat().st_size for file in paths),
        (*notes, *(f"weights in {name}" for name in files)),
        paths,
        stamps,
    )


def _stamps(paths: tuple[Path, ...]) -> tuple[tuple[int, ...], ...]:
    found = (path.stat() for path in paths)
    return tuple((s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns) for s in found)


def _weight_files(path: Path, key: bytes | None) -> dict[str, Path]:
    """Return the files of split weights by location; raises ``LoadError`` if one is missing."""
    container = open_container(path, key)
    if container.is_legacy:
        return {}
    found: dict[str, Path] = {}
    for tensor in container.proto.graph.parameter:
        if tensor.HasField("external_data"):
            place = tensor.external_data
            if place.location not in found:
                reference = Reference(tensor.name, place.location, place.offset, place.length)
                found[place.location] = locate(reference, path.parent)
    return dict(sorted(found.items()))


def _identity(source: _Source) -> str:
    """Return a digest of all that decides what becomes of the file.

    The key is part of it: an entry of the cache must not open to another key.
    """
    opened = ""
    if source.key is not None:
        opened = hmac.new(source.key, source.digest.encode(), "sha256").hexdigest()
    parts = [source.digest, opened, code_digest()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _found(cache: ConversionCache, identity: str) -> tuple[Artifact, int] | None:
    with suppress(OSError):
        return cache.find(identity)
    return None


def _convert(
    question: Question, source: _Source, identity: str, progress: Progress
) -> tuple[Converted | None, Artifact]:
    """Return the ONNX model, if the file can be converted, and what is known of it."""
    began = time.monotonic()
    model = read_model(question.path, source.key)
    operators = count_operators(model)
    count = sum(operators.values())
    told = f"{count} operator{'' if count == 1 else 's'}"
    known = Artifact(
        source.format,
        digest=source.digest,
        size_bytes=source.size_bytes,
        producer=f"MindSpore {model.version}".strip(),
        detail=told,
        notes=source.notes,
        operators=operators,
    )
    progress.stage(f"converting {told} to ONNX")
    try:
        made, rows, why = _with_free_batch(converted(model))
        examined = examine(_skeleton(made))
    except LoadError as error:
        return None, replace(known, reason=str(error))
    batch = examined.batch
    if not batch.batched and any(_is_fixed(info) for info in made.model.graph.input):
        batch = replace(batch, reason=f"{batch.reason}, and cannot be freed: {why}")
    return made, replace(
        known,
        backend=examined.backend,
        signature=examined.signature,
        batch=batch,
        static_outputs=examined.static_outputs,
        detail=f"{told}; as ONNX: {examined.detail}",
        conversion=Conversion("", identity, round(time.monotonic() - began, 3)),
        exported_rows=rows,
    )


def count_operators(model: Model) -> dict[str, int]:
    """Return what a file's result is computed by, the most frequent first."""
    nodes = Reach(model).all_needed()
    names = (node.operator for node in nodes)
    return dict(Counter(name for name in names if name and name not in PLUMBING).most_common())


def _with_free_batch(made: Converted) -> tuple[Converted, int, str]:
    """Return the model with a free first axis and its length before, if that is proved.

    Else the model as it was, 0, and why not.
    """
    try:
        after, rows = proved_free(_skeleton(made))
    except Refusal as refusal:
        return made, 0, str(refusal)
    return _replaced(made, after), rows, ""


def _replaced(made: Converted, after: onnx.ModelProto) -> Converted:
    """Return the changed graph with the constants of the first, and with those that are new."""
    kept = {i.tensor.name: i for i in made.initializers}
    initializers = [
        kept.get(tensor.name) or Initializer(_described(tensor), memoryview(tensor.raw_data))
        for tensor in after.graph.initializer
    ]
    del after.graph.initializer[:]
    return Converted(after, initializers)


def _described(tensor: onnx.TensorProto) -> onnx.TensorProto:
    return onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)


def _is_fixed(info: onnx.ValueInfoProto) -> bool:
    axes = info.type.tensor_type.shape.dim
    return bool(axes) and fixed_length(axes[0]) is not None


def _skeleton(made: Converted) -> onnx.ModelProto:
    """Return the model with small constants only, as ``skeleton.read_skeleton`` would."""
    model = onnx.ModelProto()
    model.CopyFrom(made.model)
    for initializer in made.initializers:
        tensor = model.graph.initializer.add()
        tensor.CopyFrom(initializer.tensor)
        if len(initializer.data) <= LARGE_TENSOR_BYTES:
            tensor.raw_data = bytes(initializer.data)
        else:
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key=SKIPPED)
    return model


def _keep(
    cache: ConversionCache,
    source: _Source,
    made: Converted,
    artifact: Artifact,
    progress: Progress,
) -> Described:
    with cache.draft() as draft:
        _save(made, draft.folder / MODEL, progress)
        source.require_unchanged()
        return Described(*cache.keep(draft, artifact))


def _own_folder(parent: Path, name: str) -> Path:
    try:
        for folder in (parent, parent / name):
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise _unwritten(error) from error
    return parent / name


def _write(made: Converted, artifact: Artifact, path: Path, progress: Progress) -> Artifact:
    """Write the model to a path, whole or not at all; raises ``LoadError`` if there is no room."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        draft.mkdir(mode=0o700)
        try:
            _save(made, draft / path.name, progress)
            # The weights first: a model is complete once its main file is there.
            for file in sorted(draft.iterdir(), key=lambda f: f.name == path.name):
                file.replace(path.with_name(file.name))
        finally:
            for file in draft.iterdir():
                file.unlink()
            draft.rmdir()
    except OSError as error:
        raise _unwritten(error) from error
    return _at(artifact, path)


def _write_whole(made: Converted, artifact: Artifact, path: Path, progress: Progress) -> Artifact:
    """Write the model and all its weights into one file, which lies in memory."""
    total = sum(len(i.data) for i in made.initializers)
    progress.stage(f"writing {total >> 20} MiB to memory")
    model = onnx.ModelProto()
    model.CopyFrom(made.model)
    if total >= PROTOBUF_LIMIT_BYTES - (64 << 20):
        raise LoadError(
            "the encrypted model is larger than 2 GiB, which one file in memory cannot hold",
            code="no_room",
            fix="set cache_decrypted = true, which keeps the decrypted model in the cache folder",
        )
    for initializer in made.initializers:
        tensor = model.graph.initializer.add()
        tensor.CopyFrom(initializer.tensor)
        tensor.raw_data = bytes(initializer.data)
    try:
        path.write_bytes(model.SerializeToString())
    except OSError as error:
        raise _unwritten(error) from error
    return _at(artifact, path)


def _save(made: Converted, path: Path, progress: Progress) -> None:
    total = sum(len(i.data) for i in made.initializers)
    progress.stage(f"writing {total >> 20} MiB")
    made.save(path, _counter(total, progress))


def _counter(total: int, progress: Progress) -> Callable[[int], None]:
    def wrote(count: int) -> None:
        progress.step(f"wrote {count >> 20} of {total >> 20} MiB")

    return wrote


def _at(artifact: Artifact, path: Path) -> Artifact:
    assert artifact.conversion is not None
    return replace(artifact, conversion=replace(artifact.conversion, path=str(path)))


def _unwritten(error: OSError) -> LoadError:
    room = error.errno in _NO_ROOM
    return LoadError(
        f"the converted model cannot be written: {_told(error)}",
        code="no_room" if room else "load_failed",
        fix="make room on the disk" if room else "see that the folder is there and can be written",
    )


def _told(error: OSError) -> str:
    return os.strerror(error.errno or 0)
