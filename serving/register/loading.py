"""Imports a servable's ``servable_config.py`` and returns what it registered.

One process runs one version of a servable; where its modules come from is in ``package``.
"""

from __future__ import annotations

import importlib
import re
import sys
import traceback
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Mapping

from serving.definition import Definition
from serving.errors import LoadError, did_you_mean
from serving.register import package, registry, slow_import, sources
from serving.register.builtin import BUILTIN_CALLS
from serving.register.place import place_of

CONFIG = "servable_config"
COMPAT = Path(__file__).parent / "compat"
"""The folder that holds ``mindspore_serving``, an import name for this package."""

_THEIRS = "mindspore_serving"
_NAME = re.compile("cannot import name '([^']*)'")
_OWN = "what there is: from serving.register import declare_model, register_method, add_stage"
_INSTALL = (
    "install it in the server's environment, or name an interpreter that has it: python under "
    "[stages] in servable.toml"
)


@dataclass(frozen=True)
class Registered:
    """What a servable registered: its definition, and what runs for each function by its name.

    ``functions`` holds those of built-in stages too.
    """

    definition: Definition
    functions: Mapping[str, Callable[..., Any]]


def load(folder: Path, name: str) -> Registered:
    """Import ``<folder>/servable_config.py`` of the servable ``name``.

    Raises LoadError with the reason, and with the line of the user's code, as a path in the model
    repository.
    """
    folder = folder.parent.resolve() / folder.name
    if not (folder / f"{CONFIG}.py").is_file():
        raise LoadError(f"there is no {CONFIG}.py in the folder of '{name}'")
    files = _read(folder)
    _prefer_compat()
    with registry.opened(name) as found:
        try:
            with slow_import.told(folder):
                package.load(folder, name, CONFIG, files)
        except BaseException as error:
            traceback.print_exc()
            raise _explained(error, folder) from None
    definition = found.definition(sources.fingerprint(folder, files))
    if not definition.methods and not definition.models:
        raise LoadError(
            f"{folder.name}/{CONFIG}.py registers no method",
            fix="wrap a function with register_method, see docs/pipelines.md",
        )
    calls = types.MappingProxyType({**BUILTIN_CALLS, **found.calls})
    return Registered(definition, calls)


def _read(folder: Path) -> Dict[str, bytes]:
    try:
        return sources.read(folder)
    except OSError as error:
        told = error.strerror or type(error).__name__
        name = Path(error.filename or folder).name
        raise LoadError(f"'{name}' of '{folder.name}' cannot be read: {told}") from None


def _prefer_compat() -> None:
    """Make ``mindspore_serving`` this package's, even where a real one is installed.

    The real one would register with its own engine, which is not what runs here.
    """
    if _THEIRS not in sys.modules:
        sys.path.insert(0, str(COMPAT))
        try:
            importlib.import_module(f"{_THEIRS}.server.register")
        finally:
            sys.path.remove(str(COMPAT))


def _explained(error: BaseException, folder: Path) -> LoadError:
    """Say where in the user's files it happened, and what."""
    kind = type(error).__name__
    text = str(error).replace(f"{folder.parent}/", "")
    fix = ""
    if isinstance(error, SyntaxError):
        where = place_of(error.filename or "", error.lineno or 0, folder)
        text = error.msg
    else:
        frames = traceback.extract_tb(error.__traceback__)
        places = [place_of(frame.filename, frame.lineno or 0, folder) for frame in frames]
        where = next((place for place in reversed(places) if place), "")
    if isinstance(error, SystemExit):
        text = f"the file left with sys.exit({error.code!r})"
    if isinstance(error, ImportError):
        text = text.replace(f" ({error.path})", "")
        fix = _import_fix(error, folder)
    said = f"{kind}: {text}" if text else kind
    return LoadError(f"{where}: {said}" if where else said, where=where, fix=fix)


def _import_fix(error: ImportError, folder: Path) -> str:
    """Say where what is not there belongs."""
    name = error.name or ""
    top = name.partition(".")[0]
    if top in (_THEIRS, "serving"):
        given = _NAME.match(error.msg or "")
        offered = getattr(sys.modules.get(name), "__all__", ())
        return (did_you_mean(given[1], offered) if given else "") or _OWN
    if not isinstance(error, ModuleNotFoundError):
        return ""
    if top == folder.name or top == "servable_" + folder.name.replace(".", "_"):
        return "put the module into the servable's folder, or correct its name"
    return _INSTALL
