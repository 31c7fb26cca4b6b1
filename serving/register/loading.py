"""Imports a servable's ``servable_config.py`` and returns what it registered.

One process runs one version of a servable; where its modules come from is in ``package``.
"""

from __future__ import annotations

import importlib
import sys
import traceback
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Mapping

from serving.definition import Definition
from serving.errors import LoadError
from serving.register import package, registry, sources
from serving.register.builtin import BUILTIN_CALLS

CONFIG = "servable_config"
COMPAT = Path(__file__).parent / "compat"
"""The folder that holds ``mindspore_serving``, an import name for this package."""

_THEIRS = "mindspore_serving"


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
            package.load(folder, name, CONFIG, files)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
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
        where = _place(error.filename or "", error.lineno or 0, folder)
        text = error.msg
    else:
        frames = traceback.extract_tb(error.__traceback__)
        places = [_place(frame.filename, frame.lineno or 0, folder) for frame in frames]
        where = next((place for place in reversed(places) if place), "")
    if isinstance(error, SystemExit):
        text = f"the file left with sys.exit({error.code!r})"
    if isinstance(error, ModuleNotFoundError):
        fix = "install it where stages run"
    said = f"{kind}: {text}" if text else kind
    return LoadError(f"{where}: {said}" if where else said, where=where, fix=fix)


def _place(filename: str, line: int, folder: Path) -> str:
    """Return ``servable/file.py:12`` for a file of the model repository, else nothing."""
    try:
        path = Path(filename).relative_to(folder.parent)
    except ValueError:
        return ""
    return f"{path}:{line}"
