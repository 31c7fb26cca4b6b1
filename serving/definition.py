"""What a ``servable_config.py`` registers: models, and methods that are graphs of stages.

Written by whoever runs that file (a helper, a stage worker), read by the master, which never
does. It travels as JSON. Python 3.9 syntax, standard library only.
"""

from __future__ import annotations

import enum
import hashlib
import json
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

INPUTS = -1
"""The ``node`` of a ``Ref`` to one of the method's own inputs."""


class Ref(NamedTuple):
    """An output of a node, or (node ``INPUTS``) an input of the method."""

    node: int
    output: int


class Kind(enum.Enum):
    """What a stage is."""

    FUNCTION = "function"
    MODEL = "model"
    BUILTIN = "builtin"


@dataclass(frozen=True)
class Node:
    """One stage of a method.

    ``name`` is that of a function of the definition, the key of a model, or a built-in stage.
    ``outputs`` is how many values it yields. ``subgraph`` counts for models only. ``tag`` is
    what errors call it.
    """

    kind: Kind
    name: str
    inputs: Tuple[Ref, ...]
    outputs: int
    subgraph: int = 0
    tag: str = ""


@dataclass(frozen=True)
class Function:
    """A Python function that stages call.

    ``batch_size`` None: called once for each instance with its values. Else it is called with a
    tuple of instances, each a tuple of values: at most so many, 0 leaves the number to the server.
    ``inputs`` and ``outputs`` count values of one instance.
    """

    name: str
    inputs: int
    outputs: int
    batch_size: Optional[int] = None


BUILTINS: Mapping[str, Function] = MappingProxyType({"argmax_cpp": Function("argmax_cpp", 1, 1)})
"""Stages that need no function of the servable: stage workers bring them along."""


@dataclass(frozen=True)
class DeclaredModel:
    """A model of ``declare_model``.

    ``files`` lie in the version's folder; several are the subgraphs of one model. With
    ``with_batch_dim`` axis 0 of every input and output counts rows, except for the inputs listed
    in ``without_batch_dim_inputs``. ``context`` holds what was said of devices and options.
    """

    files: Tuple[str, ...]
    format: str
    with_batch_dim: bool = True
    without_batch_dim_inputs: Tuple[int, ...] = ()
    context: Mapping[str, Any] = field(default_factory=dict)
    config_file: str = ""

    @property
    def key(self) -> str:
        """The name by which stages and hidden methods refer to it."""
        return ";".join(self.files)


@dataclass(frozen=True)
class Method:
    """A method: names of its inputs and outputs, its stages in order, and what it returns.

    A node refers only to nodes before it.
    """

    name: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    nodes: Tuple[Node, ...]
    returns: Tuple[Ref, ...]


@dataclass(frozen=True)
class Definition:
    """All that one ``servable_config.py`` registers.

    ``sources`` is a fingerprint of the code that did: the same stages may do something else.
    """

    models: Tuple[DeclaredModel, ...] = ()
    functions: Tuple[Function, ...] = ()
    methods: Tuple[Method, ...] = ()
    sources: str = ""

    def model(self, key: str) -> DeclaredModel:
        """Return a declared model by its key. Raises KeyError."""
        for declared in self.models:
            if declared.key == key:
                return declared
        raise KeyError(key)

    def method(self, name: str) -> Method:
        """Return a method by its name. Raises KeyError."""
        for method in self.methods:
            if method.name == name:
                return method
        raise KeyError(name)

    def function(self, name: str) -> Function:
        """Return a function by its name. Raises KeyError."""
        for function in self.functions:
            if function.name == name:
                return function
        raise KeyError(name)

    @property
    def stages(self) -> Tuple[Function, ...]:
        """The functions that methods call, each once, built-in ones among them."""
        found: Dict[str, Function] = {}
        for method in self.methods:
            for node in method.nodes:
                if node.kind is Kind.FUNCTION:
                    found[node.name] = self.function(node.name)
                elif node.kind is Kind.BUILTIN:
                    found[node.name] = Function(node.name, len(node.inputs), node.outputs)
        return tuple(found.values())

    @property
    def digest(self) -> str:
        """Tells one definition from another: a worker must register what the helper did."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> "dict[str, Any]":
        """Return a form that survives JSON and ``from_json``."""
        data = asdict(self)
        for method in data["methods"]:
            for node in method["nodes"]:
                node["kind"] = node["kind"].value
        return data

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Definition":
        """Rebuild what ``to_json`` wrote. Raises KeyError, TypeError or ValueError."""
        return Definition(
            tuple(_model(m) for m in data["models"]),
            tuple(Function(**f) for f in data["functions"]),
            tuple(_method(m) for m in data["methods"]),
            data.get("sources", ""),
        )


def _model(data: Mapping[str, Any]) -> DeclaredModel:
    fields = dict(data)
    for name in ("files", "without_batch_dim_inputs"):
        fields[name] = tuple(fields[name])
    return DeclaredModel(**fields)


def _method(data: Mapping[str, Any]) -> Method:
    return Method(
        data["name"],
        tuple(data["inputs"]),
        tuple(data["outputs"]),
        tuple(_node(n) for n in data["nodes"]),
        tuple(Ref(*r) for r in data["returns"]),
    )


def _node(data: Mapping[str, Any]) -> Node:
    fields = dict(data)
    fields["kind"] = Kind(fields["kind"])
    fields["inputs"] = tuple(Ref(*r) for r in fields["inputs"])
    return Node(**fields)
