"""An option's value that is a list of numbers with commas."""

from __future__ import annotations

from typing import Any

import click


class Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers above 0 and up to ``most``, with commas, in the order given; ``whole`` ones."""

    name = "numbers"

    def __init__(self, *, whole: bool, most: int = 1_000_000) -> None:
        self._whole = whole
        self._most = most

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Return the numbers."""
        if isinstance(value, tuple):
            return value
        number = int if self._whole else float
        try:
            found = tuple(number(part) for part in str(value).split(","))
        except ValueError:
            found = ()
        if not found or not all(0 < number <= self._most for number in found):
            kind = "whole numbers from 1" if self._whole else "numbers above 0, up"
            wanted = f"a list of {kind} to {self._most:,}, such as 1,2,4"
            self.fail(f"{value!r} is not {wanted}", param, ctx)
        return found
