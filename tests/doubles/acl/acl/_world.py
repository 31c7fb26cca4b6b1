"""The state of the double: handles, threads' contexts, faults, and what it reports.

Everything that can be wrong in a caller is a ``ContractViolation``: it is raised, and kept for the
report as well, so that a caller that swallows it is found out all the same. What the real library
answers with a code is answered with that code.

The environment, read when the process calls ``acl.init`` (or ``acl.rt.get_device_count``)::

    ACL_DOUBLE_DEVICES    how many devices there are (1)
    ACL_DOUBLE_SOC        what they are (Ascend310P3)
    ACL_DOUBLE_MEMORY_MB  what each of them has (1024)
    ACL_DOUBLE_SLEEP_MS   how long every execution takes at least (0)
    ACL_DOUBLE_SLEEP_FILE a file that may come to hold such a number, while runs go on
    ACL_DOUBLE_FAIL       "rt.malloc:3=207001;mdl.execute_async:1=507011;*:40=507000": calls that
                          fail, by name (or of any name) and number
    ACL_DOUBLE_LOST       a folder: device N is lost while it holds a file called N
    ACL_DOUBLE_TRACE      a file: every call, one line of JSON each
    ACL_DOUBLE_REPORT     a file, or a folder for one file of each process: the report, written at
                          finalize and at the process's exit
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

UNINITIALIZED, REPEAT_INIT, REPEAT_FINALIZE = 100001, 100002, 100037
NO_CONTEXT, STREAM_CONTEXT, DEVICE_LOST = 107002, 107003, 507010


class ContractViolation(AssertionError):
    """The caller did what the real library does not allow."""


@dataclass(eq=False)
class Thing:
    """Something with a handle: its kind, the context it was made in, what it holds."""

    kind: str
    handle: int
    device: int
    context: int
    holds: Any = None
    in_flight: int = 0
    children: list[int] = field(default_factory=list)


class World:
    """One process's library; ``reset`` in ``acl._double`` makes another."""

    def __init__(self) -> None:
        env = os.environ
        self.pid = os.getpid()
        self.lock = threading.RLock()
        self.threads = threading.local()
        self.references = 0
        self.devices = int(env.get("ACL_DOUBLE_DEVICES", "1"))
        self.soc = env.get("ACL_DOUBLE_SOC", "Ascend310P3")
        self.capacity = int(env.get("ACL_DOUBLE_MEMORY_MB", "1024")) << 20
        self.sleep_s = float(env.get("ACL_DOUBLE_SLEEP_MS", "0")) / 1e3
        self.sleep_file = env.get("ACL_DOUBLE_SLEEP_FILE", "")
        self.lost_folder = env.get("ACL_DOUBLE_LOST", "")
        self.trace_file = env.get("ACL_DOUBLE_TRACE", "")
        self.report_file = env.get("ACL_DOUBLE_REPORT", "")
        self.faults = _faults(env.get("ACL_DOUBLE_FAIL", ""))
        self.used: Counter[int] = Counter()
        self.things: dict[int, Thing] = {}
        self.dead: dict[int, str] = {}
        self.refused: set[int] = set()
        self.default_contexts: dict[int, int] = {}
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self.made = 0
        self.device_top = 0

    # -- handles ------------------------------------------------------------------------------

    def violation(self, text: str) -> ContractViolation:
        """Keep a violation for the report and return it to be raised."""
        self.violations.append(text)
        return ContractViolation(text)

    def make(
        self, kind: str, holds: Any = None, handle: int = 0, context: int | None = None
    ) -> int:
        """Give something a handle that no other kind shares."""
        with self.lock:
            self.made += 1
            if not handle:
                handle = _BASES[kind] + self.made * (1 if kind == "model" else 64)
            owner = self.current() if context is None else context
            device = self.things[owner].device if owner in self.things else -1
            self.things[handle] = Thing(kind, handle, device, owner, holds)
            self.dead.pop(handle, None)
            return handle

    def get(self, handle: int, kind: str) -> Thing:
        """Return what a handle stands for; a dead, foreign or wrong one is a violation."""
        thing = self.things.get(handle)
        if thing is None:
            was = self.dead.get(handle)
            raise self.violation(
                f"{handle:#x} is used as {kind} "
                + (f"after this {was} was given up" if was else "and is no handle")
            )
        if thing.kind != kind:
            raise self.violation(f"{handle:#x} is used as {kind} and is a {thing.kind}")
        return thing

    def drop(self, handle: int, kind: str) -> Thing:
        """Give a handle up; one that is in flight, or was given up before, is a violation."""
        with self.lock:
            thing = self.get(handle, kind)
            if thing.in_flight:
                raise self.violation(f"{kind} {handle:#x} is given up while it is in flight")
            del self.things[handle]
            self.refused.discard(handle)
            self.dead[handle] = kind
            return thing

    def alive(self, context: int, *kinds: str) -> list[Thing]:
        """Return what was made in a context and lives, but for what could not be given up."""
        return [
            t
            for t in self.things.values()
            if t.context == context and t.kind in kinds and t.handle not in self.refused
        ]

    # -- threads and devices --------------------------------------------------------------------

    def current(self) -> int:
        """Return this thread's context, 0 for none."""
        context = getattr(self.threads, "context", 0)
        return context if context in self.things else 0

    def device(self) -> int:
        """Return the device of this thread's context, -1 for none."""
        context = self.current()
        return self.things[context].device if context else -1

    def pause_s(self) -> float:
        """Return how long an execution takes at least, as of now."""
        if self.sleep_file and os.path.exists(self.sleep_file):
            with open(self.sleep_file, encoding="utf-8") as file:
                return float(file.read() or 0) / 1e3
        return self.sleep_s

    def lost(self, device: int) -> bool:
        """Tell if a device is lost at present."""
        return bool(self.lost_folder) and os.path.exists(f"{self.lost_folder}/{device}")

    # -- what is told ---------------------------------------------------------------------------

    def trace(self, **told: Any) -> None:
        """Add a line to the trace."""
        if self.trace_file:
            line = json.dumps({"pid": self.pid, "thread": threading.get_ident(), **told})
            with open(self.trace_file, "a", encoding="utf-8") as file:
                file.write(line + "\n")

    def report(self) -> dict[str, Any]:
        """Return what is alive and was never given up, and every violation."""
        excused = set(self.refused) | set(self.default_contexts.values())
        for thing in self.things.values():
            if thing.kind == "dataset" and thing.handle in self.refused:
                excused.update(thing.holds.descs.values())  # they would have gone with it
        kept = [thing for thing in self.things.values() if thing.handle not in excused]
        return {
            "pid": self.pid,
            "live": dict(Counter(t.kind for t in kept)),
            "live_bytes": sum(t.holds.size for t in kept if t.kind in ("device memory", "pinned")),
            "refused": dict(Counter(self.things[h].kind for h in self.refused if h in self.things)),
            "violations": list(self.violations),
            "initialised": self.references,
            "calls": dict(self.counts),
        }

    def write_report(self) -> None:
        """Write the report where the environment says."""
        if self.report_file and os.getpid() == self.pid:
            path = self.report_file
            if os.path.isdir(path):
                path = os.path.join(path, f"{self.pid}.json")
            with open(path, "w", encoding="utf-8") as file:
                json.dump(self.report(), file)


_BASES = {
    "context": 0x51_0000_0000,
    "stream": 0x52_0000_0000,
    "model": 0x0D00_0000,
    "model desc": 0x53_0000_0000,
    "dataset": 0x54_0000_0000,
    "data buffer": 0x55_0000_0000,
    "tensor desc": 0x56_0000_0000,
    "dataset tensor desc": 0x57_0000_0000,
}


class _Here:
    """Where the world of the process is kept."""

    world: World | None = None


def world() -> World:
    """Return this process's library, with the environment as it was at the first call."""
    if _Here.world is None:
        _Here.world = World()
    return _Here.world


def renew() -> World:
    """Forget everything, as a new process would."""
    _Here.world = World()
    return _Here.world


@atexit.register
def _at_exit() -> None:
    if _Here.world is not None:
        _Here.world.write_report()


def api(
    name: str,
    failed: Callable[[int], Any] | None = None,
    *,
    releases: bool = False,
    spoils: Callable[..., None] | None = None,
    needs: str = "context",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function one of the library's: positional, counted, traced, made to fail.

    ``failed`` makes the answer of a call that fails with a code; without it the call cannot fail.
    A call that ``releases`` and is made to fail leaves what it should have released to nobody: the
    report then counts that as refused, not as leaked. ``spoils`` is what a failure does beside.
    ``needs``: ``context``, ``init`` or nothing.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any) -> Any:
            here = world()
            if os.getpid() != here.pid:
                raise here.violation(f"acl.{name} is called in a child made by fork")
            for arg in args:
                if type(arg) not in (int, str, bytes, list, dict):
                    raise TypeError(f"acl.{name} args parse failed")
            code = _refusal(here, name, needs) if failed is not None else 0
            if code:
                if releases and args:
                    here.refused.add(here.default_contexts.get(args[0], args[0]))
                if spoils is not None:
                    spoils(*args)
                here.threads.message = f"E{code % 100000:05d}: the double was told to fail {name}"
                answer = failed(code)  # type: ignore[misc]
            else:
                answer = function(*args)
            here.trace(call=name, args=[_short(a) for a in args], answer=_short(answer))
            return answer

        return call

    return decorate


def _refusal(here: World, name: str, needs: str) -> int:
    """Return the code that a call is to fail with before it does anything; 0 for none."""
    with here.lock:
        here.counts[name] += 1
        here.counts["*"] += 1
        for key in (name, "*"):
            code = here.faults.pop((key, here.counts[key]), 0)
            if code:
                return code
    if needs and not here.references:
        return UNINITIALIZED
    if needs == "context":
        if not here.current():
            return NO_CONTEXT
        if here.lost(here.device()):
            return DEVICE_LOST
    return 0


def fail(here: World, code: int, text: str) -> int:
    """Return a code, and keep words for ``get_recent_err_msg``."""
    here.threads.message = f"EH{code % 10000:04d}: {text}"
    return code


def _faults(text: str) -> dict[tuple[str, int], int]:
    faults = {}
    for one in filter(None, text.split(";")):
        where, _, code = one.partition("=")
        name, _, number = where.partition(":")
        faults[name, int(number)] = int(code)
    return faults


def _short(value: Any) -> Any:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, (tuple, list)):
        return [_short(v) for v in value]
    return value if isinstance(value, (int, str, dict, type(None))) else str(type(value))
