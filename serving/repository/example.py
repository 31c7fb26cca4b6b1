"""Reads the example that may lie beside a servable's versions: a request and its right answer.

``<servable>/sample.json`` is the body of ``POST /predict``, so that ``curl -d @`` can send it as
it is; ``<servable>/answer.json`` holds what must be in the answer. Both are optional, and one that
is not what it should be keeps nothing from being served: a note says what is wrong with it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.repository.companion import read_companion

REQUEST_FILE = "sample.json"
ANSWER_FILE = "answer.json"
MAX_BYTES = 64 << 10
_FORMS = ("instances", "inputs")


@dataclass(frozen=True)
class Example:
    """A request as ``POST /predict`` takes it, and what its answer must hold, if that is known."""

    request: dict[str, Any]
    answer: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the form in which metadata and ``serving list --json`` show it."""
        shown = {"request": self.request}
        return shown if self.answer is None else shown | {"answer": self.answer}


def read_example(folder: Path, servable: str, root: Path) -> tuple[Example | None, tuple[str, ...]]:
    """Return the example of a servable's folder, if it has one, and notes on what is wrong.

    Files that lie outside ``root``, where a link may lead, are not read.
    """
    try:
        request = _read(folder / REQUEST_FILE, root)
        if request is None:
            return None, ()
        _check_request(request, servable)
    except ValueError as error:
        return None, (f"{servable}/{REQUEST_FILE} is not shown as an example: {error}",)
    try:
        return Example(request, _read(folder / ANSWER_FILE, root)), ()
    except ValueError as error:
        note = f"{servable}/{ANSWER_FILE} is not shown with the example: {error}"
        return Example(request), (note,)


def _check_request(request: dict[str, Any], servable: str) -> None:
    if not any(form in request for form in _FORMS):
        raise ValueError("it is no body of POST /predict: it has neither 'instances' nor 'inputs'")
    if request.get("servable") != servable:
        raise ValueError(f'it must say "servable": {json.dumps(servable)}, the folder\'s name')


def _read(file: Path, root: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file, ``None`` if there is no file; raises ValueError."""
    if not os.path.lexists(file):
        return None
    return _object(read_companion(file, root, MAX_BYTES))


def _object(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data.decode(), parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    return document


def _no_constant(text: str) -> float:
    raise ValueError(f"it is not JSON: {text} is no number of JSON")
