"""Stages for tests: values are whole numbers, answers come when the test lets them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np

from serving.definition import INPUTS, Method, Node, Ref
from serving.errors import ServingError
from serving.scheduling.pipeline.port import Terms, Values
from serving.tensor import Tensor


def number(value: int) -> Tensor:
    return Tensor.of("", np.array(value, np.int64))


def value_of(tensor: Tensor) -> int:
    assert tensor.array is not None
    return int(tensor.array)


def stage(node: Node, values: tuple[int, ...]) -> tuple[int, ...]:
    """Return what a stage makes of numbers: some number that depends on all of them."""
    total = hash((node.name, *values)) % 1_000_003
    return tuple(total + output for output in range(node.outputs))


def evaluate(method: Method, inputs: tuple[int, ...]) -> tuple[int, ...]:
    """Return what a method comes to, worked out one stage after the other."""
    done: list[tuple[int, ...]] = []

    def value(ref: Ref) -> int:
        return inputs[ref.output] if ref.node == INPUTS else done[ref.node][ref.output]

    for node in method.nodes:
        done.append(stage(node, tuple(value(ref) for ref in node.inputs)))
    return tuple(value(ref) for ref in method.returns)


class Visited:
    """A visit that looks closely: each answer is released once, and never looked at after that."""

    def __init__(self, doors: Doors, node: Node, values: Values) -> None:
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._doors = doors
        self._node = node
        self._given = values
        self._over = False
        doors.waiting.append(self)

    def end(self, error: ServingError | None = None) -> None:
        """Answer, with the numbers as they are now: memory given back too early would show."""
        self._doors.waiting.remove(self)
        if error is not None:
            self.answer.set_exception(error)
            return
        numbers = stage(self._node, tuple(value_of(v) for v in self._given))
        self._doors.held.add(self)
        self.answer.set_result(tuple(number(n) for n in numbers))

    def values(self) -> Values:
        assert self in self._doors.held
        values: Values = self.answer.result()
        return values

    def abandon(self) -> None:
        assert not self._over
        self._over = True
        if self in self._doors.waiting:
            self._doors.waiting.remove(self)
            self._doors.abandoned += 1
            self.answer.cancel()
        elif self in self._doors.held:
            self.release()

    def release(self) -> None:
        self._doors.held.remove(self)  # raises KeyError the second time
        for tensor in self.answer.result():
            tensor.array[...] = -1  # the memory is somebody else's now


class Doors:
    """``waiting`` are visits without an answer, ``held`` those whose values are not released."""

    def __init__(self, refuse: Callable[[Node], ServingError | None] = lambda _node: None) -> None:
        self.waiting: list[Visited] = []
        self.held: set[Visited] = set()
        self.abandoned = 0
        self.entered: list[tuple[str, int, Terms]] = []
        self._refuse = refuse

    def enter(self, method: str, index: int, node: Node, values: Values, terms: Terms) -> Visited:
        self.entered.append((method, index, terms))
        if error := self._refuse(node):
            raise error
        return Visited(self, node, values)
