"""What the files of a model directory look like from outside: names, sizes, times, never content.

Two looks that agree say that nothing was changed between them. This is polling on purpose: the
kernel's change events do not cross network file systems, the lower layers of a container's
overlay, or volumes that another machine writes, so polling would have to be there beside them.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path

from serving.repository import names

_DEEPEST = 5
"""Levels below the model directory: servable, version, and folders of external data."""

_SET_UP = frozenset({names.SETTINGS_FILE, names.TRITON_FILE})
_SETTINGS = _SET_UP | {names.STAGES_FILE}

Stamp = tuple[int, int, int]
"""Modification time in ns, size in bytes, inode number."""


@dataclass(frozen=True)
class Folder:
    """A folder's files and folders by name; ``changed_ns`` is when its own inode last changed."""

    files: dict[str, Stamp] = field(default_factory=dict)
    folders: dict[str, Folder] = field(default_factory=dict)
    changed_ns: int = field(default=0, compare=False)
    files_changed_ns: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Print:
    """The files that make up one version, as far as they can be told from outside.

    ``files`` are those a model may consist of; ``passing`` the rest (hidden, half-copied), which
    come and go without making it another model. ``moved_in`` says that the folder was renamed
    into its place after the last of its files was written, so that no copy is under way.
    """

    files: tuple[tuple[str, Stamp], ...] = ()
    passing: tuple[tuple[str, Stamp], ...] = field(default=(), compare=False)
    moved_in: bool = field(default=False, compare=False)

    def at_rest(self, before: Print | None) -> bool:
        """Return whether nothing was written since the look before (None: was not there)."""
        if before is None:
            return self.moved_in
        return (self.files, self.passing) == (before.files, before.passing)


def look(root: Path, only: Set[str] | None = None) -> Folder:
    """Look at all files below a model directory; what cannot be read is left out.

    ``only`` names the folders in it to look into; None: all.
    """
    try:
        changed_ns = os.stat(root).st_ctime_ns
    except OSError:
        return Folder()
    return _folder(os.fspath(root), changed_ns, os.path.realpath(root), 0, only)


def stamp_of(status: os.stat_result) -> Stamp:
    """Return what tells one state of a file from another."""
    return status.st_mtime_ns, status.st_size, status.st_ino


def home_of(name: str) -> list[str]:
    """Return the folders that lead to a version's files, given its model file's name.

    The name is relative to the model directory: ``m/1/model.onnx``, ``m/1/model.onnx/model.onnx``
    (Triton's, with external data), ``m/model.onnx`` (no version folder) or ``m.onnx``.
    """
    parts = name.split("/")
    return parts[: min(2, len(parts) - 1)]


def print_of(tree: Folder, name: str) -> Print:
    """Return the print of the version whose model file is ``name``, relative to the root."""
    parts = home_of(name)
    if not parts:
        head = names.stem(name).removesuffix("_graph")
        near = Folder(
            {f: s for f, s in tree.files.items() if f.startswith((name, f"{head}."))},
            {f: inner for f, inner in tree.folders.items() if f == f"{head}_variables"},
        )
        return _print(near)
    home = tree
    for part in parts:
        home = home.folders.get(part, Folder())
    if len(parts) == 1:  # without version folders the settings lie beside the model
        files = {f: s for f, s in home.files.items() if f not in _SETTINGS}
        home = Folder(files, home.folders, home.changed_ns, home.files_changed_ns)
    return _print(home)


def print_with_code(tree: Folder, name: str) -> Print:
    """Return the print of a version that a ``servable_config.py`` serves.

    ``name`` is its model folder relative to the root: ``m/1``, or ``m`` without version folders.
    The names in it are relative to the servable's folder: what lies in the version's folder, and
    the code outside of all.
    """
    servable, _, version = name.partition("/")
    home = tree.folders.get(servable, Folder())
    folders = {
        f: _code_of(inner) for f, inner in home.folders.items() if names.version_of(f) is None
    }
    if version:
        folders[version] = home.folders.get(version, Folder())
    code = _code_of(home, bare=not version)
    return _print(Folder(code.files, folders, home.changed_ns, home.files_changed_ns))


def _code_of(home: Folder, *, bare: bool = False) -> Folder:
    """Return what of a folder is code; ``bare`` takes in the models that lie beside it."""
    files = {
        f: stamp
        for f, stamp in home.files.items()
        if f not in _SET_UP
        and (names.is_code_name(f) or names.unfinished(f) or (bare and names.is_model_name(f)))
    }
    folders = {f: _code_of(inner) for f, inner in home.folders.items()}
    return Folder(files, folders, home.changed_ns, home.files_changed_ns)


def _print(home: Folder) -> Print:
    files: list[tuple[str, Stamp]] = []
    passing: list[tuple[str, Stamp]] = []
    latest = _collect(home, "", files, passing)
    empty = any(size == 0 for _, (_, size, _) in files)
    moved_in = bool(files) and not passing and not empty and home.changed_ns > latest
    return Print(tuple(sorted(files)), tuple(sorted(passing)), moved_in)


def _collect(
    home: Folder,
    prefix: str,
    files: list[tuple[str, Stamp]],
    passing: list[tuple[str, Stamp]],
) -> int:
    """Gather the files below a folder; returns when the last of what is inside changed."""
    latest = home.files_changed_ns
    for name, stamp in home.files.items():
        quiet = name.startswith(".") or names.unfinished(name)
        (passing if quiet else files).append((prefix + name, stamp))
    for name, inner in home.folders.items():
        latest = max(latest, inner.changed_ns, _collect(inner, f"{prefix}{name}/", files, passing))
    return latest


def _folder(path: str, own_ns: int, root: str, depth: int, only: Set[str] | None = None) -> Folder:
    files: dict[str, Stamp] = {}
    folders: dict[str, Folder] = {}
    changed = 0
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if only is not None and entry.name not in only:
                    continue
                with contextlib.suppress(OSError):
                    found = entry.stat()
                    if not stat.S_ISDIR(found.st_mode):
                        files[entry.name] = stamp_of(found)
                        changed = max(changed, found.st_ctime_ns)
                    elif _enters(entry, root, depth):
                        inner_ns = found.st_ctime_ns
                        folders[entry.name] = _folder(entry.path, inner_ns, root, depth + 1)
    except OSError:
        return Folder()
    if depth == 1:
        time.sleep(0)  # let the event loop in: a large repository is a long walk
    return Folder(files, folders, own_ns, changed)


def _enters(entry: os.DirEntry[str], root: str, depth: int) -> bool:
    if depth >= _DEEPEST or names.is_quiet_folder(entry.name):
        return False
    if not entry.is_symlink():
        return True
    target = os.path.realpath(entry.path)
    return target.startswith(root + os.sep)
