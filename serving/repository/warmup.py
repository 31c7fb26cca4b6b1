"""The ``[[warmup]]`` tables of ``servable.toml``, and the files that they name."""

from __future__ import annotations

import logging
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

from serving.errors import ConfigError, LoadError, did_you_mean
from serving.warmup import RANDOM, ZEROS, Fill, WarmUp

_LOG = logging.getLogger("serving.repository")

EXPECTED = "tables [[warmup]] with file or generate"
MOST_SAMPLES = 32
MOST_RUNS = 1000
_KEYS = ("name", "file", "generate", "values", "shapes", "rows", "count", "required")
_MADE_UP = ("values", "shapes", "rows")


def parse_warmup(value: object) -> tuple[WarmUp, ...]:
    """Read the TOML value of ``warmup``. Raises ConfigError naming the key inside it."""
    if isinstance(value, tuple):
        return value
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
        raise _wrong("warmup", EXPECTED, value)
    if len(value) > MOST_SAMPLES:
        raise _wrong("warmup", f"at most {MOST_SAMPLES} samples", f"{len(value)}")
    return tuple(_sample(table, f"warmup[{i}]") for i, table in enumerate(value))


def resolved(samples: tuple[WarmUp, ...], folder: Path) -> tuple[WarmUp, ...]:
    """Return samples with the paths of their files, which lie in the servable's ``folder``.

    Raises LoadError for a file that is not there, or that a link leads out of the model directory
    for; a sample that is not required is told and left out then.
    """
    found = []
    for sample in samples:
        try:
            found.append(_resolved(sample, folder))
        except LoadError as error:
            if sample.required:
                raise
            _LOG.warning("%s; the sample is not required", error)
    return tuple(found)


def _resolved(sample: WarmUp, folder: Path) -> WarmUp:
    return replace(
        sample,
        file=_found(folder, sample.file) if sample.file else "",
        inputs={
            name: replace(fill, file=_found(folder, fill.file)) if fill.file else fill
            for name, fill in sample.inputs.items()
        },
    )


def _found(folder: Path, name: str) -> str:
    try:
        path = (folder / name).resolve(strict=True)
        if not stat.S_ISREG(path.stat().st_mode):
            raise LoadError(f"warm-up: {folder.name}/{name} is not a file")
    except OSError as error:
        problem = os.strerror(error.errno or 0)
        raise LoadError(f"warm-up: {folder.name}/{name} cannot be read: {problem}") from None
    if not path.is_relative_to(folder.parent.resolve()):
        raise LoadError(f"warm-up: {folder.name}/{name} is a link out of the model directory")
    return str(path)


def _sample(table: dict[str, Any], where: str) -> WarmUp:
    for key in table:
        if key not in _KEYS:
            raise ConfigError(
                f"key '{where}.{key}' is not known", where=f"{where}.{key}",
                expected=f"one of {', '.join(_KEYS)}", fix=did_you_mean(key, _KEYS),
            )  # fmt: skip
    file, generate = table.get("file"), table.get("generate", False)
    if not isinstance(generate, bool):
        raise _wrong(f"{where}.generate", "true or false", generate)
    if (file is not None) == generate:
        both = "both" if generate else "neither"
        raise _wrong(where, "either file = ... or generate = true", both)
    if file is not None and not _plain_name(file):
        raise _wrong(f"{where}.file", "the name of a file in the servable's folder", file)
    if file is not None and (misplaced := [key for key in _MADE_UP if key in table]):
        raise _wrong(f"{where}.{misplaced[0]}", "none beside file: its values are used", table)
    values = table.get("values", RANDOM)
    if values not in (RANDOM, ZEROS):
        raise _wrong(f"{where}.values", f'"{RANDOM}" or "{ZEROS}"', values)
    required = table.get("required", True)
    if not isinstance(required, bool):
        raise _wrong(f"{where}.required", "true or false", required)
    name = table.get("name", file or where)
    if not isinstance(name, str) or not name:
        raise _wrong(f"{where}.name", "a text", name)
    return WarmUp(
        name,
        file or "",
        {k: Fill(values, shape) for k, shape in _shapes(table.get("shapes", {}), where).items()},
        values,
        _number(table.get("rows", 1), f"{where}.rows", 1 << 20),
        _number(table.get("count", 1), f"{where}.count", MOST_RUNS),
        required,
    )


def _shapes(value: object, where: str) -> dict[str, tuple[int, ...]]:
    expected = "{input = [size of each axis, the batch axis included], ...}"
    if not isinstance(value, dict):
        raise _wrong(f"{where}.shapes", expected, value)
    for name, shape in value.items():
        if not isinstance(shape, list) or not all(_is_number(size, 1 << 31) for size in shape):
            raise _wrong(f"{where}.shapes.{name}", expected, shape)
    return {name: tuple(shape) for name, shape in value.items()}


def _number(value: object, where: str, most: int) -> int:
    if not _is_number(value, most):
        raise _wrong(where, f"a whole number, 1 to {most}", value)
    assert isinstance(value, int)
    return value


def _is_number(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _plain_name(name: object) -> bool:
    return isinstance(name, str) and name not in ("", ".", "..") and not set("/\0") & set(name)


def _wrong(key: str, expected: str, given: object) -> ConfigError:
    return ConfigError(
        f"key {key!r} has a wrong value", where=key, expected=expected, given=repr(given)[:60]
    )
