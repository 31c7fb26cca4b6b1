"""Devices by name: what ``--devices`` and settings ask for, held against what is there. Pure.

Read by the master and by workers, so this file keeps to Python 3.9 syntax.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Dict, Mapping, Optional, Tuple

from serving.errors import ConfigError, did_you_mean

KINDS = ("cpu", "gpu", "ascend")
AUTO = "auto"

BACKENDS = {"cpu": "onnxruntime", "gpu": "tensorrt", "ascend": "ascend"}
"""The backend that a worker of each kind opens first; its interpreter and environment hold."""

SECOND_BACKENDS = {"gpu": "onnxruntime"}
"""What a worker of a kind falls back on, by name and aloud, in the environment of the first."""

BACKEND_NAMES = tuple(BACKENDS.values())
"""What a servable can pin, and a server's settings are made for."""

SLOTS = {"cpu": 1, "gpu": 2, "ascend": 1}
"""Runs that a worker takes at once: on a GPU copies of one overlap with the computing of another,
a CPU has no copies, and one model of an Ascend device must not run on two streams."""

FORM = "cpu, gpu, gpu:0, gpu:0-3, ascend, ascend:0, ascend:0-3 separated by commas, or auto"

_ITEM = re.compile(r"([A-Za-z_]+)(?::(\d{1,4})(?:-(\d{1,4}))?)?")
_MOST_PER_KIND = 64


@dataclass(frozen=True)
class Device:
    """What a worker computes on: ``cpu``, ``gpu`` or ``ascend``, and which one of its kind."""

    kind: str = "cpu"
    index: int = 0

    def __str__(self) -> str:
        """Return it as ``--devices`` writes it."""
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"


@dataclass(frozen=True)
class Asked:
    """What ``--devices`` asks for: by kind the numbers, or None for all that are there.

    ``auto`` takes every device that is found, and the CPU.
    """

    auto: bool = False
    kinds: Mapping[str, Optional[Tuple[int, ...]]] = field(default_factory=dict)

    @property
    def cpu(self) -> bool:
        """Whether CPU workers are asked for."""
        return self.auto or "cpu" in self.kinds

    @property
    def probed(self) -> Tuple[str, ...]:
        """The kinds that must be looked for, in order."""
        wanted = KINDS if self.auto else tuple(self.kinds)
        return tuple(kind for kind in wanted if kind != "cpu")


@dataclass(frozen=True)
class Where:
    """Where a model is to be loaded: a kind of device, and which ones; None: all of them."""

    kind: str = "cpu"
    indices: Optional[Tuple[int, ...]] = None

    def holds(self, device: Device) -> bool:
        """Return whether a device is one of them."""
        return device.kind == self.kind and (self.indices is None or device.index in self.indices)


def parse_devices(text: str, where: str = "--devices") -> Asked:
    """Read a list of devices; raises ConfigError naming what is wrong with which part."""
    items = [item.strip() for item in text.split(",")]
    if items == [AUTO] or items == [AUTO.upper()]:
        return Asked(auto=True)
    kinds: Dict[str, Optional[Tuple[int, ...]]] = {}
    for item in items:
        kind, numbers = _item(item, where)
        if kind in kinds and (numbers is None or kinds[kind] is None):
            raise _wrong(f"{kind!r} is named twice", item, where)
        known = kinds.get(kind) or ()
        twice = sorted(set(known) & set(numbers or ()))
        if twice:
            raise _wrong(f"'{kind}:{twice[0]}' is named twice", item, where)
        kinds[kind] = None if numbers is None else (*known, *numbers)
    return Asked(kinds=kinds)


def devices_text(asked: Asked) -> str:
    """Return what was asked for as ``parse_devices`` reads it."""
    if asked.auto:
        return AUTO
    parts = []
    for kind, numbers in asked.kinds.items():
        parts += [kind] if numbers is None else [f"{kind}:{n}" for n in numbers]
    return ",".join(parts)


def _item(item: str, where: str) -> Tuple[str, Optional[Tuple[int, ...]]]:
    if not item:
        raise _wrong("a device is missing between two commas or at an end", item, where)
    found = _ITEM.fullmatch(item)
    kind = (found.group(1) if found else item.split(":")[0]).lower()
    if kind == AUTO:
        raise _wrong(f"{AUTO!r} stands alone: it takes every device that is found", item, where)
    if kind not in KINDS:
        raise ConfigError(
            f"{where} names a device {item[:60]!r} that is not known",
            where=where, expected=FORM, fix=did_you_mean(kind, (*KINDS, AUTO)),
        )  # fmt: skip
    if found is None:
        raise _wrong("the numbers of a device cannot be read", item, where)
    first, last = found.group(2), found.group(3)
    if first is None:
        return kind, None
    if kind == "cpu":
        raise ConfigError(
            f"{where} numbers the CPU", where=where, expected="'cpu'", given=repr(item),
            fix="write cpu; --workers says how many CPU workers there are",
        )  # fmt: skip
    begin, end = int(first), int(first if last is None else last)
    if end < begin:
        raise _wrong(f"the range {begin}-{end} is empty", item, where)
    if end - begin >= _MOST_PER_KIND:
        raise _wrong(f"the range {begin}-{end} has more than {_MOST_PER_KIND} devices", item, where)
    return kind, tuple(range(begin, end + 1))


def _wrong(what: str, item: str, where: str) -> ConfigError:
    return ConfigError(f"{where}: {what}", where=where, expected=FORM, given=repr(item[:60]))
