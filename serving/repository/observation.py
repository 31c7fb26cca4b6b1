"""One look at a model repository: what it offers, and which of its files have come to rest."""

from __future__ import annotations

import os
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

from serving.errors import ConfigError
from serving.repository import labels
from serving.repository.class_labels import ClassLabels
from serving.repository.example import Example
from serving.repository.scanner import RepositoryScan, ServableScan, VersionScan, scan
from serving.repository.settings import DEFAULT_SETTINGS, ServableSettings
from serving.repository.snapshot import (
    Folder,
    Print,
    home_of,
    look,
    print_of,
    print_with_code,
    stamp_of,
)
from serving.repository.triton_folder import TritonFolder

DEFAULT_POLICY = DEFAULT_SETTINGS.versions


def of_one_version(settings: ServableSettings) -> ServableSettings:
    """Return settings without what they say about which versions are served, and as what."""
    return replace(settings, versions=DEFAULT_POLICY, labels=labels.NONE)


@dataclass(frozen=True)
class Source:
    """All that a version is made from; one that is made from the same need not be loaded again.

    ``path`` is the model file, links followed; ``home`` the folder that the names in ``files`` are
    relative to, by its name in the repository; ``folder`` is the servable's. ``settings`` are
    without version policy and labels, which choose and name versions and change none. With
    ``code``, the folder of a ``servable_config.py``, ``path`` is the folder with the models that
    it declares.
    """

    path: Path
    home: Path
    files: Print
    settings: ServableSettings
    triton: TritonFolder | None = None
    example: Example | None = None
    class_labels: ClassLabels = ()
    code: Path | None = None
    folder: Path = Path()

    def unchanged(self) -> bool:
        """Return whether the files still are what they were when they were looked at."""
        for name, stamp in self.files.files:
            try:
                if stamp_of(os.stat(self.home / name)) != stamp:
                    return False
            except OSError:
                return False
        return True


@dataclass(frozen=True)
class Offer:
    """One servable as it is offered.

    ``sources`` are those of the versions with a model file, ``at_rest`` the versions that no copy
    is under way of, and ``there`` those that have a folder now or had one a moment ago: a folder
    that is being replaced is away for an instant. With ``all_or_nothing`` what serves goes on,
    deleted or not, until all that is wanted serves.
    """

    servable: ServableScan
    sources: Mapping[int, Source] = field(default_factory=dict)
    at_rest: frozenset[int] = frozenset()
    there: frozenset[int] = frozenset()
    all_or_nothing: bool = False


@dataclass(frozen=True)
class Observation:
    """A whole repository: offers by name, the notes on the rest, and the file system it is on."""

    offers: Mapping[str, Offer]
    notes: tuple[str, ...]
    tree: Folder
    device: int


def observe(
    model_dir: Path, before: Observation | None = None, only: Set[str] | None = None
) -> Observation | None:
    """Look at a repository; None when nothing is different from a look before.

    Without one, all files count as at rest. ``only`` names the servables to look at; None: all.
    Raises ConfigError when it cannot be looked at.
    """
    tree = look(model_dir, only)
    if before is not None and tree == before.tree and _quiet(before):
        return None
    found = scan(model_dir, only)
    device = os.stat(model_dir).st_dev
    if before is not None and before.offers and not found.servables and device != before.device:
        raise ConfigError(
            "the model directory is empty and on another file system than before",
            code="no_model_dir",
            fix="mount the volume again",
        )
    earlier = {} if before is None else before.offers
    offers = {
        s.name: _offer(found.root, s, tree, earlier.get(s.name), before is None)
        for s in found.servables
    }
    for name, offer in earlier.items():
        if name not in offers and offer.servable.versions:
            # Away since the look before: gone only if it is still away at the next one.
            there = frozenset(v.version for v in offer.servable.versions)
            offers[name] = Offer(ServableScan(name, offer.servable.settings), there=there)
    return Observation(offers, found.notes, tree, device)


def observe_one(model_dir: Path, name: str) -> tuple[Offer | None, RepositoryScan]:
    """Look for one servable now, as it is; None if it is not there. Raises ConfigError."""
    tree = look(model_dir)
    found = scan(model_dir)
    for servable in found.servables:
        if servable.name == name:
            return _offer(found.root, servable, tree, None, True), found
    return None, found


def _quiet(seen: Observation) -> bool:
    """Return whether a look left nothing that the next one would judge differently."""
    return all(
        offer.at_rest >= offer.sources.keys()
        and offer.there == frozenset(v.version for v in offer.servable.versions)
        and (offer.servable.versions or offer.servable.reason)
        for offer in seen.offers.values()
    )


def _offer(
    root: Path, servable: ServableScan, tree: Folder, before: Offer | None, settled: bool
) -> Offer:
    settings = of_one_version(servable.settings)
    sources: dict[int, Source] = {}
    at_rest: set[int] = set()
    for version in servable.versions:
        if version.path is None:
            continue
        staged = servable.code is not None
        source = Source(
            version.path,
            root.joinpath(*([servable.name] if staged else home_of(version.name))),
            print_with_code(tree, version.name) if staged else print_of(tree, version.name),
            settings,
            servable.triton,
            servable.example,
            servable.class_labels,
            servable.code,
            root / servable.name,
        )
        sources[version.version] = source
        earlier = before.sources.get(version.version) if before else None
        if settled or source.files.at_rest(earlier.files if earlier else None):
            at_rest.add(version.version)
    now = frozenset(v.version for v in servable.versions)
    was = frozenset(v.version for v in before.servable.versions) if before else frozenset()
    return Offer(servable, sources, frozenset(at_rest), now | was)


def refused(servable: ServableScan) -> tuple[VersionScan, ...]:
    """Return the versions that have a folder and nothing in it that can be loaded."""
    return tuple(version for version in servable.versions if version.path is None)
