"""V2's classification extension: the largest elements of an output, with their places and names.

A wanted output whose parameters say ``"classification": k`` is answered as strings in place of its
numbers: ``value:index``, or ``value:index:label`` where the servable brings labels, the largest
first; for each row where rows batch, else for the output as a whole. Source: Triton's extension of
the Open Inference Protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from serving.errors import InvalidRequest
from serving.frontends.v2_parameters import Scalar
from serving.request import Description, InferResponse
from serving.tensor import BF16, BYTES, Array, Tensor, TensorSpec

PARAMETER = "classification"
_MOST = 2**31 - 1


def count_of(given: Mapping[str, Scalar], spec: TensorSpec, where: str) -> int:
    """Return how many classes the parameters of a wanted output ask for, 0 for its elements.

    Raises InvalidRequest for what is no such number, and for an output of strings.
    """
    count = given.get(PARAMETER, 0)
    if type(count) is not int or not 0 <= count <= _MOST:
        raise InvalidRequest(
            "a parameter has the wrong value",
            code="bad_parameter",
            where=f"{where}.{PARAMETER}",
            expected=f"a whole number of classes, from 1 to {_MOST}",
            given=repr(count)[:60],
        )
    if count and spec.dtype.is_bytes:
        raise _no_numbers(spec.name, where)
    if count and any(name.startswith("shared_memory_") for name in given):
        raise InvalidRequest(
            "classes of an output are not written to shared memory",
            code="bad_parameter",
            where=f"{where}.{PARAMETER}",
            fix="ask for the output in shared memory, or for its classes without",
        )
    return count


class Classes(NamedTuple):
    """How many classes are wanted of which outputs; the others are answered as they are."""

    counts: Mapping[str, int]
    description: Description

    def of(self, response: InferResponse) -> InferResponse:
        """Return a response with classes, valid for as long as the given one is not released.

        Raises InvalidRequest for an output that turned out to have no numbers.
        """
        outputs = [
            self._classified(t, self.counts[t.name]) if t.name in self.counts else t
            for t in response.outputs
        ]
        answer = InferResponse(response.servable, response.version, response.id, tuple(outputs))
        answer.parameters = response.parameters
        answer.stored = response.stored
        return answer

    def _classified(self, tensor: Tensor, count: int) -> Tensor:
        if tensor.array is None:
            raise _no_numbers(tensor.name, f"outputs.{tensor.name}.parameters")
        values = _ordered(tensor)
        axis = self._axis(tensor.name)
        rows = values.reshape(1, -1)
        if axis is not None and values.ndim > axis:
            rows = np.moveaxis(values, axis, 0)
            rows = rows.reshape(len(rows), -1) if len(rows) else rows.reshape(0, 1)
        count = min(count, rows.shape[1])
        labels = self.description.class_labels.get(tensor.name, ())
        items = [item for row in rows for item in _largest(row, count, labels)]
        shape = (count,) if axis is None else (len(rows), count)
        return Tensor(tensor.name, BYTES, shape, items=items)

    def _axis(self, name: str) -> int | None:
        """Return the axis of an output that counts rows, None where there is none."""
        known, batch = self.description, self.description.batch
        if not batch.batched:
            return None
        names = [spec.name for spec in known.signature.outputs]
        return batch.outputs[names.index(name)]


def _ordered(tensor: Tensor) -> Array:
    """Return the elements as numbers that numpy orders."""
    array = tensor.array
    assert array is not None
    if tensor.dtype is BF16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.view(np.uint8) if array.dtype == np.bool_ else array


def _largest(row: Array, count: int, labels: tuple[str, ...]) -> list[bytes]:
    """Return the classes of a row; of equal values the first comes first, NaN last."""
    # The complement turns the order of integers around without running over.
    falling = -row if row.dtype.kind == "f" else ~row
    found = []
    for index in np.argsort(falling, kind="stable")[:count].tolist():
        value = row[index]
        text = f"{value:f}" if row.dtype.kind == "f" else str(value)
        text = f"{text}:{index}"
        found.append((f"{text}:{labels[index]}" if index < len(labels) else text).encode())
    return found


def _no_numbers(name: str, where: str) -> InvalidRequest:
    return InvalidRequest(
        f"output {name!r} holds strings, which have no largest",
        code="bad_parameter",
        where=f"{where}.{PARAMETER}",
        fix="ask for it without classes",
    )
