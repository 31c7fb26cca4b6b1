"""Runs one MindSpore operator through the importer: what a test of a conversion needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from tests.unit.formats.mindir.mindir_files import Net, TensorLike, run_net

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(5)


@dataclass(frozen=True)
class Fixed:
    """An argument that is a constant of the file in every release."""

    value: Any


Argument = Array | Fixed | list[Array]


def floats(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype("float32")


def like(*arrays: Array) -> Any:
    """Return the type of one array, or of several that an operator gives as a tuple."""
    types = [(str(a.dtype), a.shape) for a in arrays]
    return types[0] if len(types) == 1 else types


def run_node(
    folder: Path,
    operator: str,
    arguments: Sequence[Argument],
    stated: TensorLike | list[TensorLike],
    release: str = "2.10",
    outputs: Sequence[int] | None = None,
    varying: bool = False,
    **settings: Any,
) -> list[Array]:
    """Return what the node gives; a list among the arguments is a tuple of inputs.

    ``settings`` are written as the release does. Of a node that gives a tuple, ``outputs`` are
    asked for (all by default). ``varying`` leaves all lengths of the inputs open.
    """
    net = Net(release)
    fed: list[Array] = []

    def entered(value: Array) -> str:
        fed.append(value)
        shape = [-1] * value.ndim if varying else value.shape
        return net.input(f"x{len(fed)}", str(value.dtype), shape)

    names = []
    for argument in arguments:
        if isinstance(argument, Fixed):
            names.append(net.constant(argument.value))
        elif isinstance(argument, list):
            names.append(net.op("MakeTuple", [entered(v) for v in argument], None))
        else:
            names.append(entered(argument))
    found = net.op(operator, names, stated, **settings)
    if isinstance(stated, list):
        places = range(len(stated)) if outputs is None else outputs
        items = [net.op("TupleGetItem", [found, net.constant(i)], stated[i]) for i in places]
        found = net.op("MakeTuple", items, None) if len(items) > 1 else items[0]
    net.output(found)
    return run_net(net, folder, *fed)


def agrees(
    found: Sequence[Array], *expected: Array, rtol: float = 1e-5, atol: float = 1e-6
) -> None:
    """Fail unless there are as many outputs, of these types, shapes and values.

    Whole numbers and truth values must be equal; NaN is equal to NaN.
    """
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        if one.dtype.kind in "biu":
            np.testing.assert_array_equal(one, other)
        else:
            np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)
