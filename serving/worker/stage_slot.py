"""The run link of a stage worker: takes a run, calls the function on its instances, answers.

While a function calls a model its thread waits here, and nothing else runs: the answer comes over
the same link.
"""

from __future__ import annotations

import collections
import logging
import os
import sys
import threading
import time
import traceback
from typing import Any, Callable, Deque, List, Mapping, Optional, Sequence, Tuple

from serving.channel import packet
from serving.channel.link import BlockingLink
from serving.channel.messages import (
    Call,
    CallDone,
    CallFailed,
    Deny,
    Failed,
    Forget,
    Grant,
    Lend,
    Message,
    More,
    StageDone,
    StageRun,
    cut,
)
from serving.definition import Function
from serving.register import calls, execution
from serving.tensor import Tensor
from serving.worker.memory import Mappings

_log = logging.getLogger("serving.worker")

_CANCELS_KEPT = 64
_PLACES_SHOWN = 4

Instances = List[Tuple[Tensor, ...]]


class Denied(Exception):
    """The master has no memory for this run."""

    def __init__(self, deny: Deny) -> None:
        super().__init__(deny.message)
        self.code = deny.code


class StageSlot:
    """Runs functions, one run at a time. ``run`` and the functions are the main thread's.

    ``_turn`` guards what is said and heard during a run: a function may call models from threads
    of its own, one after the other.
    """

    def __init__(
        self,
        link: BlockingLink,
        servable: str,
        functions: Mapping[str, Function],
        callables: Mapping[str, Callable[..., Any]],
    ) -> None:
        self._link = link
        self._servable = servable
        self._functions = functions
        self._callables = callables
        self._mappings = Mappings()
        self._unwanted: Deque[int] = collections.deque(maxlen=_CANCELS_KEPT)
        self._turn = threading.Lock()
        self._current: Optional[StageRun] = None
        self._output = 0
        self._pid = os.getpid()

    def run(self) -> None:
        """Answer the run link until the master hangs up."""
        calls.set_caller(self._call)
        while True:
            message, fds = self._link.receive()
            if message is None:
                return
            if isinstance(message, StageRun):
                self._link.send(self._answer(message))
            else:
                self._note(message, fds)

    def cancel(self, run: int) -> None:
        """Do not begin a run any more; of one that has begun, log where it is. Any thread."""
        self._unwanted.append(run)
        current = self._current
        if current is not None and current.run == run:
            where = "".join(_where(threading.main_thread()))
            _log.info(
                "function %s is to end, and is at:\n%s", current.function, where,
                extra={"request_id": current.ids or None},
            )  # fmt: skip

    def _note(self, message: Message, fds: Sequence[int]) -> None:
        if isinstance(message, Lend):
            self._mappings.lend(message, fds[0])
        elif isinstance(message, Forget):
            self._mappings.forget(message.segment)

    # -- a run ---------------------------------------------------------------------------------

    def _answer(self, run: StageRun) -> Message:
        if run.run in self._unwanted:
            return Failed(run.run, "cancelled", "nobody waits for this run")
        try:
            return self._run(run)
        except Denied as denied:
            return Failed(run.run, denied.code, str(denied))
        except MemoryError:
            return Failed(run.run, "execution_failed", "the stage worker's memory does not suffice")
        except Exception:
            _log.exception("a run broke", extra={"request_id": run.ids})
            return Failed(run.run, "internal", "the stage worker met an unexpected failure")

    def _run(self, run: StageRun) -> StageDone:
        began = time.perf_counter_ns()
        instances = _instances(packet.read(self._mappings.get(run.input).bytes))
        self._current, self._output = run, run.output
        try:
            outcomes = execution.run(
                self._functions[run.function],
                self._callables[run.function],
                self._servable,
                instances,
            )
        finally:
            if os.getpid() != self._pid:
                os._exit(0)  # a child that the function has forked came back from it
            with self._turn:  # a thread that the function has left behind may be at a call
                self._current = None
        nbytes = packet.size_of(outcomes)
        segment = self._memory(run.run, nbytes)
        packet.write(self._mappings.get(segment).bytes, outcomes)
        return StageDone(run.run, segment, nbytes, time.perf_counter_ns() - began)

    def _memory(self, run: int, nbytes: int) -> int:
        """Return the run's own segment, a larger one if need be."""
        if self._output and self._mappings.get(self._output).size >= nbytes:
            return self._output
        self._link.send(More(run, nbytes))
        answer = self._hear(run)
        if isinstance(answer, Deny):
            raise Denied(answer)
        assert isinstance(answer, Grant)
        self._output = answer.segment
        return self._output

    def _hear(self, run: int) -> Message:
        """Wait for the answer to what was asked during a run."""
        while True:
            message, fds = self._link.receive()
            if message is None:
                os._exit(0)  # the master is gone, or does not want this worker any more
            if isinstance(message, (Grant, Deny, CallDone, CallFailed)) and message.run == run:
                return message
            self._note(message, fds)

    # -- a call of a model ---------------------------------------------------------------------

    def _call(self, model: str, subgraph: int, instances: Instances) -> Instances:
        """Have the master run instances through a model. Raises CallFailed."""
        with self._turn:
            run = self._current
            if run is None or os.getpid() != self._pid:
                raise calls.CallFailed("it can be called only by a stage that is running")
            try:
                segment = self._memory(run.run, packet.size_of(instances))
            except Denied as denied:
                raise calls.CallFailed(str(denied)) from None
            packet.write(self._mappings.get(segment).bytes, instances)
            self._link.send(Call(run.run, model, subgraph, segment))
            answer = self._hear(run.run)
            if isinstance(answer, CallFailed):
                raise calls.CallFailed(answer.message)
            assert isinstance(answer, CallDone)
            self._output = answer.segment
            answers = packet.read(self._mappings.get(answer.segment).bytes)
            return [_copied(instance) for instance in _instances(answers)]


def _where(thread: threading.Thread) -> List[str]:
    """Return the innermost places that a thread is at, in the form of a traceback."""
    frame = sys._current_frames().get(thread.ident or 0)
    return traceback.format_stack(frame)[-_PLACES_SHOWN:] if frame is not None else []


def _instances(outcomes: Sequence[packet.Outcome]) -> Instances:
    instances = []
    for outcome in outcomes:
        if isinstance(outcome, str):
            raise ValueError(f"an error where values should be: {cut(outcome)}")
        instances.append(outcome)
    return instances


def _copied(values: Tuple[Tensor, ...]) -> Tuple[Tensor, ...]:
    """Take values out of the run's segment, which is written over by the next call."""
    for value in values:
        if value.array is not None:
            value.array = value.array.copy()
    return values
