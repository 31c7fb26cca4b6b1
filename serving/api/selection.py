"""The servables that a start script names, wherever they lie, as one repository."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from serving.api.start_config import Wanted
from serving.repository.observation import Observation, Offer, observe, of_one_version
from serving.repository.scanner import ServableScan
from serving.repository.settings import ServableSettings
from serving.repository.snapshot import Folder
from serving.repository.version_policy import SpecificVersions

_ONLY = 1
"""The version that a folder without version folders is."""


@dataclass(frozen=True)
class Terms:
    """What holds for every servable of a start: the most requests that may wait for one."""

    max_queue_size: int


class Selection:
    """Looks at the wanted servables of several directories; the lifecycle's ``Look``.

    Their settings are those of their folders, with what the script says above them. Owns the
    keys of encrypted models, each in a file without a name, until ``close``.
    """

    def __init__(self, wanted: Iterable[Wanted], terms: Terms) -> None:
        self._wanted = {want.name: want for want in wanted}
        self._terms = terms
        self._keys = {
            want.name: _key_file(want.key) for want in self._wanted.values() if want.key is not None
        }
        self._by_directory: dict[Path, frozenset[str]] = {}
        for want in self._wanted.values():
            names = self._by_directory.get(want.directory, frozenset())
            self._by_directory[want.directory] = names | {want.name}
        self._seen: dict[Path, Observation] = {}

    def close(self) -> None:
        """Forget the keys."""
        for descriptor in self._keys.values():
            os.close(descriptor)
        self._keys.clear()

    def __call__(self, before: Observation | None) -> Observation | None:
        """Look at all directories; None if nothing is different. Raises ConfigError."""
        different = before is None
        for directory, names in self._by_directory.items():
            seen = observe(directory, self._seen.get(directory), names)
            if seen is not None:
                self._seen[directory] = seen
                different = True
        if not different:
            return None
        offers: dict[str, Offer] = {}
        notes: tuple[str, ...] = ()
        for seen in self._seen.values():
            offers.update({name: self._adjusted(name, o) for name, o in seen.offers.items()})
            notes += seen.notes
        return Observation(offers, notes, Folder(), 0)

    def _adjusted(self, name: str, offer: Offer) -> Offer:
        want = self._wanted[name]
        offer = _numbered(offer, want.versions)
        settings = self._settings(want, offer.servable.settings)
        one = of_one_version(settings)
        return replace(
            offer,
            servable=replace(offer.servable, settings=settings),
            sources={n: replace(source, settings=one) for n, source in offer.sources.items()},
        )

    def _settings(self, want: Wanted, given: ServableSettings) -> ServableSettings:
        said: dict[str, Any] = {}
        if want.versions:
            said["versions"] = SpecificVersions(want.versions)
        if "stages" not in given.set_keys:
            device = want.devices[0] if want.devices else given.stages.device_id
            said["stages"] = replace(given.stages, workers=want.workers, device_id=device)
        if "max_queue_size" not in given.set_keys:
            said["max_queue_size"] = self._terms.max_queue_size
        if want.name in self._keys:
            file = f"/proc/{os.getpid()}/fd/{self._keys[want.name]}"
            said |= {"key_env": None, "key_file": file, "dec_mode": want.mode}
        return replace(given, **said)


def _numbered(offer: Offer, versions: tuple[int, ...]) -> Offer:
    """Give a servable without version folders the only number that was asked for.

    MindSpore Serving serves such a folder under any number.
    """
    scan = offer.servable
    if len(versions) != 1 or versions[0] == _ONLY or not _bare(scan):
        return offer
    number = versions[0]
    return replace(
        offer,
        servable=replace(scan, versions=(replace(scan.versions[0], version=number),)),
        sources=dict.fromkeys((number,), offer.sources[_ONLY]) if offer.sources else {},
        at_rest=frozenset({number} if offer.at_rest else ()),
        there=frozenset({number} if offer.there else ()),
    )


def _bare(scan: ServableScan) -> bool:
    """Return whether it has no version folders: the place of its only version is its own."""
    if len(scan.versions) != 1:
        return False
    return scan.versions[0].name.count("/") == (1 if scan.code is None else 0)


def _key_file(key: bytes) -> int:
    """Return a descriptor of a file in memory that holds a key as the helpers read it."""
    descriptor = os.memfd_create("key")
    with contextlib.suppress(OSError):
        os.fchmod(descriptor, 0o600)
    os.write(descriptor, b"hex:" + key.hex().encode())
    return descriptor
