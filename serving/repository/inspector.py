"""Asks a helper process what model files are, so that no parser runs in the calling process.

The helper (``python -m serving.formats.inspect``) reads one JSON object a line from its standard
input, ``{"id": 7, "path": "/m/1/model.onnx", ...}``, and answers each in order on its standard
output with ``{"id": 7, "artifact": {...}}``. Before, it may say ``{"id": 7, "progress": "..."}``:
what is waited for is a sign of life, so a huge file may take its time and a hang may not. It is
asked about one file at a time, so that a crash or a hang belongs to a file; the next file gets a
new helper.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from serving.artifact import Artifact, Format
from serving.inspection import Question

_LOG = logging.getLogger(__name__)

HELPER = "serving.formats.inspect"
_MAX_ANSWER_BYTES = 64 << 20
_STDERR_KEPT_BYTES = 8 << 10
_GOODBYE_S = 1.0
_FOLDERS = re.compile(r"(?:/[^/\s:'\"]+)+/")


class _HelperFailed(Exception):
    """The helper gave no usable answer about a file; the text says what it did instead."""


class Inspector:
    """Owns one helper process at a time; use it in ``async with``, from one task at a time.

    The helper is started with the first file and leads a process group of its own, so that
    whatever it started ends with it.
    """

    def __init__(
        self, *, timeout_s: float, interpreter: str = sys.executable, module: str = HELPER
    ) -> None:
        self._timeout_s = timeout_s
        # -P: a numpy.py in the working directory (perhaps a model repository) is no module of ours.
        self._command = (interpreter, "-P", "-m", module)
        self._helper: asyncio.subprocess.Process | None = None
        self._stderr_reader: asyncio.Task[None] | None = None
        self._stderr = bytearray()
        self._next_id = 0

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
        path = question.path
        try:
            return await self._ask(question, on_progress)
        except TimeoutError:
            problem = f"gave no sign of life for {self._timeout_s:g} s and was stopped"
        except EOFError:
            problem = await self._ending()
        except _HelperFailed as failure:
            problem = str(failure)
        except BaseException:
            await self._kill()
            raise
        await self._kill()
        said = self._stderr.decode("utf-8", "replace").strip()
        _LOG.warning("inspection of %s failed: the helper %s\n%s", path, problem, said)
        return Artifact(Format.UNKNOWN, reason=_reason(problem, said, path))

    async def close(self) -> None:
        """Let the helper leave, or kill it; in either case it is reaped."""
        helper = self._helper
        if helper is not None and helper.stdin is not None:
            helper.stdin.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GOODBYE_S):
                    await helper.wait()
        await self._kill()

    async def _ask(self, question: Question, on_progress: Callable[[str], None] | None) -> Artifact:
        """Send one request and read its answer.

        Raises EOFError when the helper went away, TimeoutError when it fell silent.
        """
        async with asyncio.timeout(self._timeout_s) as patience:
            helper = self._helper or await self._start()
            self._next_id += 1
            await _send(helper, {"id": self._next_id, **question.to_json()})
            while True:
                answer = await self._answer(helper)
                if "artifact" in answer:
                    return self._artifact(answer)
                patience.reschedule(asyncio.get_running_loop().time() + self._timeout_s)
                if on_progress is not None:
                    on_progress(str(answer.get("progress", "")))

    async def _answer(self, helper: asyncio.subprocess.Process) -> dict[str, Any]:
        """Read one line, progress or the answer."""
        assert helper.stdout is not None
        try:
            line = await helper.stdout.readline()
        except ConnectionError:
            raise EOFError from None
        except ValueError:
            problem = f"answered with more than {_MAX_ANSWER_BYTES >> 20} MiB"
            raise _HelperFailed(problem) from None
        if not line.endswith(b"\n"):
            raise EOFError
        try:
            answer: dict[str, Any] = json.loads(line)
            if answer["id"] != self._next_id:
                raise ValueError("an answer to another question")
            return answer
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _unreadable(error) from None

    def _artifact(self, answer: dict[str, Any]) -> Artifact:
        try:
            return Artifact.from_json(answer["artifact"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _unreadable(error) from None

    async def _start(self) -> asyncio.subprocess.Process:
        self._stderr.clear()
        pipe = asyncio.subprocess.PIPE
        try:
            self._helper = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                limit=_MAX_ANSWER_BYTES,
                start_new_session=True,
            )
        except OSError as error:
            raise _HelperFailed(f"could not be started: {os.strerror(error.errno or 0)}") from None
        assert self._helper.stderr is not None
        self._stderr_reader = asyncio.create_task(self._read_stderr(self._helper.stderr))
        return self._helper

    async def _read_stderr(self, stream: asyncio.StreamReader) -> None:
        while chunk := await stream.read(4096):
            self._stderr += chunk
            del self._stderr[:-_STDERR_KEPT_BYTES]

    async def _ending(self) -> str:
        """Say how a helper ended that closed its output; one that stays is not waited for."""
        helper = self._helper
        assert helper is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await helper.wait()
        status = helper.returncode
        if status is None:
            return "closed its output without an answer and was stopped"
        if status < 0:
            return f"was killed by {_signal_name(-status)}"
        return f"ended with status {status}"

    async def _kill(self) -> None:
        """Kill the helper's process group and reap the helper; safe to call twice."""
        helper, self._helper = self._helper, None
        reader, self._stderr_reader = self._stderr_reader, None
        if helper is None:
            return
        # The group outlives its leader, so it is killed even after the helper has left.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(helper.pid, signal.SIGKILL)
        await helper.wait()
        if reader is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GOODBYE_S):
                    await reader
        # A process outside the group may still hold the pipes open; only this closes them here.
        helper._transport.close()  # type: ignore[attr-defined]


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


async def _send(helper: asyncio.subprocess.Process, request: dict[str, Any]) -> None:
    assert helper.stdin is not None
    try:
        helper.stdin.write(json.dumps(request).encode() + b"\n")
        await helper.stdin.drain()
    except ConnectionError:
        raise EOFError from None


def _unreadable(error: Exception) -> _HelperFailed:
    _LOG.warning("the inspection helper's answer cannot be read: %r", error)
    return _HelperFailed("gave an answer that cannot be read")


def _reason(problem: str, said: str, path: Path) -> str:
    """Word the failure for operators, the helper's last line included but no folder's name."""
    text = f"the inspection helper {problem}"
    last = said.rsplit("\n", 1)[-1].strip()
    if last:
        last = _FOLDERS.sub("", last.replace(str(path.absolute()), path.name))
        text += f"; its last words: {last[:300]}"
    return text + " (check that the file is whole; the log holds more)"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
