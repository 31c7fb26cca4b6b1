"""A MindIR file in plain terms: graphs of nodes, constants and weights, whatever release wrote it.

Names are those of the file, ``<graph>:<name>[:<number>]``; those of constants have no graph and
are unique in the file. Nothing here holds a protobuf message.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping

import numpy as np

from serving.formats.mindir.types import TensorType, Type
from serving.tensor import Array, DType


@dataclass(frozen=True)
class Opaque:
    """A constant that the importer has no use for; ``kind`` is the file's word for it."""

    kind: str


Constant = bool | int | float | str | None | DType | Array | Opaque | tuple["Constant", ...]
"""The value of a constant or attribute; lists are tuples, a type is a ``DType``."""


@dataclass(frozen=True, eq=False)
class Weight:
    """A parameter with its data, a view of the file it lies in."""

    name: str
    type: TensorType
    data: memoryview

    def array(self) -> Array:
        """Return the elements, without a copy, in the type that they run in."""
        dtype = self.type.dtype
        if dtype.numpy is None or self.type.shape is None:
            raise ValueError(f"weight '{self.name}' has no numbers")
        found = np.frombuffer(self.data, dtype.numpy).reshape(self.type.shape)
        return found if dtype.name != "BF16" else widened(found)


def widened(bits: Array) -> Array:
    """Return float32 for bfloat16 given as raw ``uint16``: its bits are the upper half."""
    return (bits.astype("<u4") << np.uint32(16)).view("<f4")


@dataclass(frozen=True)
class Monad:
    """A token that orders side effects; it carries no value."""


@dataclass(frozen=True)
class Input:
    """A parameter of a graph: the name of the value, and its type."""

    name: str
    type: Type


@dataclass(frozen=True)
class Node:
    """One operation: ``operator`` on the values named ``inputs`` makes the value ``output``.

    ``operator`` is a primitive (``Conv2D``) unless ``callee`` is set: then the node calls a graph
    of that name, or the closure that a node of that name has made. ``scope`` tells people where
    in their network it is (``Default/conv1-Conv2d/Conv2D-op0``).
    """

    output: str
    operator: str
    inputs: tuple[str, ...]
    type: Type
    attributes: Mapping[str, Constant] = field(default_factory=dict)
    callee: str = ""
    scope: str = ""

    @property
    def label(self) -> str:
        """Return how messages name the node."""
        place = self.scope or self.output
        return f"{self.operator} at '{place}'" if self.operator else f"the call at '{place}'"


@dataclass(frozen=True)
class Graph:
    """A function: parameters, nodes in the order of their execution, and what it returns.

    ``result`` is the type of what it returns, a tuple if there are several ``outputs``.
    """

    name: str
    inputs: tuple[Input, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    result: Type


@dataclass(frozen=True)
class Model:
    """A whole file; ``graphs`` holds the main graph too, and ``version`` is MindSpore's."""

    main: Graph
    graphs: Mapping[str, Graph]
    constants: Mapping[str, Constant | Monad]
    weights: Mapping[str, Weight]
    version: str
