"""Reads the TOML file of ``--config`` into defaults for the command's options, strictly."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from serving.cli.options import Folder, option
from serving.errors import ConfigError, did_you_mean


def use_config_file(ctx: click.Context, _: click.Parameter, file: Path | None) -> None:
    """Make the file's values the defaults, below flags and environment (an eager callback).

    Raises ConfigError naming the file and the key, and for an unknown key the nearest.
    """
    if file is None:
        return
    options = {
        option.name: option
        for option in ctx.command.params
        if isinstance(option, click.Option) and option.name and option.expose_value
    }
    table = _read(file)
    if "backend" in options and "backends" in table:
        from serving.cli.backends import note_tables

        note_tables(ctx, file, table.pop("backends"))
    options.pop("backend", None)  # a table in the file
    ctx.default_map = {key: _value(key, value, options, file, ctx) for key, value in table.items()}


def use_backend_tables(ctx: click.Context, _: click.Parameter, file: Path | None) -> None:
    """Take the tables of backends out of a server's file, and leave the rest to ``start``."""
    if file is not None:
        from serving.cli.backends import note_tables

        note_tables(ctx, file, _read(file).get("backends", {}))


backend_tables_option = option(
    "config",
    "The server's TOML file; its tables [backends.NAME] are read.",
    type=Folder(),
    is_eager=True,
    expose_value=False,
    callback=use_backend_tables,
    metavar="FILE",
)
"""Gives a command ``--config`` of which it reads the backends alone; goes with ``--backend``."""


def _read(file: Path) -> dict[str, Any]:
    from serving.repository.settings import read_toml

    try:
        data = file.read_bytes()
    except OSError as error:
        problem = os.strerror(error.errno or 0)
        message = f"--config {file} cannot be read: {problem}"
        raise ConfigError(message, where="--config") from None
    return read_toml(data, str(file))


def _value(
    key: str, value: Any, options: dict[str, click.Option], file: Path, ctx: click.Context
) -> Any:
    if key not in options:
        hint = did_you_mean(key.replace("-", "_"), options)
        raise ConfigError(
            f"{file}: key {key!r} is not known", where=key,
            fix=hint or f"known keys: {', '.join(options)}",
        )  # fmt: skip
    kind = options[key].type
    allowed, expected = _expected(kind)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise _wrong(file, key, expected, value)
    try:
        kind.convert(value, options[key], ctx)
    except click.BadParameter as error:
        raise _wrong(file, key, error.message.rstrip("."), value) from None
    return value


def _expected(kind: click.ParamType[Any]) -> tuple[tuple[type, ...], str]:
    """Return the TOML types that an option's value may have, and their name."""
    if isinstance(kind, click.types.BoolParamType):
        return (bool,), "true or false"
    if isinstance(kind, click.types.IntParamType):
        return (int,), "a whole number"
    if isinstance(kind, click.types.FloatParamType):
        return (int, float), "a number"
    return (str,), "a string"


def _wrong(file: Path, key: str, expected: str, given: object) -> ConfigError:
    return ConfigError(
        f"{file}: key {key!r} has a wrong value", where=key, expected=expected, given=repr(given)
    )
