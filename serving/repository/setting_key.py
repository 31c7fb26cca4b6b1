"""One key of ``servable.toml`` as a typed setting declares it, and a table read by its keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

Read = Callable[[Any], Any]
"""Takes what TOML holds and returns the setting's value; raises ValueError for what is none.

One that knows better words raises ConfigError in place of it.
"""

T = TypeVar("T")
_KEY = "key"
_TABLE = "table"


@dataclass(frozen=True)
class Key:
    """What a key takes, in words; its meaning; its default; and how its value is read."""

    expected: str
    text: str
    default: object
    read: Read


class Fault(Enum):
    """What is wrong with a key: nobody knows it, its value is none, or it is no table."""

    UNKNOWN = "unknown"
    VALUE = "value"
    NO_TABLE = "no table"


@dataclass(frozen=True)
class WrongKey:
    """A key that is wrong, by its dotted name, and what was given for it."""

    name: str
    fault: Fault
    given: object


class WrongKeys(Exception):
    """What is wrong with a table, in the order of the settings; unknown keys come last."""

    def __init__(self, keys: list[WrongKey]) -> None:
        super().__init__(", ".join(key.name for key in keys))
        self.keys = keys


def key(default: Any, expected: str, text: str, read: Read) -> Any:
    """Declare a key, as a field of a dataclass: what it takes in words, and its meaning."""
    known = Key(expected, text, default, read)
    return dataclasses.field(default_factory=lambda: default, metadata={_KEY: known})


def table(settings: type) -> Any:
    """Declare a table with keys of its own: a dataclass whose fields are declared by ``key``."""
    return dataclasses.field(default_factory=settings, metadata={_TABLE: settings})


def each(settings: Any, within: str = "") -> Iterator[tuple[str, Key]]:
    """Iterate over all keys with their dotted names; tables stand for their keys."""
    for field in dataclasses.fields(settings):
        if _TABLE in field.metadata:
            yield from each(field.metadata[_TABLE], f"{within}{field.name}.")
        elif _KEY in field.metadata:
            yield within + field.name, field.metadata[_KEY]


def read_table(settings: Callable[..., T], given: Mapping[str, Any]) -> T:
    """Return the settings that a table holds. Raises WrongKeys, and ConfigError of a reader."""
    wrong: list[WrongKey] = []
    values = _values(settings, given, "", wrong)
    if wrong:
        raise WrongKeys(wrong)
    return settings(**values)


def _values(
    settings: Any, given: Mapping[str, Any], within: str, wrong: list[WrongKey]
) -> dict[str, Any]:
    """Return the values of a table by field; what is wrong goes into the list."""
    values: dict[str, Any] = {}
    known = {f.name: f.metadata for f in dataclasses.fields(settings) if f.metadata}
    for name, declared in known.items():
        if name not in given:
            continue
        value = given[name]
        if _TABLE in declared and not isinstance(value, dict):
            wrong.append(WrongKey(within + name, Fault.NO_TABLE, value))
        elif _TABLE in declared:
            kind = declared[_TABLE]
            values[name] = kind(**_values(kind, value, f"{within}{name}.", wrong))
        else:
            try:
                values[name] = declared[_KEY].read(value)
            except ValueError:
                wrong.append(WrongKey(within + name, Fault.VALUE, value))
    wrong += [
        WrongKey(within + name, Fault.UNKNOWN, value)
        for name, value in given.items()
        if name not in known
    ]
    return values
