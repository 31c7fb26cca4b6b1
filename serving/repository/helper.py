"""A helper process: one line of JSON goes in, lines of JSON come out; it may crash, hang or lie.

Each question has a number, ``{"id": 7, ...}``; the answer has the same. Before it, a helper may
say ``{"id": 7, "progress": "..."}``: what is waited for is a sign of life.
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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from serving.repository.interpreter import command, environment
from serving.repository.priority import give_way

_LOG = logging.getLogger(__name__)

NOT_STARTED = "could not be started"
"""How the text of a HelperFailed begins where there never was a process."""

_MAX_ANSWER_BYTES = 64 << 20
_STDERR_KEPT_BYTES = 8 << 10
_GOODBYE_S = 1.0
_FOLDERS = re.compile(r"(?:/[^/\s:'\"]+)+/")


class HelperFailed(Exception):
    """The helper gave no usable answer; the text says what it did instead."""


class Helper:
    """Owns one process at a time, from one task at a time; ``close`` it in the end.

    It is started with the first question and leads a process group of its own, so that whatever
    it started ends with it. After a failure the next question gets a new process. ``nice`` is
    added to its niceness. ``said`` is the end of its standard error.
    """

    def __init__(
        self,
        *,
        module: str,
        timeout_s: float,
        interpreter: str = sys.executable,
        env: Mapping[str, str] | None = None,
        nice: int = 0,
    ) -> None:
        self._timeout_s = timeout_s
        self._nice = nice
        self._env = environment(env or {})
        self._command = command(interpreter, module)
        self._process: asyncio.subprocess.Process | None = None
        self._stderr_reader: asyncio.Task[None] | None = None
        self._stderr = bytearray()
        self._next_id = 0

    @property
    def said(self) -> str:
        """The end of what it wrote to its standard error."""
        return self._stderr.decode("utf-8", "replace").strip()

    async def ask(
        self,
        question: Mapping[str, Any],
        keys: tuple[str, ...],
        on_progress: Callable[[str], None] | None = None,
    ) -> dict[str, Any]:
        """Ask, and return the answer: the line that has one of the ``keys``.

        ``on_progress`` hears what is being done, where that takes several steps. Raises
        HelperFailed; the process is gone then.
        """
        try:
            return await self._ask(question, keys, on_progress)
        except TimeoutError:
            problem = f"gave no sign of life for {self._timeout_s:g} s and was stopped"
        except EOFError:
            problem = await self._ending()
        except HelperFailed as failure:
            problem = str(failure)
        except BaseException:
            await self.kill()
            raise
        await self.kill()
        raise HelperFailed(problem)

    async def close(self) -> None:
        """Let the helper leave, or kill it; in either case it is reaped."""
        process = self._process
        try:
            if process is not None and process.stdin is not None:
                process.stdin.close()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_GOODBYE_S):
                        await process.wait()
        finally:
            await self.kill()  # also when nobody has the time to wait: the caller is cancelled

    async def kill(self) -> None:
        """Kill the process group and reap the helper; safe to call twice."""
        process, self._process = self._process, None
        reader, self._stderr_reader = self._stderr_reader, None
        if process is None:
            return
        # The group outlives its leader, so it is killed even after the helper has left.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        if reader is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GOODBYE_S):
                    await reader
        # A process outside the group may still hold the pipes open; only this closes them here.
        process._transport.close()  # type: ignore[attr-defined]

    async def _ask(
        self,
        question: Mapping[str, Any],
        keys: tuple[str, ...],
        on_progress: Callable[[str], None] | None,
    ) -> dict[str, Any]:
        """Send one question and read its answer.

        Raises EOFError when the helper went away, TimeoutError when it fell silent.
        """
        async with asyncio.timeout(self._timeout_s) as patience:
            process = self._process or await self._start()
            self._next_id += 1
            await _send(process, {"id": self._next_id, **question})
            while True:
                answer = await self._answer(process)
                if any(key in answer for key in keys):
                    return answer
                patience.reschedule(asyncio.get_running_loop().time() + self._timeout_s)
                if on_progress is not None:
                    on_progress(str(answer.get("progress", "")))

    async def _answer(self, process: asyncio.subprocess.Process) -> dict[str, Any]:
        """Read one line, progress or the answer."""
        assert process.stdout is not None
        try:
            line = await process.stdout.readline()
        except ConnectionError:
            raise EOFError from None
        except ValueError:
            problem = f"answered with more than {_MAX_ANSWER_BYTES >> 20} MiB"
            raise HelperFailed(problem) from None
        if not line.endswith(b"\n"):
            raise EOFError
        try:
            answer: dict[str, Any] = json.loads(line)
            if answer["id"] != self._next_id:
                raise ValueError("an answer to another question")
            return answer
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise unreadable(error) from None

    async def _start(self) -> asyncio.subprocess.Process:
        self._stderr.clear()
        pipe = asyncio.subprocess.PIPE
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                env=self._env,
                limit=_MAX_ANSWER_BYTES,
                # Not a session: Linux may share cores out between sessions before it looks at
                # niceness. (uvloop has no process_group.)
                preexec_fn=os.setpgrp,
            )
        except OSError as error:
            problem = os.strerror(error.errno or 0)
            _LOG.error("%s cannot be run: %s", self._command[0], problem)
            raise HelperFailed(f"{NOT_STARTED}: {problem}") from None
        give_way(self._process.pid, self._nice)
        assert self._process.stderr is not None
        self._stderr_reader = asyncio.create_task(self._read_stderr(self._process.stderr))
        return self._process

    async def _read_stderr(self, stream: asyncio.StreamReader) -> None:
        while chunk := await stream.read(4096):
            self._stderr += chunk
            del self._stderr[:-_STDERR_KEPT_BYTES]

    async def _ending(self) -> str:
        """Say how a helper ended that closed its output; one that stays is not waited for."""
        process = self._process
        assert process is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await process.wait()
        status = process.returncode
        if status is None:
            return "closed its output without an answer and was stopped"
        if status < 0:
            return f"was killed by {_signal_name(-status)}"
        return f"ended with status {status}"


async def _send(process: asyncio.subprocess.Process, question: Mapping[str, Any]) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(question).encode() + b"\n")
        await process.stdin.drain()
    except ConnectionError:
        raise EOFError from None


def unreadable(error: Exception) -> HelperFailed:
    """Return the failure for an answer that is not what it should be."""
    _LOG.warning("a helper's answer cannot be read: %r", error)
    return HelperFailed("gave an answer that cannot be read")


def last_words(said: str, path: Path) -> str:
    """Return a helper's last line for operators, without any folder's name; or nothing."""
    last = said.rsplit("\n", 1)[-1].strip()
    if not last:
        return ""
    last = _FOLDERS.sub("", last.replace(str(path.absolute()), path.name))
    return f"; its last words: {last[:300]}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
