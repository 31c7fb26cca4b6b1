"""What codecs need to know of a description, worked out once instead of per request."""

from __future__ import annotations

from dataclasses import dataclass

from serving.request import Description
from serving.tensor import BatchAxes, Dim, TensorSpec

Dims = tuple[Dim, ...] | None
"""Declared sizes; a string is a size that varies; None is an unknown rank."""

_MAX_PLANS = 2048


@dataclass(frozen=True, slots=True)
class InputPlan:
    """One input: its spec, its batch axis (None: shared, or not batched), and its sizes.

    ``row`` are the declared sizes of one instance, the batch axis left out; ``whole`` those of
    the whole tensor, the batch axis free.
    """

    spec: TensorSpec
    axis: int | None
    row: Dims
    whole: Dims


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """One output: its spec, and its batch axis (None: shared by all rows, or not batched)."""

    spec: TensorSpec
    axis: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """All inputs of a description in signature order, and by name; all outputs by name."""

    description: Description
    inputs: tuple[InputPlan, ...]
    by_name: dict[str, InputPlan]
    shares: bool
    outputs: dict[str, OutputPlan]


_plans: dict[int, Plan] = {}


def plan_for(description: Description) -> Plan:
    """Return the plan of a description, kept for as long as the same object comes back."""
    plan = _plans.get(id(description))
    if plan is None or plan.description is not description:
        if len(_plans) >= _MAX_PLANS:
            _plans.clear()
        plan = _plans[id(description)] = _make(description)
    return plan


def _make(description: Description) -> Plan:
    batch, signature = description.batch, description.signature
    inputs = tuple(
        _input(spec, _axis(batch, batch.inputs, i)) for i, spec in enumerate(signature.inputs)
    )
    outputs = {
        spec.name: OutputPlan(spec, _axis(batch, batch.outputs, i))
        for i, spec in enumerate(signature.outputs)
    }
    by_name = {item.spec.name: item for item in inputs}
    shares = any(item.axis is None for item in inputs)
    return Plan(description, inputs, by_name, shares, outputs)


def _axis(batch: BatchAxes, axes: tuple[int | None, ...], index: int) -> int | None:
    return axes[index] if batch.batched and index < len(axes) else None


def _input(spec: TensorSpec, axis: int | None) -> InputPlan:
    if spec.shape is None or axis is None:
        return InputPlan(spec, axis, spec.shape, spec.shape)
    before, after = spec.shape[:axis], spec.shape[axis + 1 :]
    return InputPlan(spec, axis, before + after, (*before, "", *after))
