"""Reads the listings of a model repository: which entry is a servable, a version, a stray file.

Pure: listings come in as tuples of ``Entry``, decisions go out; ``scanner`` does the looking.
The layout is ``<model-dir>/<servable>/<version>/<model file>``, where the version folder may be
missing (version 1) and the servable's folder too (a bare model file is a servable, version 1).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from serving.errors import listing
from serving.repository import names


class Kind(enum.Enum):
    """What an entry is once its links are followed."""

    FILE = "file"
    FOLDER = "folder"
    BROKEN = "broken link"
    OTHER = "neither file nor folder"


@dataclass(frozen=True)
class Entry:
    """One name in a folder; ``outside`` marks a link that leaves the model directory."""

    name: str
    kind: Kind
    size_bytes: int = 0
    outside: bool = False


Listing = tuple[Entry, ...]


@dataclass(frozen=True)
class RootLayout:
    """The model directory: folders that are servables, bare files by servable, and the rest."""

    folders: tuple[str, ...]
    bare: tuple[tuple[str, tuple[Entry, ...]], ...]
    refused: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ServableLayout:
    """A servable's folder: its version folders, or (``bare``) a model without one.

    With ``stages`` a ``servable_config.py`` says what is served: it names the model files, and
    may do without any.
    """

    versions: tuple[tuple[int, str], ...]
    bare: bool
    refused: tuple[tuple[int, str], ...]
    notes: tuple[str, ...]
    reason: str = ""
    stages: bool = False


OUTSIDE = "is a link that leaves the model directory: copy it in, or point --model-dir at its home"
BROKEN = "is a link to something that is not there"

_DIGITS = "version names are digits only"


def read_root(entries: Sequence[Entry]) -> RootLayout:
    """Sort the entries of the model directory."""
    folders: list[str] = []
    files: dict[str, list[Entry]] = {}
    refused: list[tuple[str, str]] = []
    notes: list[str] = misplaced(entries)
    split = _split_models(entries)
    for entry in entries:
        if entry.kind is Kind.FOLDER and not names.is_quiet_folder(entry.name):
            if entry.name in split.values():
                continue
            if problem := names.name_problem(entry.name):
                refused.append((names.printable(entry.name), problem))
            elif entry.outside:
                refused.append((entry.name, f"{entry.name} {OUTSIDE}"))
            else:
                folders.append(entry.name)
        elif entry.kind is Kind.BROKEN and not entry.name.startswith("."):
            notes.append(f"{names.printable(entry.name)} {BROKEN}")
        elif entry.kind is Kind.FILE and names.is_model_name(entry.name):
            name = names.stem(entry.name)
            if entry.name in split:
                name = name.removesuffix("_graph")
            files.setdefault(name, []).append(entry)
        elif names.extension(names.unfinished(entry.name)):
            notes.append(f"{names.printable(entry.name)} is not served: still being copied?")
        elif what := names.foreign(entry.name):
            notes.append(f"{names.printable(entry.name)} is not served: it is {what}")
    for name in sorted(set(files) & set(folders)):
        shadowed = listing(e.name for e in files.pop(name))
        notes.append(f"{shadowed} is not served: the folder {name!r} has the same name")
    for name in list(files):
        if problem := names.name_problem(name):
            del files[name]
            refused.append((names.printable(name), problem))
    bare = tuple((name, tuple(found)) for name, found in sorted(files.items()))
    return RootLayout(tuple(sorted(folders)), bare, tuple(sorted(refused)), tuple(notes))


def single_servable(entries: Sequence[Entry], look: Callable[[str], Listing]) -> str:
    """Say what makes the model directory look like one servable's own folder, or return ``""``.

    ``look`` lists a folder by name. It is one if all its folders are versions and one of them is
    empty or holds a model file itself, instead of version folders of a servable named so.
    """
    folders = [
        e.name for e in entries if e.kind is Kind.FOLDER and not names.is_quiet_folder(e.name)
    ]
    if not folders or any(names.version_of(name) is None for name in folders):
        return ""
    for name in sorted(folders, key=int):
        inner = look(name)
        if any(e.kind is Kind.FOLDER and names.version_of(e.name) is not None for e in inner):
            return ""
        models = [e.name for e in inner if e.kind is Kind.FILE and names.is_model_name(e.name)]
        if models:
            return f"it holds {name}/{names.printable(models[0])}"
    return f"it holds only version folders ({listing(sorted(folders, key=int))})"


def read_servable(entries: Sequence[Entry]) -> ServableLayout:
    """Sort the entries of a servable's folder."""
    versions: list[tuple[int, str]] = []
    refused: list[tuple[int, str]] = []
    notes = _unread(entries)
    split = _split_models(entries)
    misnamed: list[str] = []
    strays: list[str] = []
    for entry in entries:
        if entry.kind is not Kind.FOLDER or names.is_quiet_folder(entry.name):
            continue
        version = names.version_of(entry.name)
        if version is not None and entry.outside:
            refused.append((version, f"{entry.name} {OUTSIDE}"))
        elif version is not None:
            versions.append((version, entry.name))
        elif problem := names.version_problem(entry.name):
            misnamed.append(f"folder {entry.name!r} is not a version: {problem}")
        elif entry.name not in split.values() and not entry.name.endswith("_variables"):
            strays.append(names.printable(entry.name))
    stages = any(e.name == names.STAGES_FILE for e in entries)
    models = [e.name for e in entries if e.kind is Kind.FILE and names.is_model_name(e.name)]
    hub = not (versions or refused) and hub_folder(entries)
    reason = "" if versions or refused or models or hub else _without_versions(misnamed, strays)
    if not (stages or hub or reason):  # else packages that it imports, other forms, or told there
        notes += misnamed
        notes += [f"folder {name!r} is not a version: {_DIGITS}{_meant(name)}" for name in strays]
    if versions or refused:
        if models:
            notes.append(f"{listing(models)} beside the version folders is not served")
        found = tuple(sorted(versions)), False, tuple(sorted(refused)), tuple(notes)
        return ServableLayout(*found, stages=stages)
    return ServableLayout((), True, (), tuple(notes), "" if stages else reason, stages)


def hub_folder(entries: Sequence[Entry]) -> str:
    """Return the folder that holds the model in place of this one, as on a model hub, or ``""``.

    There ``onnx/`` lies beside the weights and the files of tokenizers and other runtimes.
    """
    if any(e.kind is not Kind.FOLDER and names.is_network_name(e.name) for e in entries):
        return ""
    there = (e.kind is Kind.FOLDER and not e.outside for e in entries if e.name == names.HUB_FOLDER)
    return names.HUB_FOLDER if any(there) else ""


def _without_versions(misnamed: Sequence[str], strays: Sequence[str]) -> str:
    """Say why a folder without a model has no version, by what its folders are called."""
    if set(strays) >= names.HUB_CACHE:
        return (
            "its folder belongs to the cache of the Hugging Face hub: download the model into a "
            "folder of its own (hf download NAME --local-dir FOLDER)"
        )
    problems = list(misnamed)
    if len(strays) == 1:
        hint = _meant(strays[0]) or " (if it is a servable, pass this folder as --model-dir)"
        problems.append(f"folder {strays[0]!r} is not a version: {_DIGITS}{hint}")
    elif strays:
        problems.append(
            f"folders {listing(strays)} are not versions: {_DIGITS} (if they are servables, "
            "pass this folder as --model-dir)"
        )
    return "its folder holds no version folder: " + "; ".join(problems) if problems else ""


def _meant(name: str) -> str:
    number = names.meant_version(name)
    return f": rename it to '{number}'" if number else ""


def _split_models(entries: Sequence[Entry]) -> dict[str, str]:
    """Map ``x_graph.mindir`` to ``x_variables``: how MindSpore writes a large model."""
    folders = {e.name for e in entries if e.kind is Kind.FOLDER}
    found: dict[str, str] = {}
    for entry in entries:
        head = entry.name.removesuffix("_graph.mindir")
        if head != entry.name and f"{head}_variables" in folders:
            found[entry.name] = f"{head}_variables"
    return found


def misplaced(entries: Sequence[Entry]) -> list[str]:
    """Say which files of a servable's folder lie in one where nobody looks for them."""
    known = (names.SETTINGS_FILE, names.TRITON_FILE, names.STAGES_FILE)
    return [
        f"{e.name} is not read here: it belongs in a servable's folder"
        for e in entries
        if e.name in known
    ]


def _unread(entries: Sequence[Entry]) -> list[str]:
    notes: list[str] = []
    settled = any(e.name == names.SETTINGS_FILE for e in entries)
    for entry in entries:
        if entry.name == names.TRITON_FILE and settled:
            notes.append(f"{names.TRITON_FILE} is not read: {names.SETTINGS_FILE} beside it wins")
        elif entry.name != names.SETTINGS_FILE and names.is_settings_name(entry.name):
            shown = names.printable(entry.name)
            notes.append(f"{shown} is not read: settings belong in {names.SETTINGS_FILE}")
    return notes
