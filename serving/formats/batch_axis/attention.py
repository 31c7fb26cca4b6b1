"""Fused attention, where its inputs leave no doubt that a row attends to itself alone."""

from __future__ import annotations

from typing import Sequence

from serving.formats.batch_axis.size import Size
from serving.formats.batch_axis.step import MICROSOFT, Step, is_one, require_axis_zero, rule
from serving.formats.batch_axis.value import Draft, OpenDims


def _only(step: Step, positions: Sequence[int]) -> None:
    extra = [i for i in range(len(step.inputs)) if step.has(i) and i not in positions]
    if extra:
        step.refuse(f"has an input that is not followed (input {extra[0]})")


def _one_output(step: Step) -> None:
    if sum(1 for name in step.node.output if name) > 1:
        step.refuse("returns more than its first output, which is not followed")


def _with_width(step: Step, width: Size | None) -> Draft:
    rows = step.rows(0)
    dims: OpenDims = (*step.dims(0)[:-1], width)
    return Draft(rows, dims)


@rule("Attention", domain=MICROSOFT)
def fused_attention(step: Step) -> Draft:
    """Input [batch, sequence, hidden], weights, bias, and a mask of one line for each row."""
    _only(step, (0, 1, 2, 3))
    _one_output(step)
    step.require_free(1, 2)
    if step.rank(0) != 3:
        step.refuse(f"has an input of rank {step.rank(0)}")
    require_axis_zero(step, (0, 3))
    if step.has(3) and step.rank(3) < 2:
        step.refuse("has a mask that lists places instead of a line for each row")
    return _with_width(step, None)


@rule("MultiHeadAttention", domain=MICROSOFT)
def multi_head_attention(step: Step) -> Draft:
    """Query, key and value of rank 3, a bias, and a mask of one line for each row."""
    _only(step, (0, 1, 2, 3, 4))
    _one_output(step)
    step.require_free(3)
    if not step.has(1) or not step.has(2) or any(step.rank(i) != 3 for i in (0, 1, 2)):
        step.refuse("has packed queries, keys or values, which are not followed")
    require_axis_zero(step, (0, 1, 2, 4))
    if step.has(4) and step.rank(4) < 2:
        step.refuse("has a mask that lists places instead of a line for each row")
    return _with_width(step, step.dims(2)[-1])


@rule("Attention")
def attention(step: Step) -> Draft:
    """Query, key and value of rank 3 or 4, and a mask that is stretched over the scores."""
    _only(step, (0, 1, 2, 3))
    _one_output(step)
    require_axis_zero(step, (0, 1, 2))
    if step.has(3):
        _check_mask(step)
    return _with_width(step, step.dims(2)[-1] if step.rank(0) == 4 else None)


def _check_mask(step: Step) -> None:
    """The scores are [batch, heads, queries, keys]."""
    mask, rank = step.value(3), step.rank(3)
    if mask.rows is None:
        step.require_free(3)
        if rank >= 4 and not is_one(step.dims(3)[-4]):
            step.refuse("has a mask with an entry for every row that is not part of the batch")
    elif rank != 4 or mask.rows.axis != 0 or not mask.rows.alike(step.rows(0)):
        step.refuse("has a mask whose batch axis does not meet that of the queries")
