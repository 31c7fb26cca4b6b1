"""The helper that builds TensorRT engines; ``python -m serving.building.tensorrt``.

It reads lines of JSON and answers each with one, progress before it (``serving.repository.helper``
is the other end)::

    {"id": 1, "identity": {QUESTION}}  ->  {"id": 1, "identity": "sha256 of all that matters"}
    {"id": 2, QUESTION, "folder": "…"} ->  {"id": 2, "progress": "…"} …  {"id": 2, "built": {…}}
                                           {"id": 2, "error": {"code", "message", "fix"}}

QUESTION: ``source`` (path of an ONNX file), ``format`` ("onnx"), ``signature``, ``batch``,
``max_batch_size``, ``batch_sizes`` (or null), ``options`` (``serving.backends.tensorrt.options``).
It runs in the environment that has TensorRT, CUDA's bindings and onnx.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import traceback
from typing import IO, Any

from serving.backends.base import BackendError
from serving.building.tensorrt_order import Order
from serving.errors import LoadError
from serving.formats.progress import Progress


class Answers:
    """Writes lines, whole ones, from any thread: TensorRT tells progress from its own."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._lock = threading.Lock()

    def write(self, message: dict[str, Any]) -> None:
        """Write one line."""
        with self._lock:
            self._out.write(json.dumps(message, allow_nan=False) + "\n")
            self._out.flush()


def answer(question: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Return the answer to one question, without its number; never raises for what it is told."""
    try:
        # Imported late: a missing package must become an answer.
        from serving.building.tensorrt_build import build
        from serving.building.tensorrt_identity import Target

        if "identity" in question:
            order = Order.from_json(question["identity"])
            return {"identity": Target.here(order).identity(order, progress)}
        order = Order.from_json(question)
        return {"built": build(order, Target.here(order), progress)}
    except LoadError as error:
        return _refusal(error.code, str(error).removesuffix(f" ({error.fix})"), error.fix)
    except BackendError as error:
        return _refusal("tensorrt_unusable", str(error), "")
    except ImportError as error:
        return _refusal(
            "package_missing",
            f"building TensorRT engines needs a package that is missing: {error}",
            "install tensorrt, cuda-bindings and onnx for the interpreter of this backend",
        )
    except OSError as error:
        return _refusal("file_unusable", f"a file cannot be used: {error.strerror}", "")
    except (KeyError, TypeError, ValueError) as error:
        traceback.print_exc(file=sys.stderr)
        return _refusal("bad_question", f"the question cannot be read ({error!r})", "")
    except MemoryError:
        return _refusal("out_of_memory", "the machine's memory does not suffice for the build", "")


def _refusal(code: str, message: str, fix: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "fix": fix}}


def serve(questions: IO[str], answers: Answers) -> None:
    """Answer line by line until the questions end."""
    for line in questions:
        if not line.strip():
            continue
        try:
            question = json.loads(line)
            number = int(question.pop("id"))
        except (ValueError, TypeError, KeyError, AttributeError):
            answers.write({"id": None, **_refusal("bad_question", "no line of JSON with id", "")})
            continue
        progress = Progress(
            lambda text, number=number: answers.write({"id": number, "progress": text})  # type: ignore[misc]
        )
        answers.write({"id": number, **answer(question, progress)})


def main() -> None:
    """Serve standard input; whatever libraries print goes to standard error."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with out:
        serve(sys.stdin, Answers(out))


if __name__ == "__main__":
    main()
