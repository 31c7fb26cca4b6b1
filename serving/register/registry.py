"""What one ``servable_config.py`` has registered so far, while it is being imported."""

from __future__ import annotations

import contextlib
import os
import sys
from types import FrameType
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from serving.definition import BUILTINS, DeclaredModel, Definition, Function, Method


class Registry:
    """Collects models, functions and methods of one servable, and keeps them consistent."""

    def __init__(self, servable: str) -> None:
        self.servable = servable
        self.calls: Dict[str, Callable[..., Any]] = {}
        self.handles: List[object] = []
        self._models: Dict[str, DeclaredModel] = {}
        self._counts: Dict[str, Tuple[int, int]] = {}
        self._functions: Dict[str, Function] = {}
        self._methods: Dict[str, Method] = {}

    def definition(self, sources: str = "") -> Definition:
        """Return all that was registered, in order; ``sources`` tells the code that did it."""
        return Definition(
            tuple(self._models.values()),
            tuple(self._functions.values()),
            tuple(self._methods.values()),
            sources,
        )

    def add_model(self, model: DeclaredModel, handle: object) -> None:
        """Take in a model; ``handle`` is what stages will name it by."""
        if model.key in self._models:
            raise RuntimeError(
                f"Declare model '{model.key}' failed, the same model has already been declared"
            )
        self._models[model.key] = model
        self.handles.append(handle)

    def add_method(self, method: Method) -> None:
        """Take in a method."""
        if method.name in self._methods:
            raise RuntimeError(
                f"Register method failed, method '{method.name}' has been registered more than once"
            )
        self._methods[method.name] = method

    def check_model(self, key: str, inputs: int, outputs: int) -> None:
        """Check that all stages call a model with as many inputs, for as many outputs."""
        known = self._counts.setdefault(key, (inputs, outputs))
        for word, given, before in (("inputs", inputs, known[0]), ("outputs", outputs, known[1])):
            if given != before:
                raise RuntimeError(
                    f"Model '{key}' {word} count {given} not match last registered count {before}"
                )

    def add_function(
        self,
        method: str,
        call: Callable[..., Any],
        inputs: int,
        outputs: int,
        batch_size: Optional[int],
    ) -> str:
        """Take in a function as one stage of a method wants it, and return its name.

        Two functions of one name (closures, say) are told apart by a number after the name.
        """
        name = self._name(call)
        known = self._functions.get(name)
        if known is not None:
            self._check(method, known, inputs, outputs)
            if (known.batch_size is None) != (batch_size is None):
                raise RuntimeError(
                    f"Failed to add stage function {self.servable}.{name}: parameter 'batch_size' "
                    "in multiple 'add_stage' should be enabled or disabled consistently"
                )
            batch_size = _smaller(known.batch_size, batch_size)
        self.calls[name] = call
        self._functions[name] = Function(name, inputs, outputs, batch_size)
        return name

    def check_builtin(self, method: str, name: str, inputs: int, outputs: int) -> None:
        """Check a built-in stage's name and counts."""
        if name not in BUILTINS:
            known = ", ".join(f"'{b}'" for b in BUILTINS)
            raise RuntimeError(
                f"Check failed in method '{method}', the stage '{name}' has not been registered; "
                f"built-in stages: {known}"
            )
        self._check(method, BUILTINS[name], inputs, outputs)

    def _check(self, method: str, known: Function, inputs: int, outputs: int) -> None:
        title = known.name if known.name in BUILTINS else f"{self.servable}.{known.name}"
        counts = (("inputs", inputs, known.inputs), ("outputs", outputs, known.outputs))
        for word, given, before in counts:
            if given != before:
                raise RuntimeError(
                    f"Stage function '{title}' {word} count {given} not match last registered "
                    f"count {before}, method name '{method}'"
                )

    def _name(self, call: Callable[..., Any]) -> str:
        number = 1
        name = base = call.__name__
        while name in BUILTINS or self.calls.get(name, call) != call:
            number += 1
            name = f"{base}#{number}"
        return name


def _smaller(one: Optional[int], other: Optional[int]) -> Optional[int]:
    """Return the limit that holds for both; 0 and None set none."""
    return min(filter(None, (one, other)), default=one)


_open: Optional[Registry] = None
_by_hand: Dict[str, Registry] = {}


@contextlib.contextmanager
def opened(servable: str) -> Iterator[Registry]:
    """Collect what is registered inside of the block."""
    global _open
    before, _open = _open, Registry(servable)
    try:
        yield _open
    finally:
        _open = before


def current() -> Registry:
    """Return where registrations go.

    Outside of ``opened`` somebody imports the file by hand, in tests of its functions, say: there
    each file has a registry of its own.
    """
    if _open is not None:
        return _open
    path = _importing()
    return _by_hand.setdefault(path, Registry(os.path.basename(os.path.dirname(path))))


def _importing() -> str:
    """Return the path of the ``servable_config.py`` that is being run."""
    frame: Optional[FrameType] = sys._getframe()
    while frame is not None:
        path = frame.f_code.co_filename
        if os.path.basename(path) == "servable_config.py":
            return os.path.abspath(path)
        frame = frame.f_back
    return ""
