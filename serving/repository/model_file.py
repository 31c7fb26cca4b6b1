"""Chooses the model file of one version among the entries of its folder; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serving.errors import did_you_mean, listing
from serving.repository import names
from serving.repository.layout import BROKEN, OUTSIDE, Entry, Kind, hub_folder

_KNOWN = ", ".join(names.MODEL_EXTENSIONS)
_KEYS = {names.SETTINGS_FILE: "model_file", names.TRITON_FILE: "default_model_filename"}
_TRITON_DEFAULT = "model.onnx"


@dataclass(frozen=True)
class Choice:
    """The chosen file's name, or an empty name and the reason why there is none."""

    name: str
    reason: str = ""
    notes: tuple[str, ...] = ()


def nested_model(entries: Sequence[Entry], model_file: str | None = None) -> str:
    """Return the folder that stands in the place of the model file, or ``""``.

    Triton wants an ONNX model with external data as ``model.onnx/model.onnx``: a folder of the
    model file's name, with the file of that name and its data in it. Model hubs have ``onnx/``.
    """
    wanted = model_file or _TRITON_DEFAULT
    inside = [e.kind is Kind.FOLDER and not e.outside for e in entries if e.name == wanted]
    if inside:
        return wanted if any(inside) else ""
    return hub_folder(entries)


def choose_model(
    entries: Sequence[Entry], model_file: str | None = None, asked_in: str = names.SETTINGS_FILE
) -> Choice:
    """Choose ``model_file`` if set, else ``model.<ext>``, else the only candidate.

    Weights alone (a checkpoint) are none where there is a network's file.
    ``asked_in`` is the settings file that the version's servable has or could have.
    External data of ONNX (``model.onnx.data``), folders of a split MindIR and stray files are
    never candidates, for none of them ends like a model.
    """
    visible = [e for e in entries if _matters(e)]
    outside = [names.printable(e.name) for e in visible if e.outside]
    if outside:
        return Choice("", f"{outside[0]} {OUTSIDE}")
    copying = tuple(
        f"{names.printable(e.name)} lies beside it: still being copied?"
        for e in entries
        if names.unfinished(e.name)
    )
    if model_file is not None:
        return _named(visible, model_file, asked_in, copying)
    candidates = [e for e in visible if e.kind is not Kind.FOLDER and names.is_model_name(e.name)]
    networks = _networks(candidates)
    preferred = [e for e in networks if names.stem(e.name) == "model"]
    pool = preferred or networks
    if not pool:
        return Choice("", _nothing(entries, visible))
    if len(pool) > 1:
        return Choice(
            "",
            f"its folder holds several models: {listing(e.name for e in pool)} (set "
            f"{_KEYS[asked_in]} in {asked_in} to the one to serve, or give each a folder of its "
            "own)",
        )
    others = [e.name for e in candidates if e is not pool[0]]
    notes = copying + ((f"{listing(others)} beside it is not served",) if others else ())
    return _checked(pool[0], notes)


def choose_bare(candidates: Sequence[Entry]) -> Choice:
    """Choose among bare files of one name at the top of the model directory."""
    candidates = _networks(candidates)
    if len(candidates) > 1:
        return Choice(
            "",
            f"{listing(e.name for e in candidates)} have the same name (rename all but one, or "
            "move them into folders of their own)",
        )
    entry = candidates[0]
    if entry.outside:
        return Choice("", f"{names.printable(entry.name)} {OUTSIDE}")
    return _checked(entry, ())


def _networks(candidates: Sequence[Entry]) -> Sequence[Entry]:
    """Return the candidates without those that hold weights alone, if any are left then.

    Parts of a SavedModel are none beside it.
    """
    if any(e.name == names.SAVED_MODEL for e in candidates):
        candidates = [e for e in candidates if e.name not in names.SAVED_MODEL_PARTS]
    whole = [e for e in candidates if names.extension(e.name) not in names.WEIGHTS_EXTENSIONS]
    return whole or candidates


def _matters(entry: Entry) -> bool:
    if entry.kind is Kind.FOLDER:
        return not names.is_quiet_folder(entry.name)
    return (
        not entry.name.startswith(".")
        and not names.unfinished(entry.name)
        and entry.kind is not Kind.OTHER
        and not entry.name.endswith((".py", ".md"))
    )


def _named(
    visible: Sequence[Entry], model_file: str, asked_in: str, notes: tuple[str, ...]
) -> Choice:
    files = {e.name: e for e in visible if e.kind is not Kind.FOLDER}
    if model_file in files:
        return _checked(files[model_file], notes)
    hint = did_you_mean(model_file, files)
    held = f"it holds {listing(files)}" if files else "it holds no file"
    return Choice(
        "",
        f"{_KEYS[asked_in]} is {model_file!r} in {asked_in}, but {held}"
        + (f" ({hint})" if hint else ""),
    )


def _checked(entry: Entry, notes: tuple[str, ...]) -> Choice:
    shown = names.printable(entry.name)
    if entry.kind is Kind.BROKEN:
        return Choice("", f"{shown} {BROKEN}")
    if entry.size_bytes == 0:
        return Choice("", f"{shown} is empty: still being copied?")
    return Choice(entry.name, notes=notes)


def _nothing(entries: Sequence[Entry], visible: Sequence[Entry]) -> str:
    copying = [names.printable(e.name) for e in entries if names.unfinished(e.name)]
    if copying:
        return f"its folder holds no model yet, only {listing(copying)}: still being copied?"
    there = [e for e in entries if not e.name.startswith(".")]
    if not there:
        return "its folder is empty: still being copied?"
    held = listing((names.printable(e.name) for e in visible or there), limit=4)
    others = [
        f"; {names.printable(e.name)} is {what}" for e in visible if (what := names.foreign(e.name))
    ]
    told = "".join(others[:4])
    return f"its folder holds no model file (known endings: {_KNOWN}); it holds {held}{told}"
