"""Parse a JSON body into a tree whose large arrays are not turned into Python objects.

simdjson reads the body; objects and arrays stay proxies of its tape until somebody asks for
them. What it cannot hold (an integer beyond 64 bits) is read by orjson into lists and dicts,
so both kinds of tree are met by whoever walks them.

Two traps of simdjson are closed here. Looking a key up is a linear search, so the fields of an
object are limited in number. And its flat buffers do not tell ``[1, [], [2, 3]]`` from
``[1, 2, 3]``: see ``Document.settle``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson
import simdjson

from serving.errors import InvalidRequest, did_you_mean, listing
from serving.frontends.shape_limits import MAX_ELEMENTS, MAX_RANK

MAX_FIELDS = 1024
"""Fields of one object: keeps the quadratic cost of looking them up harmless."""

MAX_LENGTH = 0xFFFFFF - 1
"""Elements of one JSON list: simdjson's tape stores no exact length above this."""

_NOT_JSON = re.compile(rb"-?(NaN|Infinity|nan|inf)\b")
_FORM = re.compile(rb"[A-Za-z_][\w.%+-]*=")
_GZIP = b"\x1f\x8b"
_BRACKET = ord("[")
_LONG_BYTES = 4096
_AT_ONCE_BYTES = 1 << 20
_ARRAYS = (simdjson.Array, list)
_OBJECTS = (simdjson.Object, dict)


class Document:
    """A parsed body, and the books that prove the shapes read out of it.

    ``arrays_seen`` counts the lists that were visited one by one; ``leaves`` remembers the
    innermost lists whose numbers were copied without looking at each.
    """

    __slots__ = ("_brackets", "arrays_seen", "leaves", "root")

    def __init__(self, root: Any, brackets: int) -> None:
        self.root = root
        self._brackets = brackets
        self.arrays_seen = 0
        self.leaves: list[tuple[str, tuple[int, ...], list[Any]]] = []

    def elements(self, value: Any) -> Iterable[Any]:
        """Iterate over a list of the tree that holds no tensor, and enter it in the books."""
        self.arrays_seen += 1
        return value  # type: ignore[no-any-return]

    def settle(self) -> None:
        """Prove that no list hides among the numbers that were copied; call it once, last.

        Every list of the document begins with ``[``. When there are as many of these bytes as
        lists were visited, there is no list besides those. Otherwise (a ``[`` in a string, a
        list in an ignored field, or a list among numbers) the numbers are looked at one by one.
        """
        if self.arrays_seen == self._brackets:
            return
        for where, shape, leaves in self.leaves:
            for index, element in enumerate(chain.from_iterable(leaves)):
                if isinstance(element, _ARRAYS):
                    raise InvalidRequest(
                        "the lists are ragged",
                        code="ragged",
                        where=where + place(index, shape),
                        expected="a number, as before it",
                        given=type_name(element),
                        fix="lists at the same level of nesting must have the same length",
                    )


def parse(body: bytes) -> Document:
    """Parse a UTF-8 JSON body. Raises InvalidRequest (``bad_json``) with line and column."""
    try:
        root = simdjson.Parser().parse(body)
    except (ValueError, RuntimeError):
        root = _parse_again(body)
    return Document(root, _brackets(body))


def _brackets(body: bytes) -> int:
    """Count the ``[``: numpy does so at six times the speed of ``bytes.count``."""
    if len(body) < _LONG_BYTES:
        return body.count(b"[")
    text = np.frombuffer(body, np.uint8)
    count = 0
    for at in range(0, len(text), _AT_ONCE_BYTES):
        count += int(np.count_nonzero(text[at : at + _AT_ONCE_BYTES] == _BRACKET))
    return count


def _parse_again(body: bytes) -> Any:
    """Read what simdjson refused: integers beyond 64 bits are fine, the rest gets a good text."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        fix = _fix(body, error.pos)
        raise InvalidRequest(
            "the body is not valid JSON", code="bad_json", where="body", given=str(error), fix=fix
        ) from None


def _fix(body: bytes, characters: int) -> str:
    """Return the way out for a body that is wrong from that character on, where one is known."""
    if body.startswith(_GZIP):
        return "the body is packed by gzip: say so in the header Content-Encoding: gzip"
    if _FORM.match(body):
        return "the body is a form: send a JSON document (with requests: json=..., not data=...)"
    if _NOT_JSON.match(body, max(0, _byte_position(body, characters))):
        return 'JSON has no NaN or Infinity: write "NaN", "Infinity" or "-Infinity"'
    return ""


def _byte_position(body: bytes, characters: int) -> int:
    """Return where the character stands in the bytes (orjson counts characters)."""
    if body[:characters].isascii():
        return characters
    return len(body.decode("utf-8", "replace")[:characters].encode())


def place(index: int, shape: Sequence[int]) -> str:
    """Return the C-order position ``index`` in an array of ``shape`` as ``[1][0][2]``."""
    text = ""
    for dim in reversed(shape):
        index, here = divmod(index, dim)
        text = f"[{here}]{text}"
    return text


def is_array(value: Any) -> bool:
    """Return whether a value of the tree is a list."""
    return isinstance(value, _ARRAYS)


def is_object(value: Any) -> bool:
    """Return whether a value of the tree is an object."""
    return isinstance(value, _OBJECTS)


def fields(value: Any, where: str) -> dict[str, Any]:
    """Return an object's fields, their values still unread.

    Raises InvalidRequest when it is no object, has a field twice, or has too many of them.
    """
    if isinstance(value, dict):
        return value
    if not isinstance(value, simdjson.Object):
        raise wrong_type(where, "an object", value)
    if len(value) > MAX_FIELDS:
        raise InvalidRequest(
            "an object has too many fields",
            code="too_many_fields",
            where=where,
            expected=f"at most {MAX_FIELDS}",
            given=str(len(value)),
        )
    found: dict[str, Any] = {}
    for key in value:
        if key in found or "\0" in key:
            problem = "is given twice" if key in found else "has a NUL in its name"
            raise InvalidRequest(
                f"field {key[:80]!r} {problem}", code="bad_field", where=where or "body"
            )
        found[key] = value[key]
    return found


def members(value: Any, where: str) -> dict[str, Any]:
    """Return an object's fields without those that are null, which is as good as absent.

    Clients made from a schema write null for what they leave out. Raises what ``fields`` raises.
    """
    return {key: item for key, item in fields(value, where).items() if item is not None}


def known_only(
    found: Iterable[str],
    known: tuple[str, ...],
    where: str,
    hints: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Raise InvalidRequest for a field that is not known.

    It says what ``hints`` have for the field, or else the nearest known name.
    """
    for key in found:
        if key not in known:
            raise InvalidRequest(
                f"unknown field {key[:80]!r}",
                code="unknown_field",
                where=where,
                expected=f"one of {listing(known, 12)}",
                fix=hints.get(key) or did_you_mean(key[:80], known),
            )


def text_field(found: dict[str, Any], key: str, where: str, default: str | None = None) -> str:
    """Return a string field; without a ``default`` it must be there."""
    value = found.get(key, default)
    if not isinstance(value, str):
        given = "nothing" if key not in found else type_name(value)
        raise InvalidRequest(
            f"field {key!r} must be a string",
            code="wrong_type",
            where=where,
            expected="a string",
            given=given,
        )
    return value


def scalars(value: Any, where: str) -> dict[str, str | int | float | bool]:
    """Return a ``parameters`` object; its values must be strings, numbers or booleans.

    Those that are null are left out.
    """
    found = members(value, where)
    for key, item in found.items():
        if not isinstance(item, (str, int, float)):
            raise wrong_type(f"{where}.{key[:80]}", "a string, a number or a boolean", item)
    return found


def type_name(value: Any) -> str:
    """Return what JSON calls the value's type, with the value when that is short."""
    if is_object(value):
        return "an object"
    if is_array(value):
        return "a list"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the string {value[:40]!r}{'...' if len(value) > 40 else ''}"
    return f"the number {value}"


def wrong_type(where: str, expected: str, value: Any, fix: str = "") -> InvalidRequest:
    """Return the error for a value of another JSON type than the one wanted."""
    return InvalidRequest(
        f"{where or 'the body'} must be {expected}",
        code="wrong_type",
        where=where or "body",
        expected=expected,
        given=type_name(value),
        fix=fix,
    )


def shape_field(document: Document, value: Any, where: str) -> tuple[int, ...]:
    """Return a shape: a list of at most 32 integers, none of them negative."""
    if not is_array(value):
        raise wrong_type(where, "a list of integers", value)
    if len(value) > MAX_RANK:
        raise InvalidRequest(
            "the shape has too many axes",
            code="bad_shape",
            where=where,
            expected=f"at most {MAX_RANK}",
            given=str(len(value)),
        )
    shape = tuple(document.elements(value))
    for axis, size in enumerate(shape):
        if type(size) is not int or size < 0:
            raise InvalidRequest(
                "a size in the shape is not usable",
                code="bad_shape",
                where=f"{where}[{axis}]",
                expected="an integer, 0 or more",
                given=type_name(size),
            )
    if math.prod(size or 1 for size in shape) > MAX_ELEMENTS:
        raise InvalidRequest(
            "the shape is larger than any tensor can be", code="bad_shape", where=where
        )
    return shape
