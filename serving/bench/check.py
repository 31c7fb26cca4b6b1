"""Holds answers against the first answer to the same request, which was alone in the server."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from serving.bench.payload import answer
from serving.tensor import Array

RELATIVE, ABSOLUTE = 1e-3, 1e-5
"""How far floats may lie apart: an engine adds rows up in another order in another batch."""


class Check:
    """The right answers to the requests of a run, by the request's number.

    Answers nearly always are the first one byte for byte; only those that differ are taken apart.
    """

    def __init__(self, protocol: str) -> None:
        self._protocol = protocol
        self._bodies: dict[int, bytes] = {}
        self._outputs: dict[int, dict[str, Array]] = {}

    def learn(self, number: int, body: bytes, headers: Mapping[bytes, bytes]) -> None:
        """Take an answer as the right one. Raises ValueError for what is none."""
        self._bodies[number] = body
        self._outputs[number] = answer(self._protocol, body, headers)

    def right(self, number: int, body: bytes, headers: Mapping[bytes, bytes]) -> bool:
        """Return whether an answer says what the first one said."""
        if body == self._bodies[number]:
            return True
        try:
            given = answer(self._protocol, body, headers)
        except ValueError:
            return False
        return agree(self._outputs[number], given)


def agree(expected: Mapping[str, Array], given: Mapping[str, Array]) -> bool:
    """Return whether outputs are equal: floats within a tolerance, all else exactly."""
    if expected.keys() != given.keys():
        return False
    return all(_agree(expected[name], given[name]) for name in expected)


def _agree(expected: Array, given: Array) -> bool:
    if expected.shape != given.shape:
        return False
    if expected.dtype.kind == "f" and given.dtype.kind in "fiu":
        return bool(np.allclose(given, expected, RELATIVE, ABSOLUTE, equal_nan=True))
    return bool(np.array_equal(expected, given))
