"""Where engines live, as flags and the server's file say it: ``[backends.NAME]``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from serving.cli.options import option
from serving.config import BackendSettings
from serving.devices import BACKEND_NAMES
from serving.errors import ConfigError, did_you_mean
from serving.repository.engine_options import read_table

_KEYS = ("python", "module", "env", "options")
_FORM = "NAME.python=PATH, NAME.module=PACKAGE, NAME.env.VARIABLE=VALUE or NAME.options.KEY=VALUE"
_MODULES = {"tensorrt": ("tensorrt", "tensorrt_rtx")}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SAID = "serving.cli.backends"

Tables = Mapping[str, Mapping[str, Any]]


_HELP = (
    "Where an engine lives: NAME.python=PATH, NAME.env.VARIABLE=VALUE, NAME.module=PACKAGE or "
    "NAME.options.KEY=VALUE for NAME onnxruntime, tensorrt or ascend. May be given several times; "
    "in a file it is the table [backends.NAME]."
)

backend_option = option(
    "backend", _HELP, multiple=True, metavar="SETTING", default=(), show_default=False
)
"""Gives a command ``--backend``; ``backends_of`` reads it."""


def backends_of(ctx: click.Context, flags: Iterable[str]) -> dict[str, BackendSettings]:
    """Return what is said of each backend: flags over the file. Raises ConfigError."""
    file, tables = ctx.meta.get(_SAID, (None, {}))
    said = {name: dict(table) for name, table in _checked(tables, str(file)).items()}
    for flag in flags:
        name, key, inner, value = _split(flag)
        table = said.setdefault(name, {})
        if inner:
            table[key] = {**table.get(key, {}), inner: value}
        else:
            table[key] = value
    return {name: _settings(name, table) for name, table in said.items()}


def note_tables(ctx: click.Context, file: Path, tables: Any) -> None:
    """Keep what the server's file says under ``backends``."""
    if not isinstance(tables, dict):
        raise _wrong(f"{file}: backends", "tables [backends.NAME]", tables)
    ctx.meta[_SAID] = (file, tables)


def _checked(tables: Tables, file: str) -> Tables:
    for name, table in tables.items():
        where = f"{file}: backends.{name}"
        if name not in BACKEND_NAMES:
            raise ConfigError(
                f"key {where!r} is not known",
                where=where,
                expected=f"one of {', '.join(BACKEND_NAMES)}",
                fix=did_you_mean(name, BACKEND_NAMES),
            )
        if not isinstance(table, dict):
            raise _wrong(where, "a table", table)
        for key, value in table.items():
            if key not in _KEYS:
                raise ConfigError(
                    f"key '{where}.{key}' is not known", where=f"{where}.{key}",
                    fix=did_you_mean(key, _KEYS) or f"known keys: {', '.join(_KEYS)}",
                )  # fmt: skip
            if not isinstance(value, dict if key in ("env", "options") else str):
                raise _wrong(f"{where}.{key}", "a table" if key == "env" else "a string", value)
    return tables


def _split(flag: str) -> tuple[str, str, str, str]:
    """Return backend, key, inner key (or nothing) and value of ``NAME.KEY[.INNER]=VALUE``."""
    path, equals, value = flag.partition("=")
    name, _, rest = path.partition(".")
    key, _, inner = rest.partition(".")
    if not equals or key not in _KEYS or bool(inner) is not (key in ("env", "options")):
        raise _wrong("--backend", _FORM, flag)
    if name not in BACKEND_NAMES:
        raise ConfigError(
            f"--backend names {name!r}, which is no backend",
            where="--backend",
            expected=f"one of {', '.join(BACKEND_NAMES)}",
            fix=did_you_mean(name, BACKEND_NAMES),
        )
    return name, key, inner, value


def _settings(name: str, table: Mapping[str, Any]) -> BackendSettings:
    where = f"backends.{name}"
    python = str(table.get("python", ""))
    if python and not python.startswith("/"):
        raise _wrong(f"{where}.python", "an absolute path of a Python interpreter", python)
    module = str(table.get("module", ""))
    known = _MODULES.get(name, ())
    if module and module not in known:
        expected = " or ".join(map(repr, known)) if known else f"no module: {name} has only one"
        raise _wrong(f"{where}.module", expected, module)
    env = read_table(f"{where}.env", table.get("env", {}))
    for variable in env:
        if not _VARIABLE.fullmatch(variable):
            raise _wrong(f"{where}.env", "names of environment variables", variable)
    return BackendSettings(
        python, env, module, read_table(f"{where}.options", table.get("options", {}))
    )


def _wrong(where: str, expected: str, given: object) -> ConfigError:
    return ConfigError(
        f"{where} has a wrong value", where=where, expected=expected, given=repr(given)[:80]
    )
