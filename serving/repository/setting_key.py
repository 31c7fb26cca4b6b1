"""One key of ``servable.toml`` as a typed setting declares it: what it takes, what it means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

STRICT = ConfigDict(
    extra="forbid", frozen=True, strict=True, protected_namespaces=(), allow_inf_nan=False
)


def key(default: Any, expected: str, text: str, **bounds: Any) -> Any:
    """Declare a key: its default, what it takes in words, and its meaning."""
    return Field(default, description=text, json_schema_extra={"expected": expected}, **bounds)


def expected(field: FieldInfo) -> str:
    """Return what a key takes, in words."""
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    return str(extra["expected"])


def absolute(value: object) -> object:
    """Check that a text is an absolute path; for use as a validator."""
    if isinstance(value, str) and (not value.startswith("/") or "\0" in value):
        raise ValueError("not an absolute path")
    return value


def each(settings: type[BaseModel], table: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Iterate over all keys with their dotted names; tables stand for their keys."""
    for name, field in settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from each(kind, f"{table}{name}.")
        else:
            yield table + name, field
