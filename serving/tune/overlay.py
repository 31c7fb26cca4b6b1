"""A private copy of one servable, whose settings may change while the served folder rests."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.errors import ConfigError, NotFound, did_you_mean, listing
from serving.lifecycle.policy import wanted
from serving.repository import names
from serving.repository.observation import Offer, Source, observe
from serving.repository.settings import SETTINGS_FILE, ServableSettings
from serving.tune import settings_file
from serving.tune.setting import Value


@dataclass(frozen=True)
class Subject:
    """The servable that is tuned: what serves today, and where its settings are.

    ``folder`` is None for a bare model file, which has no place for a ``servable.toml``;
    ``data`` is None where there is none yet.
    """

    name: str
    version: int
    source: Source
    folder: Path | None
    data: bytes | None
    settings: ServableSettings

    @property
    def file(self) -> str:
        """The settings file's name for messages."""
        return f"{self.name}/{SETTINGS_FILE}"


def find(model_dir: Path, name: str) -> Subject:
    """Return what would be served as ``name``: the highest version that its settings want.

    Raises ConfigError where there is no such folder or the settings are not its own; NotFound for
    an unknown servable, or one that has nothing to serve.
    """
    seen = observe(model_dir)
    assert seen is not None  # only a second look may find nothing new
    offer = seen.offers.get(name)
    if offer is None:
        raise NotFound(
            f"no servable is called {name!r} in {model_dir}",
            code="unknown_servable",
            expected=listing(seen.offers) or "a servable in the folder",
            fix=did_you_mean(name, seen.offers),
        )
    _check_kind(offer)
    settings = offer.servable.settings
    versions = wanted(offer.sources.keys(), settings.versions)
    if not versions:
        reasons = [v.reason for v in offer.servable.versions if v.reason]
        reason = offer.servable.reason or (reasons[-1] if reasons else "it has no model")
        raise NotFound(f"servable {name!r} has nothing to serve: {reason}", code="not_served")
    source = offer.sources[max(versions)]
    folder = model_dir.resolve() / name
    bare = not folder.is_dir()
    file = folder / SETTINGS_FILE
    data = file.read_bytes() if not bare and file.is_file() else None
    return Subject(name, max(versions), source, None if bare else folder, data, settings)


def _check_kind(offer: Offer) -> None:
    found = offer.servable
    if found.triton is not None:
        raise ConfigError(
            f"servable {found.name!r} is set up by a config.pbtxt, which is not tuned",
            code="cannot_tune",
            where=found.name,
            fix=f"say its settings in {found.name}/{SETTINGS_FILE}",
        )
    if found.code is not None:
        raise ConfigError(
            f"servable {found.name!r} is made by a {names.STAGES_FILE}; only models are tuned",
            code="cannot_tune",
            where=found.name,
        )


class Overlay:
    """A model directory with nothing but a copy of the subject, in a folder that is private."""

    def __init__(self, subject: Subject, place: Path) -> None:
        self._subject = subject
        self.model_dir = place / "models"
        self._home = self.model_dir / subject.name

    def fill(self) -> None:
        """Copy the files. Raises ConfigError where there is no room for them."""
        sizes = sum(size for _, (_, size, _) in self._subject.source.files.files)
        self.model_dir.mkdir(parents=True)
        free = shutil.disk_usage(self.model_dir).free
        if sizes > free * 0.9:
            raise ConfigError(
                f"a copy of the model, {sizes >> 20} MiB, has no room in {self.model_dir.parent}",
                code="cannot_copy",
                given=f"{free >> 20} MiB free",
                fix="name a larger folder in the environment variable TMPDIR",
            )
        try:
            self._copy()
        except (OSError, shutil.Error) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise ConfigError(
                f"servable {self._subject.name!r} cannot be copied: {reason or error}",
                code="cannot_copy",
            ) from None

    def _copy(self) -> None:
        source, folder = self._subject.source, self._subject.folder
        if folder is None:
            self._home.mkdir()
            for name, _ in source.files.files:
                target = self._home / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source.home / name, target)
            return
        kept = str(self._subject.version)

        def ignore(place: str, entries: list[str]) -> list[str]:
            here = Path(place)
            top = here == folder
            return [
                e for e in entries
                if names.is_quiet_folder(e)
                or (top and names.version_of(e) is not None and e != kept)
                or not ((here / e).is_file() or (here / e).is_dir())
                or not (here / e).resolve().is_relative_to(folder.parent)
            ]  # fmt: skip

        shutil.copytree(folder, self._home, ignore=ignore, copy_function=shutil.copyfile)

    def settle(self, changes: Mapping[str, Value]) -> None:
        """Write the settings: the subject's own, but for these keys."""
        data = self._subject.data or b""
        changed = settings_file.edited(data, changes, (), self._subject.file) if changes else data
        (self._home / SETTINGS_FILE).write_bytes(changed)
