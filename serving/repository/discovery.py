"""Finds out which devices this machine has, by asking helpers that may crash or hang."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving.config import BackendSettings
from serving.devices import BACKENDS, SECOND_BACKENDS, Asked, Device
from serving.errors import ConfigError
from serving.repository.helper import Helper, HelperFailed, last_words

_LOG = logging.getLogger("serving.repository")

_SILENCE_S = 60.0


@dataclass(frozen=True)
class FoundDevice:
    """One device; sizes in bytes, 0 where they are not known. ``problem``: it cannot be used."""

    index: int
    name: str = ""
    memory_bytes: int = 0
    free_bytes: int = 0
    capability: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Found:
    """What is there of one kind; ``problem`` says why nothing is.

    ``versions`` are those of driver and runtime; ``engine`` those of the backend's packages, or
    ``engine_problem`` why it cannot be used; ``second`` and ``second_problem`` the same of the
    kind's second backend, both empty where nobody had to ask.
    """

    kind: str
    devices: tuple[FoundDevice, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    engine: Mapping[str, str] = field(default_factory=dict)
    engine_problem: str = ""
    second: Mapping[str, str] = field(default_factory=dict)
    second_problem: str = ""

    @property
    def backend(self) -> str:
        """The backend that workers of this kind open: the second where the first is of no use."""
        return (SECOND_BACKENDS if self.engine_problem and self.second else BACKENDS)[self.kind]

    @property
    def usable(self) -> tuple[int, ...]:
        """The numbers of the devices that a worker can have; none without an engine."""
        if self.engine_problem and not self.second:
            return ()
        return tuple(device.index for device in self.devices if not device.problem)

    @property
    def why_not(self) -> str:
        """Why no worker can have one."""
        broken = "; ".join(f"{self.kind}:{d.index}: {d.problem}" for d in self.devices if d.problem)
        engines = "; ".join(filter(None, (self.engine_problem, self.second_problem)))
        return self.problem or engines or broken


async def find(
    kinds: Iterable[str],
    backends: Mapping[str, BackendSettings],
    *,
    thorough: bool = False,
    silence_s: float = _SILENCE_S,
) -> dict[str, Found]:
    """Look for devices of these kinds, side by side; never raises for what is not there.

    The second backend of a kind is only asked where the first cannot be used, or if ``thorough``:
    to take hold of a GPU takes it seconds.
    """
    wanted = tuple(kinds)
    found = await asyncio.gather(*[_look(kind, backends, thorough, silence_s) for kind in wanted])
    return dict(zip(wanted, found, strict=True))


def chosen(asked: Asked, found: Mapping[str, Found]) -> tuple[Device, ...]:
    """Return the devices beside the CPU that a server takes; pure.

    What was named and is not there raises ConfigError with what was found; ``auto`` takes what
    there is.
    """
    devices: list[Device] = []
    for kind in asked.probed:
        there = found[kind].usable
        numbers = None if asked.auto else asked.kinds[kind]
        if numbers is None:
            if not there and not asked.auto:
                raise _missing(kind, found[kind], kind)
            numbers = there
        for number in numbers:
            if number not in there:
                raise _missing(f"{kind}:{number}", found[kind], kind)
            devices.append(Device(kind, number))
    return tuple(devices)


def _missing(what: str, found: Found, kind: str) -> ConfigError:
    there = ", ".join(f"{kind}:{number}" for number in found.usable) or "none"
    problem = next((d.problem for d in found.devices if what == f"{kind}:{d.index}"), "")
    why = problem or ("" if found.usable else found.why_not)
    return ConfigError(
        f"--devices names {what}, which cannot be used" + (f": {why}" if why else ""),
        where="--devices", expected=f"devices of this machine: {there}",
        fix="`serving devices` tells what there is, and why not",
    )  # fmt: skip


async def _look(
    kind: str, backends: Mapping[str, BackendSettings], thorough: bool, silence_s: float
) -> Found:
    settings = backends.get(BACKENDS[kind], BackendSettings())
    helper = Helper(
        module=f"serving.probing.{kind}",
        timeout_s=silence_s,
        interpreter=settings.interpreter,
        env=settings.environment(BACKENDS[kind]),
    )
    try:
        told = await _ask(helper, "devices")
        # Asked apart: some engines end the process that only imports them.
        engine = await _ask(helper, "engine")
        second: Mapping[str, Any] = {}
        if kind in SECOND_BACKENDS and told.get("devices") and (thorough or "problem" in engine):
            second = await _ask(helper, "second")
    finally:
        await helper.close()
    return Found(
        kind,
        tuple(_device(entry) for entry in told.get("devices", ())),
        _texts(told.get("versions")),
        str(told.get("problem", "")),
        _texts(engine.get("versions")),
        str(engine.get("problem", "")),
        _texts(second.get("versions")),
        str(second.get("problem", "")),
    )


async def _ask(helper: Helper, what: str) -> Mapping[str, Any]:
    try:
        found = (await helper.ask({"probe": what}, ("found",)))["found"]
        if isinstance(found, dict):
            return found
        return {"problem": "its prober gave an answer that cannot be read"}
    except HelperFailed as failure:
        _LOG.warning("looking for %s failed: the helper %s\n%s", what, failure, helper.said)
        return {"problem": f"its prober {failure}{last_words(helper.said, Path())}"}


def _device(told: Mapping[str, Any]) -> FoundDevice:
    return FoundDevice(
        int(told["index"]),
        str(told.get("name", "")),
        int(told.get("memory_bytes", 0)),
        int(told.get("free_bytes", 0)),
        str(told.get("capability", "")),
        str(told.get("problem", "")),
    )


def _texts(told: Any) -> dict[str, str]:
    return {str(k): str(v) for k, v in told.items()} if isinstance(told, dict) else {}
