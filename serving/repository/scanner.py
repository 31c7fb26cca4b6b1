"""Looks at a model repository on disk: which servables, versions and model files it holds.

A broken servable never raises: it is listed with its reason. Names in reasons and notes are
relative to the model directory, for they may be shown to clients.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

from serving.errors import ConfigError
from serving.repository import layout, names
from serving.repository.class_labels import ClassLabels, read_class_labels
from serving.repository.example import Example, read_example
from serving.repository.layout import Entry, Kind, Listing, ServableLayout
from serving.repository.model_file import Choice, choose_bare, choose_model, nested_model
from serving.repository.settings import DEFAULT_SETTINGS, ServableSettings, parse_settings
from serving.repository.triton_folder import TritonFolder, read_folder

_MAX_SETTINGS_BYTES = 1 << 20


@dataclass(frozen=True)
class VersionScan:
    """One version: the model file to inspect and load, or ``None`` and the reason why not.

    ``name`` is the file (or, without one, the folder) relative to the model directory. ``path``
    is absolute; links in its folder are followed, so that a switch of a link during a load
    cannot mix two versions.
    """

    version: int
    name: str
    path: Path | None
    reason: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ServableScan:
    """One servable: its settings and versions (ascending), or the reason why it has none.

    ``triton`` is what its ``config.pbtxt`` says, where that is what it is set up by;
    ``example`` the request that lies beside it, if one does. ``code`` is the folder of its
    ``servable_config.py``, links followed, where it has one: its versions are folders then, for
    that file says which models they hold.
    """

    name: str
    settings: ServableSettings = DEFAULT_SETTINGS
    versions: tuple[VersionScan, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()
    triton: TritonFolder | None = None
    example: Example | None = None
    class_labels: ClassLabels = ()
    code: Path | None = None

    @property
    def available(self) -> frozenset[int]:
        """Versions with a complete model file; what a version policy chooses from."""
        return frozenset(v.version for v in self.versions if v.path is not None)

    def version(self, number: int) -> VersionScan:
        """Return one version. Raises KeyError."""
        for found in self.versions:
            if found.version == number:
                return found
        raise KeyError(number)


@dataclass(frozen=True)
class RepositoryScan:
    """What a model directory held at one moment: servables by name, and notes on the rest."""

    root: Path
    servables: tuple[ServableScan, ...] = ()
    notes: tuple[str, ...] = field(default_factory=tuple)


def check_model_dir(model_dir: Path) -> Path:
    """Return the model directory with its own links followed.

    Raises ConfigError with code ``no_model_dir``: missing, not a folder, or not readable.
    """
    try:
        root = model_dir.resolve(strict=True)
        with os.scandir(root):
            return root
    except NotADirectoryError:
        message = f"--model-dir {model_dir} is a file, not a folder"
        fix = _folder_of(model_dir.absolute())
    except FileNotFoundError:
        message = f"--model-dir {model_dir} does not exist"
        fix = "create it, or pass the folder that holds your servables"
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        problem = os.strerror(error.errno or 0) if isinstance(error, OSError) else "a loop of links"
        message = f"--model-dir {model_dir} cannot be read: {problem}"
        fix = "check the permissions of the folder and of those above it"
    raise ConfigError(message, code="no_model_dir", where="--model-dir", fix=fix)


def _folder_of(file: Path) -> str:
    """Say which folder to pass in place of a file in it; that of a version is none to pass."""
    version = file.parent
    if names.version_of(version.name) is None:
        return f"pass the folder that holds it: --model-dir {version}"
    servable = version.parent
    return f"pass the folder that holds servable {servable.name!r}: --model-dir {servable.parent}"


def scan(model_dir: Path, only: Set[str] | None = None) -> RepositoryScan:
    """Look at the whole repository once; at what ``only`` names, where it is given.

    Raises ConfigError when the model directory cannot be listed (code ``no_model_dir``) or is
    itself the folder of a single servable (its fix: pass the parent).
    """
    return _Scanner(check_model_dir(model_dir)).run(model_dir, only)


class _Scanner:
    """Lists folders under one root and carries out the decisions of ``layout``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def run(self, given: Path, only: Set[str] | None) -> RepositoryScan:
        try:
            entries = self._list(self._root)
        except OSError as error:
            message = f"--model-dir {given} cannot be read: {_problem(error)}"
            raise ConfigError(message, code="no_model_dir", where="--model-dir") from None
        if only is not None:
            entries = tuple(entry for entry in entries if entry.name in only)
        elif why := layout.single_servable(entries, self._look):
            raise ConfigError(
                f"--model-dir {given} looks like the folder of a single servable: {why}",
                where="--model-dir",
                expected="a folder of servables, <model-dir>/<servable>/<version>/<model file>",
                fix=f"pass its parent: --model-dir {self._root.parent}",
            )
        found = layout.read_root(entries)
        notes = found.notes + _version_itself(self._root, found.bare)
        servables = [self._with_files(self._servable(name)) for name in found.folders]
        servables += [self._bare(name, choose_bare(files)) for name, files in found.bare]
        servables += [ServableScan(name, reason=reason) for name, reason in found.refused]
        servables.sort(key=lambda s: s.name)
        return RepositoryScan(self._root, tuple(servables), notes)

    def _servable(self, name: str) -> ServableScan:
        folder = (self._root / name).resolve()
        try:
            entries = self._list(folder)
            settings, triton = self._settings(name, folder, entries)
        except OSError as error:
            return ServableScan(name, reason=f"its folder cannot be read: {_problem(error)}")
        except ConfigError as error:
            return ServableScan(name, reason=str(error))
        found = layout.read_servable(entries)
        if found.stages:
            return self._staged(name, folder, entries, found, settings)
        notes = found.notes + (triton.notes if triton else ())
        notes += tuple(
            f"{key} is not looked at: there is no {names.STAGES_FILE} beside {names.SETTINGS_FILE}"
            for key in ("stages", "methods")
            if key in settings.set_keys
        )
        if found.bare and found.reason:
            return ServableScan(name, settings, (), found.reason, notes, triton)
        asked_in = names.TRITON_FILE if triton else names.SETTINGS_FILE
        versions = self._versions(name, folder, entries, found, settings.model_file, asked_in)
        reason = ""
        if found.bare and versions[0].path is None:
            reason, versions = versions[0].reason, ()
        return ServableScan(name, settings, versions, reason, notes, triton)

    def _staged(
        self,
        name: str,
        folder: Path,
        entries: Listing,
        found: ServableLayout,
        settings: ServableSettings,
    ) -> ServableScan:
        """Look at a servable that its ``servable_config.py`` makes."""
        code = next(e for e in entries if e.name == names.STAGES_FILE)
        if code.outside or code.kind is not Kind.FILE:
            problem = layout.OUTSIDE if code.outside else f"is a {code.kind.value}, not a file"
            return ServableScan(name, settings, reason=f"{name}/{code.name} {problem}")
        notes = found.notes
        if any(e.name == names.TRITON_FILE for e in entries):
            notes += (
                f"{names.TRITON_FILE} beside {names.STAGES_FILE}: what it says of inputs and "
                "outputs is not looked at",
            )
        if settings.model_file is not None:
            notes += (f"model_file is not looked at: {names.STAGES_FILE} names the model files",)
        if settings.warmup:
            notes += (f"warmup is not looked at: what {names.STAGES_FILE} makes warms by itself",)
        versions = [VersionScan(n, f"{name}/{n}", None, reason) for n, reason in found.refused]
        places = found.versions or (() if found.refused else ((1, ""),))
        versions += [self._home(n, name, folder, child) for n, child in places]
        versions.sort(key=lambda v: v.version)
        return ServableScan(name, settings, tuple(versions), notes=notes, code=folder)

    def _home(self, number: int, name: str, folder: Path, child: str) -> VersionScan:
        """Look at the folder with the models of one version; without any it is the servable's."""
        place, home = f"{name}/{child}".rstrip("/"), (folder / child).resolve()
        try:
            outside = [e.name for e in self._list(home) if e.outside]
        except OSError as error:
            return VersionScan(number, place, None, f"its folder cannot be read: {_problem(error)}")
        if outside:
            reason = f"{names.printable(outside[0])} {layout.OUTSIDE}"
            return VersionScan(number, place, None, reason)
        return VersionScan(number, place, home)

    def _with_files(self, found: ServableScan) -> ServableScan:
        """Add what lies beside a servable's versions and concerns its callers."""
        folder = (self._root / found.name).resolve()
        example, notes = read_example(folder, found.name, self._root)
        labels: ClassLabels = ()
        if found.triton is not None:
            labels, more = read_class_labels(found.triton, folder, found.name, self._root)
            notes += more
        return replace(found, example=example, class_labels=labels, notes=(*found.notes, *notes))

    def _versions(
        self,
        name: str,
        folder: Path,
        entries: Listing,
        found: ServableLayout,
        model_file: str | None,
        asked_in: str,
    ) -> tuple[VersionScan, ...]:
        if found.bare:
            nested = layout.hub_folder(entries)
            if nested and model_file not in {e.name for e in entries}:
                return (self._inner(1, f"{name}/{nested}", folder / nested, model_file, asked_in),)
            choice = choose_model(entries, model_file, asked_in)
            return (_version(1, name, folder, choice),)
        versions = [VersionScan(n, f"{name}/{n}", None, reason) for n, reason in found.refused]
        for number, child in found.versions:
            place = f"{name}/{child}"
            version = self._inner(number, place, folder / child, model_file, asked_in, child)
            versions.append(version)
        return tuple(sorted(versions, key=lambda v: v.version))

    def _inner(
        self,
        number: int,
        place: str,
        folder: Path,
        model_file: str | None,
        asked_in: str,
        child: str = "",
    ) -> VersionScan:
        """Look for the model of a version in a folder of the servable's; ``child`` is its own."""
        home = folder.resolve()
        try:
            inner = self._list(home)
            if child and (nested := nested_model(inner, model_file)):
                place, home = f"{place}/{nested}", (home / nested).resolve()
                inner = self._list(home)
        except OSError as error:
            reason = f"its folder cannot be read: {_problem(error)}"
            return VersionScan(number, place, None, reason)
        choice = choose_model(inner, model_file, asked_in)
        strays = tuple(f"{child}/{note}" for note in layout.misplaced(inner) if child)
        return _version(number, place, home, replace(choice, notes=choice.notes + strays))

    def _bare(self, name: str, choice: Choice) -> ServableScan:
        if not choice.name:
            return ServableScan(name, reason=choice.reason)
        version = VersionScan(1, choice.name, self._root / choice.name, notes=choice.notes)
        return ServableScan(name, versions=(version,))

    def _settings(
        self, name: str, folder: Path, entries: Listing
    ) -> tuple[ServableSettings, TritonFolder | None]:
        """Read the settings: from ``servable.toml``, else from Triton's file, else none."""
        by_name = {e.name: e for e in entries}
        if entry := by_name.get(names.SETTINGS_FILE):
            file = f"{name}/{entry.name}"
            return parse_settings(_read(folder, entry, file), file), None
        if entry := by_name.get(names.TRITON_FILE):
            file = f"{name}/{entry.name}"
            triton = read_folder(_read(folder, entry, file), file, name)
            return triton.settings, triton
        return DEFAULT_SETTINGS, None

    def _look(self, name: str) -> Listing:
        try:
            return self._list(self._root / name)
        except OSError:
            return ()

    def _list(self, folder: Path) -> Listing:
        with os.scandir(folder) as found:
            entries = [self._entry(item) for item in found]
        return tuple(sorted(entries, key=lambda e: e.name))

    def _entry(self, item: os.DirEntry[str]) -> Entry:
        outside = item.is_symlink() and not self._inside(item.path)
        try:
            status = item.stat()
        except OSError:
            return Entry(item.name, Kind.BROKEN, outside=outside)
        if stat.S_ISDIR(status.st_mode):
            return Entry(item.name, Kind.FOLDER, outside=outside)
        if stat.S_ISREG(status.st_mode):
            return Entry(item.name, Kind.FILE, status.st_size, outside)
        return Entry(item.name, Kind.OTHER, outside=outside)

    def _inside(self, path: str) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(self._root)


def _version_itself(root: Path, bare: Sequence[tuple[str, Sequence[Entry]]]) -> tuple[str, ...]:
    """Remark on a model directory that is called like a version and holds a model file."""
    if names.version_of(root.name) is None or not bare:
        return ()
    return (
        f"the model directory is called like a version, {root.name}, and each model file in it is "
        "a servable of its own: if it is the version of one, pass the folder two levels above it",
    )


def _version(number: int, place: str, folder: Path, choice: Choice) -> VersionScan:
    if not choice.name:
        return VersionScan(number, place, None, choice.reason, choice.notes)
    return VersionScan(number, f"{place}/{choice.name}", folder / choice.name, notes=choice.notes)


def _read(folder: Path, entry: Entry, file: str) -> bytes:
    """Read a settings file. Raises ConfigError for one that cannot be, or is huge or elsewhere."""
    if entry.outside:
        raise ConfigError(f"{file} {layout.OUTSIDE}", where=file)
    if entry.kind is not Kind.FILE:
        raise ConfigError(f"{file} is a {entry.kind.value}, not a file", where=file)
    try:
        with open(folder / entry.name, "rb") as stream:
            data = stream.read(_MAX_SETTINGS_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {_problem(error)}", where=file) from None
    if len(data) > _MAX_SETTINGS_BYTES:
        raise ConfigError(f"{file} is larger than {_MAX_SETTINGS_BYTES >> 10} KiB", where=file)
    return data


def _problem(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "it went away while it was read"
    return os.strerror(error.errno or 0)
