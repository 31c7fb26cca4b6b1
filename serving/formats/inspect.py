"""The helper that looks at model files, so that the master never parses one.

``python -m serving.formats.inspect`` reads lines ``{"id": int, "path": str}`` and answers each,
in order, with a line ``{"id": int, "artifact": {...}}``; it ends with its input. A file that
cannot be described is answered with an artifact without backend whose reason says why.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import IO, Any

from serving.artifact import Artifact, Format
from serving.errors import LoadError
from serving.formats.recognise import Recognised, recognise


def inspect(path: Path) -> Artifact:
    """Describe one file; never raises for what is wrong with the file."""
    found = Recognised(Format.UNKNOWN)
    try:
        found = recognise(path)
        size = path.stat().st_size
        if found.format is not Format.ONNX:
            return Artifact(found.format, reason=found.reason, size_bytes=size)
        # Costs a tenth of a second and a folder may hold no ONNX file at all.
        from serving.formats.onnx_model import describe

        return describe(path)
    except LoadError as error:
        return Artifact(found.format, reason=str(error))
    except OSError as error:
        told = error.strerror or type(error).__name__
        return Artifact(found.format, reason=f"the file '{path.name}' cannot be read: {told}")
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        return Artifact(
            found.format, reason=f"the file could not be understood ({type(error).__name__})"
        )


def answer(line: str) -> dict[str, Any]:
    """Return the answer to one line; one that is no request has the id ``None``."""
    try:
        request = json.loads(line)
        number, path = int(request["id"]), str(request["path"])
    except (ValueError, TypeError, KeyError):
        bad = Artifact(Format.UNKNOWN, reason="the request is no line of JSON with id and path")
        return {"id": None, "artifact": bad.to_json()}
    return {"id": number, "artifact": inspect(Path(path)).to_json()}


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Answer line by line until the requests end."""
    for line in requests:
        if line.strip():
            answers.write(json.dumps(answer(line), allow_nan=False) + "\n")
            answers.flush()


def main() -> None:
    """Serve standard input, and keep everything else that is printed off standard output."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with answers:
        serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
