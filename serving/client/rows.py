"""Rows for people who think of one example at a time: stacked into requests, and cut apart again.

A row is what one example is, without the batch axis. Rows of equal shapes travel together, as
many as the server runs together; rows of a servable that does not batch travel alone. Inputs
without a batch axis are shared by the rows of a request, so only rows that agree on them meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.client import values
from serving.client.inputs import by_name
from serving.client.prediction import Prediction, objects
from serving.errors import InternalError, InvalidRequest, did_you_mean, listing
from serving.request import Description
from serving.tensor import ANY, Tensor, TensorSpec, shape_text


@dataclass(frozen=True)
class Group:
    """Rows that travel together: their places among all rows, and the inputs of their request."""

    places: tuple[int, ...]
    inputs: list[Tensor]


def group(rows: Sequence[Any], known: Description) -> list[Group]:
    """Return the requests that the rows make; raises InvalidRequest naming the row."""
    axes = _axes(known.batch.inputs, len(known.signature.inputs))
    read = [_row(row, f"rows[{place}]", known, axes) for place, row in enumerate(rows)]
    # Answers of any type may differ from row to row, and then cannot come as one.
    is_open = any(spec.dtype is ANY for spec in known.signature.outputs)
    stacks = known.batch.batched and not is_open
    alike: dict[Any, list[int]] = {}
    for place, tensors in enumerate(read):
        alone = None if stacks else place
        look = [
            (t.dtype.name, t.shape, None if axis is not None else _content(t))
            for t, axis in zip(tensors, axes, strict=True)
        ]
        alike.setdefault((alone, *look), []).append(place)
    most = max(1, known.max_batch_size)
    return [
        _group(tuple(places[start : start + most]), read, axes)
        for places in alike.values()
        for start in range(0, len(places), most)
    ]


def join(
    groups: Sequence[Group], answers: Sequence[Prediction], known: Description
) -> list[dict[str, Any]]:
    """Return the outputs of each row by name, in the order of the rows."""
    specs = known.signature.outputs
    axes = _axes(known.batch.outputs, len(specs))
    by_output = {spec.name: axis for spec, axis in zip(specs, axes, strict=True)}
    found: list[dict[str, Any]] = [{} for sent in groups for _ in sent.places]
    for sent, answer in zip(groups, answers, strict=True):
        for name, array in answer.items():
            axis = by_output.get(name)
            if axis is None:
                parts: Sequence[Any] = [array] * len(sent.places)
            elif array.shape[axis : axis + 1] == (len(sent.places),):
                parts = list(np.moveaxis(array, axis, 0))
            else:
                raise InternalError(f"output {name!r} does not have a row for each row sent")
            for place, part in zip(sent.places, parts, strict=True):
                found[place][name] = part
    return found


def row_spec(spec: TensorSpec, axis: int | None) -> TensorSpec:
    """Return how an input looks in one row: without its batch axis."""
    if spec.shape is None or axis is None:
        return spec
    return TensorSpec(spec.name, spec.dtype, spec.shape[:axis] + spec.shape[axis + 1 :], spec.json)


def _axes(axes: Sequence[int | None], size: int) -> list[int | None]:
    """Return an axis for each of ``size`` tensors; servables that do not batch have none."""
    return [axes[i] if i < len(axes) else None for i in range(size)]


def _row(row: Any, where: str, known: Description, axes: Sequence[int | None]) -> list[Tensor]:
    """Return the tensors of one row in the signature's order."""
    specs = known.signature.inputs
    try:
        given = by_name(row, [spec.name for spec in specs], known.servable)
        _check_names(set(given), specs)
        tensors = []
        for spec, axis in zip(specs, axes, strict=True):
            one = row_spec(spec, axis)
            tensors.append(values.to_tensor(spec.name, given[spec.name], one))
            _check_rank(tensors[-1], one, axis)
    except InvalidRequest as error:
        error.where = where + error.where.removeprefix("inputs")
        raise
    return tensors


def _check_names(given: set[str], specs: Sequence[TensorSpec]) -> None:
    known = [spec.name for spec in specs]
    for name in given:
        if name not in known:
            raise InvalidRequest(
                f"the row has no input {name!r}", code="unknown_input", where="inputs",
                expected=listing(known), fix=did_you_mean(name, known),
            )  # fmt: skip
    missing = [name for name in known if name not in given]
    if missing:
        raise InvalidRequest(
            f"the row needs input {missing[0]!r}", code="missing_input", where="inputs",
            expected=listing(known), given=listing(sorted(given)) or "none",
        )  # fmt: skip


def _check_rank(tensor: Tensor, spec: TensorSpec, axis: int | None) -> None:
    if spec.shape is not None and len(tensor.shape) != len(spec.shape):
        raise InvalidRequest(
            f"input {tensor.name!r} of one row has another number of axes",
            code="wrong_rank", where=f"inputs.{tensor.name}",
            expected=shape_text(spec.shape), given=shape_text(tensor.shape),
            fix="this input has no batch axis: a row holds all of it" if axis is None
            else "a row has no batch axis; predict() takes whole tensors",
        )  # fmt: skip


def _content(tensor: Tensor) -> Any:
    return tuple(tensor.items or ()) if tensor.array is None else tensor.array.tobytes()


def _group(
    places: tuple[int, ...], read: Sequence[list[Tensor]], axes: Sequence[int | None]
) -> Group:
    inputs = [_stack([read[p][i] for p in places], axis) for i, axis in enumerate(axes)]
    return Group(places, inputs)


def _stack(tensors: list[Tensor], axis: int | None) -> Tensor:
    """Return one input of a request: its rows along the batch axis, or what they share."""
    first = tensors[0]
    if axis is None:
        return first
    if first.array is not None:
        stacked = np.stack([t.array for t in tensors if t.array is not None], axis)
        return Tensor(first.name, first.dtype, stacked.shape, np.ascontiguousarray(stacked))
    whole = np.stack([objects(t.items or (), t.shape) for t in tensors], axis)
    return Tensor(first.name, first.dtype, whole.shape, items=whole.reshape(-1).tolist())
