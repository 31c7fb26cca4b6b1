"""A model without an engine: a Python function over numpy arrays, for tests of what drives one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from serving.backends.base import BackendError
from serving.tensor import Array, Signature, Tensor, element_count

Function = Callable[..., Array | tuple[Array, ...]]


class FunctionModel:
    """Runs ``function`` on the inputs; keeps the shapes of all that it was asked to run.

    Strings are arrays of objects. A ``bytes`` object in them is handed through as it is.
    """

    def __init__(self, signature: Signature, function: Function) -> None:
        self.signature = signature
        self.function = function
        self.runs: list[tuple[tuple[int, ...], ...]] = []

    def bind(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor] | None) -> FunctionBinding:
        assert outputs is None, "this double sizes its outputs itself"
        for tensor, spec in zip(inputs, self.signature.inputs, strict=True):
            assert (tensor.name, tensor.dtype) == (spec.name, spec.dtype)
        return FunctionBinding(self, inputs)

    def close(self) -> None:
        """Nothing to free."""


class FunctionBinding:
    """Inputs that are ready to run."""

    def __init__(self, model: FunctionModel, inputs: Sequence[Tensor]) -> None:
        self._model = model
        self._inputs = inputs

    def run(self) -> tuple[Tensor, ...]:
        self._model.runs.append(tuple(tensor.shape for tensor in self._inputs))
        values: Any = self._model.function(*[array_of(tensor) for tensor in self._inputs])
        if not isinstance(values, tuple):
            values = (values,)
        specs = self._model.signature.outputs
        return tuple(_tensor(s.name, s.dtype, v) for s, v in zip(specs, values, strict=True))

    def cancel(self) -> None:
        raise BackendError("a function cannot be cancelled")


def array_of(tensor: Tensor) -> Array:
    """Return a tensor's elements as an array of its shape; strings as objects."""
    if tensor.array is not None:
        assert tensor.array.shape == tensor.shape
        return tensor.array
    grid = np.empty(element_count(tensor.shape), dtype=object)
    grid[:] = tensor.items
    return grid.reshape(tensor.shape)


def _tensor(name: str, dtype: Any, value: Array) -> Tensor:
    if dtype.is_bytes:
        return Tensor(name, dtype, value.shape, items=value.reshape(-1).tolist())
    return Tensor(name, dtype, value.shape, value.astype(dtype.numpy, order="C"))
