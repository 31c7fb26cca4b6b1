"""The places for workers: which device each computes on, and how a worker for it is started."""

from __future__ import annotations

import logging
import sys
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from serving.config import BackendSettings, ServerSettings
from serving.devices import BACKENDS, SECOND_BACKENDS, SLOTS, Device, parse_devices
from serving.repository.discovery import chosen, find

_log = logging.getLogger("serving.master")


@dataclass(frozen=True)
class Place:
    """One place. A worker of it opens ``backend`` at once; with none, when a model wants one.

    ``interpreter`` and ``environment`` are those of its device kind's backend. One that is not
    ``required`` may be down when the server starts.
    """

    name: str = "cpu-0"
    device: Device = field(default_factory=Device)
    backend: str = ""
    slots: int = 1
    interpreter: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    required: bool = True


def places_for(
    workers: int,
    devices: Iterable[Device] = (),
    backends: Mapping[str, BackendSettings] = MappingProxyType({}),
    *,
    required: bool = True,
    second: Container[str] = (),
) -> tuple[Place, ...]:
    """Return a place for each of so many CPU workers, and one for each device.

    ``required`` is about the devices: a CPU worker always is. ``second`` are the kinds whose
    workers open the second backend, in the environment of the first, which it lacks.
    """
    cpus = [_place(Device("cpu", index), backends, required=True) for index in range(workers)]
    others = [
        _place(device, backends, required=required, second=device.kind in second)
        for device in devices
    ]
    return (*cpus, *others)


def _place(
    device: Device,
    backends: Mapping[str, BackendSettings],
    *,
    required: bool,
    second: bool = False,
) -> Place:
    name = BACKENDS[device.kind]
    opened = SECOND_BACKENDS[device.kind] if second else name
    settings = backends.get(name, BackendSettings())
    return Place(
        f"{device.kind}-{device.index}",
        device,
        "" if device.kind == "cpu" else opened,  # a CPU cannot be lost, and its engine takes time
        1 if second else SLOTS[device.kind],
        settings.interpreter,
        settings.environment(name),
        required,
    )


async def take_devices(settings: ServerSettings) -> tuple[Place, ...]:
    """Return the places of a server; raises ConfigError for a device that is not there.

    Devices are looked for in helpers, unless only the CPU is asked for.
    """
    asked = parse_devices(settings.devices)
    workers = settings.workers if asked.cpu else 0
    if not asked.probed:
        return places_for(workers, (), settings.backends)
    found = await find(asked.probed, settings.backends)
    devices = chosen(asked, found)
    for kind, there in found.items():
        if asked.auto and not there.usable:
            _log.info("no %s is used: %s", kind, there.why_not)
    for device in devices:
        name = next(d.name for d in found[device.kind].devices if d.index == device.index)
        _log.info("device %s: %s", device, name)
    second = {k for k, there in found.items() if there.usable and there.backend != BACKENDS[k]}
    for kind in second:
        _log.warning(
            "on %s models run by %s, for %s cannot be used: %s",
            kind, SECOND_BACKENDS[kind], BACKENDS[kind], found[kind].engine_problem,
        )  # fmt: skip
    return places_for(workers, devices, settings.backends, required=not asked.auto, second=second)


def kinds_of(places: Iterable[Place]) -> tuple[str, ...]:
    """Return the kinds of devices of a server, in order."""
    return tuple(dict.fromkeys(place.device.kind for place in places))
