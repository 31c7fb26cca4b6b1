"""Asks a helper process what model files are, so that no parser runs in the calling process.

The helper (``python -m serving.formats.inspect``) reads one JSON object a line from its standard
input, ``{"id": 7, "path": "/m/1/model.onnx", ...}``, and answers each in order on its standard
output with ``{"id": 7, "artifact": {...}}``. Before, it may say ``{"id": 7, "progress": "..."}``:
what is waited for is a sign of life, so a huge file may take its time and a hang may not. It is
asked about one file at a time, so that a crash or a hang belongs to a file; the next file gets a
new helper.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncGenerator, Callable, Iterable
from pathlib import Path
from types import TracebackType

from serving.artifact import Artifact, Format
from serving.inspection import Question
from serving.repository.helper import (
    NOT_STARTED,
    Helper,
    HelperFailed,
    last_words,
    unreadable,
)

_LOG = logging.getLogger(__name__)

HELPER = "serving.formats.inspect"


class Inspector:
    """Owns one helper process at a time; use it in ``async with``, from one task at a time."""

    def __init__(
        self,
        *,
        timeout_s: float,
        interpreter: str = sys.executable,
        module: str = HELPER,
        nice: int = 0,
    ) -> None:
        self._helper = Helper(
            module=module, timeout_s=timeout_s, interpreter=interpreter, nice=nice
        )

    async def __aenter__(self) -> Inspector:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def inspect(
        self, question: Question, on_progress: Callable[[str], None] | None = None
    ) -> Artifact:
        """Describe one model file; a helper that crashes or hangs on it becomes the reason.

        ``on_progress`` hears what is being done, where that takes several steps.
        """
        try:
            answer = await self._helper.ask(question.to_json(), ("artifact",), on_progress)
            try:
                return Artifact.from_json(answer["artifact"])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                await self._helper.kill()
                raise unreadable(error) from None
        except HelperFailed as failure:
            path, said = question.path, self._helper.said
            _LOG.warning("inspection of %s failed: the helper %s\n%s", path, failure, said)
            return Artifact(Format.UNKNOWN, reason=_reason(str(failure), said, path))

    async def close(self) -> None:
        """Let the helper leave, or kill it; in either case it is reaped."""
        await self._helper.close()


async def inspect_each(
    questions: Iterable[Question],
    *,
    timeout_s: float,
    interpreter: str = sys.executable,
    module: str = HELPER,
) -> AsyncGenerator[tuple[Path, Artifact], None]:
    """Yield ``(path, artifact)`` in order, each as soon as it is known.

    ``timeout_s`` bounds the silence over each file (the first one's includes the helper's start).
    Close the iterator (``contextlib.aclosing``) when leaving it early: that ends the helper.
    """
    async with Inspector(timeout_s=timeout_s, interpreter=interpreter, module=module) as inspector:
        for question in questions:
            yield question.path, await inspector.inspect(question)


async def inspect(
    questions: Iterable[Question],
    *,
    timeout_s: float,
    interpreter: str = sys.executable,
    module: str = HELPER,
) -> dict[Path, Artifact]:
    """Describe all files and return the artifacts by path; see ``inspect_each``."""
    each = inspect_each(questions, timeout_s=timeout_s, interpreter=interpreter, module=module)
    return {path: artifact async for path, artifact in each}


def _reason(problem: str, said: str, path: Path) -> str:
    """Word the failure for operators, the helper's last line included but no folder's name."""
    fix = "check that the file is whole; the log holds more"
    if problem.startswith(NOT_STARTED):
        fix = "the server's user must be able to run the Python interpreter that the log names"
    return f"the inspection helper {problem}{last_words(said, path)} ({fix})"
