"""A servable's folder as a Python package, beside whatever else has the same name.

The package is called like the servable, so that ``from .labels import LABELS`` and
``from <servable>.labels import LABELS`` find its modules; the model repository, and then the folder
itself, are appended to ``sys.path`` for what lies there. A servable whose name belongs to another
module (``types``, ``json``, ``numpy``) leaves the name to it, and its package is called
``servable_<name>``.

Modules of the folder are compiled from what ``sources`` has read, never taken from
``__pycache__``: one that is imported late is of the same version as the others, and a file may be
replaced within the second that time stamps tell apart.
"""

from __future__ import annotations

import importlib
import importlib.util
import linecache
import sys
import types
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from typing import List, Mapping, Optional, Sequence


def load(folder: Path, name: str, module: str, files: Mapping[str, bytes]) -> None:
    """Import ``<folder>/<module>.py`` anew; whatever an earlier call imported is forgotten.

    ``files`` are the contents of the folder's Python files, by their paths.
    """
    _forget()
    sys.dont_write_bytecode = True  # a model repository is read, not written
    package = _name(folder, name)
    importlib.invalidate_caches()
    finder = _Finder(folder, files)
    _extend_path(folder, finder)
    spec = finder.initial(package)
    made = importlib.util.module_from_spec(spec)
    sys.modules[package] = made
    _loaded.append(package)
    if spec.loader is not None:
        spec.loader.exec_module(made)
    importlib.import_module(f"{package}.{module}")


class _Source(SourceFileLoader):
    """A module whose source has been read."""

    def __init__(self, fullname: str, path: str, content: bytes) -> None:
        super().__init__(fullname, path)
        self._content = content

    def get_code(self, fullname: str) -> types.CodeType:
        path = self.get_filename(fullname)
        try:
            code: types.CodeType = self.source_to_code(self._content, path)
        except (SyntaxError, ValueError) as error:  # with a null byte inside, no file is named
            if getattr(error, "filename", None):
                raise
            raise SyntaxError(str(error), (path, 1, None, None)) from None
        return code


class _Finder(MetaPathFinder):
    """Finds the modules of the folder, and leaves all others to the finders behind it."""

    def __init__(self, folder: Path, files: Mapping[str, bytes]) -> None:
        self._folder = str(folder)
        self._files = files

    def initial(self, package: str) -> ModuleSpec:
        """Return the spec of the folder itself, as a package with or without ``__init__.py``."""
        spec = self._spec(package, f"{self._folder}/__init__.py", self._folder)
        if spec is None:
            spec = ModuleSpec(package, None, is_package=True)
            spec.submodule_search_locations = [self._folder]
        return spec

    def find_spec(
        self,
        fullname: str,
        path: Optional[Sequence[str]],
        target: Optional[types.ModuleType] = None,  # noqa: ARG002
    ) -> Optional[ModuleSpec]:
        """Return the spec of a module of the folder, or None."""
        if path is None:
            elsewhere = PathFinder.find_spec(fullname)
            if elsewhere is not None and not self._inside(elsewhere.origin or self._folder):
                return None  # the folder is last on sys.path
            path = [self._folder]
        name = fullname.rpartition(".")[2]
        for place in filter(self._inside, path):
            spec = self._spec(fullname, f"{place}/{name}/__init__.py", f"{place}/{name}")
            spec = spec or self._spec(fullname, f"{place}/{name}.py", None)
            if spec is not None:
                _loaded.append(fullname)
                return spec
        return None

    def _inside(self, path: str) -> bool:
        return path == self._folder or path.startswith(f"{self._folder}/")

    def _spec(self, fullname: str, path: str, package: Optional[str]) -> Optional[ModuleSpec]:
        if path not in self._files:
            return None
        return importlib.util.spec_from_file_location(
            fullname,
            path,
            loader=_Source(fullname, path, self._files[path]),
            submodule_search_locations=None if package is None else [package],
        )


_loaded: List[str] = []
"""Names of modules that came from the folder."""
_paths: List[str] = []
"""What was appended to ``sys.path`` for it."""


def _forget() -> None:
    """Undo what the last ``load`` left in this process's import system."""
    for name in _loaded:
        sys.modules.pop(name, None)
    for path in _paths:
        sys.path.remove(path)
    sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, _Finder)]
    _loaded.clear()
    _paths.clear()
    linecache.clearcache()


def _extend_path(folder: Path, finder: _Finder) -> None:
    for path in (str(folder.parent), str(folder)):
        if path not in sys.path:
            sys.path.append(path)
            _paths.append(path)
    # In front of the finder that it asks, and behind those of modules that are built in.
    place = sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else len(sys.meta_path)
    sys.meta_path.insert(place, finder)


def _name(folder: Path, name: str) -> str:
    """Return what to call the package: the servable's name, unless it belongs to another module."""
    other = "servable_" + name.replace(".", "_")
    if "." in name or name in sys.modules:
        return other
    spec = importlib.util.find_spec(name)
    if spec is None:
        return name
    found = set(spec.submodule_search_locations or ())
    return name if found == {str(folder)} else other
