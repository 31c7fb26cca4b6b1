"""How large a shape may be that a client spells out; for every wire format alike."""

from __future__ import annotations

from collections.abc import Sequence

from serving.errors import InvalidRequest

MAX_RANK = 32
"""Axes of one tensor; the numpy of every supported version holds this many."""

MAX_ELEMENTS = 1 << 58
"""What a shape may amount to (sizes of 0 aside): its bytes must still count in 64 bits."""


def checked(given: Sequence[int], where: str) -> tuple[int, ...]:
    """Return a shape that a message spells out; raises InvalidRequest for an impossible one."""
    if len(given) > MAX_RANK:
        raise InvalidRequest(
            "the shape has too many axes",
            code="bad_shape",
            where=f"{where}.shape",
            expected=f"at most {MAX_RANK}",
            given=str(len(given)),
        )
    shape = tuple(given)
    cells = 1
    for size in shape:
        if size < 0:
            raise InvalidRequest(
                "a size in the shape is negative",
                code="bad_shape",
                where=f"{where}.shape",
                expected="the real size of each axis, 0 or more",
                given=str(size),
            )
        # Sizes beside a 0 count too: numpy refuses a shape for them although it holds nothing.
        cells *= size or 1
    if cells > MAX_ELEMENTS:
        raise InvalidRequest(
            "the shape is larger than any tensor can be",
            code="bad_shape",
            where=f"{where}.shape",
        )
    return shape
