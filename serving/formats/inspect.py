"""The helper that looks at model files, so that the master never parses one.

``python -m serving.formats.inspect`` reads lines ``{"id": int, "path": str, ...}`` (the fields of
``serving.inspection.Question``) and answers each, in order, with a line ``{"id": int, "artifact":
{...}}``; it ends with its input. While it works it may write ``{"id": int, "progress": str}``. A
file that cannot be described is answered with an artifact without backend whose reason says why.

A converted model stays where it is at least until the next request comes.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
from pathlib import Path
from typing import IO, Any, Callable

from serving.artifact import Artifact, Format
from serving.errors import LoadError
from serving.formats.progress import SILENT, Progress
from serving.formats.recognise import Recognised, recognise
from serving.formats.tensorrt_engine import read_header
from serving.inspection import Question

_CONVERTED = (Format.MINDIR, Format.MINDIR_ENCRYPTED)
_BASE_BYTES = 1 << 30
_BYTES_PER_BYTE = 8
"""Memory that a file may take: a fixed part, and this many times its size."""


class Helper:
    """Answers questions one by one; holds the last converted model in place."""

    def __init__(self) -> None:
        self._held = -1

    def inspect(self, question: Question, progress: Progress = SILENT) -> Artifact:
        """Describe one file; never raises for what is wrong with the file."""
        self._release()
        found = Recognised(Format.UNKNOWN)
        name = question.path.name
        try:
            found = recognise(question.path)
            return self._describe(question, found, progress)
        except LoadError as error:
            return Artifact(found.format, reason=str(error))
        except OSError as error:
            told = error.strerror or type(error).__name__
            return Artifact(found.format, reason=f"the file '{name}' cannot be read: {told}")
        except MemoryError:
            reason = "describing the file takes more memory than its size warrants; it may be made"
            return Artifact(found.format, reason=f"{reason} to do harm, or be damaged")
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            return Artifact(
                found.format, reason=f"the file could not be understood ({type(error).__name__})"
            )

    def _describe(self, question: Question, found: Recognised, progress: Progress) -> Artifact:
        # Imported late: they cost a tenth of a second, and a folder may hold nothing of the kind.
        if found.format is Format.ONNX and question.free:
            from serving.formats import onnx_freeing

            artifact, self._held = onnx_freeing.describe(question, progress)
            return artifact
        if found.format is Format.ONNX:
            from serving.formats.onnx_model import describe

            return describe(question.path, progress)
        if found.format in _CONVERTED and not found.reason:
            from serving.formats import mindir_model

            described = mindir_model.describe(question, found.format, progress)
            self._held = described.held
            return described.artifact
        size = question.path.stat().st_size
        detail = read_header(question.path).detail if found.format is Format.TENSORRT else ""
        return Artifact(found.format, reason=found.reason, size_bytes=size, detail=detail)

    def _release(self) -> None:
        if self._held >= 0:
            os.close(self._held)
            self._held = -1


def inspect(path: Path) -> Artifact:
    """Describe one file, and keep nothing of what it was converted to."""
    return Helper().inspect(Question(path))


def serve(
    requests: IO[str], answers: IO[str], prepare: Callable[[Path], None] | None = None
) -> None:
    """Answer line by line until the requests end; ``prepare`` is told of each file before."""
    helper = Helper()

    def write(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message, allow_nan=False) + "\n")
        answers.flush()

    for line in requests:
        if not line.strip():
            continue
        try:
            request = json.loads(line)
            number = int(request.pop("id"))
            question = Question.from_json(request)
        except (ValueError, TypeError, KeyError, AttributeError):
            bad = Artifact(Format.UNKNOWN, reason="the request is no line of JSON with id and path")
            write({"id": None, "artifact": bad.to_json()})
            continue
        if prepare is not None:
            prepare(question.path)
        progress = Progress(lambda text, number=number: write({"id": number, "progress": text}))  # type: ignore[misc]
        write({"id": number, "artifact": helper.inspect(question, progress).to_json()})


def limit_memory(path: Path) -> None:
    """Bound this process's memory by the size of what it is to read next."""
    try:
        folder = sum(f.stat().st_size for f in path.parent.glob("*_variables/*"))
        size = path.stat().st_size + folder
    except OSError:
        size = 0
    with open("/proc/self/status") as status:
        used = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData"))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = used + _BASE_BYTES + _BYTES_PER_BYTE * size
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def main() -> None:
    """Serve standard input, and keep everything else that is printed off standard output."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold keys and plain models
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with answers:
        serve(sys.stdin, answers, limit_memory)


if __name__ == "__main__":
    main()
