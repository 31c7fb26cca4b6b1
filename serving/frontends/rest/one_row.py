"""Where the numbers of the only instance of a body stand, for wire formats that write it alike.

That is ``{"instances": [[...]]}`` or ``{"instances": [{"x": [...]}]}``, whatever else is in it:
what stands before and behind the numbers means the same with other numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, NamedTuple, TypeVar

import orjson

from serving.frontends import rows
from serving.frontends.plan import InputPlan, Plan, plan_for
from serving.frontends.rest import plain_numbers
from serving.frontends.rest.plain_numbers import Packer
from serving.frontends.rest.row_form import Cut, RowForm
from serving.request import Description
from serving.tensor import BF16, Dim, element_count

_LONGEST_START = 512
_MOST_FORMS = 2048
_MOST_ELEMENTS = 4096
"""Of all outputs of a row together: more are better written on another thread."""


class OneRow(NamedTuple):
    """A body's members, where the JSON value of its only row begins and ends, and its input's name.

    The name is None where the row is the bare value.
    """

    members: dict[str, Any]
    at: int
    end: int
    name: str | None


_Target = TypeVar("_Target", bound=Hashable)


class Forms(Generic[_Target]):
    """The forms of bodies of one row, by what their URLs ask for; ``make`` makes one.

    ``says_more`` tells of a body that says something besides.
    """

    def __init__(
        self,
        make: Callable[[_Target, Description, Packer], RowForm],
        says_more: Callable[[bytes, OneRow], bool],
    ) -> None:
        self._make = make
        self._says_more = says_more
        self._kept: dict[_Target, tuple[Description, RowForm]] = {}

    def cut(self, target: _Target, description: Description, body: bytes) -> Cut | None:
        """Return the form of a body, None for one that has none; of a target it is the same."""
        plan = plan_for(description)
        if b"\\" in body or not (rows.stacks(description) and is_plain(plan)):
            return None
        (item,) = plan.inputs
        packs = packer(item)
        # Several rows have more lists: to find that out by parsing would cost each call that much.
        if packs is None or body.count(b"[") != 1 + brackets(item):
            return None
        row = find(body)
        if row is None or row.name not in (None, item.spec.name) or self._says_more(body, row):
            return None
        kept = self._kept.get(target)
        if kept is None or kept[0] is not description:
            if len(self._kept) >= _MOST_FORMS:
                self._kept.clear()
            kept = self._kept[target] = description, self._make(target, description, packs)
        return Cut(kept[1], row.at + 1, len(body) - row.end + 1)


def find(body: bytes) -> OneRow | None:
    """Return where the numbers of a body's only row stand; None where it has no such row."""
    at, end = start(body), body.rfind(b"]", 0, body.rfind(b"]")) + 1
    if not 0 < at < end:
        return None
    try:
        members, value = orjson.loads(body), orjson.loads(body[at:end])
    except orjson.JSONDecodeError:
        return None
    rows = members.get("instances") if type(members) is dict else None
    if type(rows) is not list or len(rows) != 1:
        return None
    (row,), name = rows, None
    if type(row) is dict:
        if len(row) != 1:
            return None
        ((name, row),) = row.items()
    return OneRow(members, at, end, name) if value == row else None


def start(body: bytes) -> int:
    """Return where the second list of a body begins: its numbers; -1 if there is none."""
    return body.find(b"[", body.find(b"[", 0, _LONGEST_START) + 1, _LONGEST_START)


def brackets(item: InputPlan) -> int:
    """Return how many lists a row is made of, each of its sizes being known."""
    lists, found = 1, 0
    for size in item.row or ():
        found += lists
        lists *= size if isinstance(size, int) else 0
    return found


def packer(item: InputPlan) -> Packer | None:
    """Return what packs rows that are lists of known lengths."""
    sizes = tuple([dim for dim in item.row or () if isinstance(dim, int) and dim > 0])
    if not sizes or len(sizes) != len(item.row or ()):
        return None
    return plain_numbers.packer((1, *sizes), item.spec.dtype, nested=True)


def is_plain(plan: Plan) -> bool:
    """Return whether a row is one input and few numbers out, each a list or a number."""
    if len(plan.inputs) != 1 or not plan.outputs:
        return False
    elements = 0
    for output in plan.outputs.values():
        spec, row = output.spec, _row(output.spec.shape)
        if output.axis != 0 or row is None or spec.dtype.is_bytes or spec.dtype is BF16:
            return False
        elements += element_count(row)
    return elements <= _MOST_ELEMENTS


def _row(shape: tuple[Dim, ...] | None) -> tuple[int, ...] | None:
    """Return the sizes behind the batch axis, None if one of them varies."""
    sizes = tuple([dim for dim in (shape or ())[1:] if isinstance(dim, int) and dim > 0])
    return sizes if shape and len(sizes) == len(shape) - 1 else None
