"""What engines are told beside the usual: ``[options.tensorrt]`` in ``servable.toml``."""

from __future__ import annotations

from collections.abc import Mapping

from serving.devices import BACKEND_NAMES
from serving.errors import ConfigError, did_you_mean

EXPECTED = "a table {backend = {option = value, ...}, ...}"

Options = Mapping[str, Mapping[str, str]]
NONE: Options = {}


def parse_options(value: object) -> Options:
    """Read the TOML value of ``options``. Raises ConfigError naming the key inside it.

    Which options a backend has is its own affair: it names those that it does not know.
    """
    if not isinstance(value, dict):
        raise _wrong("options", value)
    for backend, table in value.items():
        if backend not in BACKEND_NAMES:
            raise ConfigError(
                f"key 'options.{backend}' is not known",
                where=f"options.{backend}",
                expected=f"one of {', '.join(BACKEND_NAMES)}",
                fix=did_you_mean(str(backend), BACKEND_NAMES),
            )
        if not isinstance(table, dict):
            raise _wrong(f"options.{backend}", table)
    return {backend: read_table(f"options.{backend}", table) for backend, table in value.items()}


def read_table(where: str, table: Mapping[str, object]) -> dict[str, str]:
    """Return a table's values as texts: numbers and truth values too. Raises ConfigError."""
    return {name: _text(f"{where}.{name}", value) for name, value in table.items()}


def _text(where: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise _wrong(where, value, "a string, a number, true or false")


def _wrong(where: str, value: object, expected: str = EXPECTED) -> ConfigError:
    return ConfigError(
        f"key {where!r} has a wrong value", where=where, expected=expected, given=repr(value)[:60]
    )
