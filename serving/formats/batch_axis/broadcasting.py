"""Element-by-element operators: numpy's broadcasting, with the batch counted from the right."""

from __future__ import annotations

from dataclasses import replace
from typing import Sequence

from serving.formats.batch_axis.places import computed_place
from serving.formats.batch_axis.size import ONE, Kind, Size, derived
from serving.formats.batch_axis.step import MICROSOFT, ML, Step, is_one, rule
from serving.formats.batch_axis.value import Draft, Rows

UNARY = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "Ceil",
    "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish",
    "Identity", "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal",
    "RegexFullMatch", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh",
    "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu",
)  # fmt: skip
VARIADIC = (
    "Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater",
    "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu",
    "Pow", "StringConcat", "Sub", "Sum", "Where", "Xor",
)  # fmt: skip


def common_dim(sizes: Sequence[Size]) -> Size:
    """Return the length of an axis that operands of these lengths share."""
    wide = [s for s in dict.fromkeys(sizes) if not is_one(s)]
    if len(wide) <= 1:
        return wide[0] if wide else ONE
    # A table cut to a size meets that size: were it shorter, it would not fit, being longer than 1.
    wide = [s for s in wide if not (len(s.symbols) == 1 and s.symbols[0].cut_of in wide)]
    if len(wide) == 1:
        return wide[0]
    fixed = [s for s in wide if s.constant is not None]
    return fixed[0] if fixed else derived("broadcast", sorted(wide, key=str), Kind.SIZE)


def broadcast(step: Step, positions: Sequence[int]) -> Draft:
    """Return the output of an element-by-element operator over these inputs (those given).

    Sound because the batch must meet itself, laid out alike, or an axis of length exactly 1: a
    free operand of any other length there would hold numbers of its own for every row.
    """
    present = [i for i in positions if step.has(i)]
    rank = max(step.rank(i) for i in present)
    lead = next(i for i in present if step.value(i).rows is not None)
    rows = step.rows(lead)
    from_right = step.rank(lead) - rows.axis
    for i in present:
        _check_aligned(step, i, rows, from_right)
    dims = []
    for back in range(rank, 0, -1):
        here = [step.dims(i)[-back] for i in present if step.rank(i) >= back]
        dims.append(rows.size if back == from_right else common_dim(here))
    return Draft(rows.at(rank - from_right), tuple(dims))


def _check_aligned(step: Step, position: int, rows: Rows, from_right: int) -> None:
    value, rank = step.value(position), step.rank(position)
    if value.rows is not None:
        if rank - value.rows.axis != from_right:
            step.refuse(
                "combines two inputs whose batch axes do not meet: one has it "
                f"{from_right}., the other {rank - value.rows.axis}. from the right"
            )
        if not value.rows.alike(rows):
            step.refuse("combines inputs whose rows are laid out differently")
        return
    if rank >= from_right and not is_one(step.dims(position)[-from_right]):
        step.refuse(
            f"combines the batch with an axis of length {step.dims(position)[-from_right]} of an "
            f"input that has no batch (input {position}); it would have to be 1"
        )


@rule(*UNARY)
def unary(step: Step) -> Draft:
    """Every element by itself."""
    return step.keep()


@rule("CastLike", sizes=(1,))
def cast_like(step: Step) -> Draft:
    """The second input gives only its type."""
    return step.keep()


@rule(*VARIADIC)
def variadic(step: Step) -> Draft:
    """Operands are stretched to one shape."""
    draft = broadcast(step, range(len(step.inputs)))
    found = computed_place(step)
    if found is None:
        return draft
    return replace(draft, place=found.place, span=found.span, reach=found.reach)


@rule("Clip")
def clip(step: Step) -> Draft:
    """The bounds are scalars."""
    step.require_free(1, 2)
    return step.keep()


def require_inference(step: Step) -> None:
    """Refuse a Dropout that may be training."""
    training = step.integers(2) if step.has(2) else [0]
    if training is None:
        step.refuse("may drop values at random (its training mode is only computed while it runs)")
    if training != [0]:
        step.refuse(
            "drops values at random: the model was exported in training mode (call eval() on the "
            "network before the export)"
        )


@rule("Dropout")
def dropout(step: Step) -> list[Draft]:
    """Nothing happens outside training."""
    require_inference(step)
    step.require_free(1)
    return [step.keep(), step.keep()]


@rule("Gelu", "QuickGelu", domain=MICROSOFT)
def contributed_unary(step: Step) -> Draft:
    """Every element by itself."""
    return step.keep()


@rule("FastGelu", "BiasGelu", domain=MICROSOFT)
def biased_gelu(step: Step) -> Draft:
    """A bias along the last axis is added first."""
    return broadcast(step, (0, 1))


@rule("QLinearAdd", "QLinearMul", domain=MICROSOFT)
def quantised_pair(step: Step) -> Draft:
    """Two tensors, each with a scale and a zero point, and those of the result."""
    step.require_free(1, 2, 4, 5, 6, 7)
    return broadcast(step, (0, 3))


@rule("QLinearLeakyRelu", "QLinearSigmoid", domain=MICROSOFT)
def quantised_unary(step: Step) -> Draft:
    """A tensor with its scale and zero point, and those of the result."""
    step.require_free(1, 2, 3, 4)
    return step.keep()


@rule("Binarizer", "CategoryMapper", "LabelEncoder", domain=ML)
def mapped(step: Step) -> Draft:
    """Every element is looked up by itself."""
    return step.keep()


@rule("QuantizeLinear", "DequantizeLinear")
def quantise(step: Step) -> Draft:
    """One scale for the tensor, or one for each position of an axis other than the batch."""
    step.require_free(1, 2)
    rows = step.rows(0)
    if step.rank(1) > 1:
        step.refuse("quantises in blocks, which is not followed")
    scalar = step.rank(1) == 0 or is_one(step.dims(1)[0])
    if not scalar and step.axis(step.attribute("axis", 1), step.rank(0)) == rows.axis:
        step.refuse(f"has one scale for each position of axis {rows.axis}, the batch")
    return step.keep()


@rule("DynamicQuantizeLinear")
def dynamic_quantise(step: Step) -> Draft:
    """The scale is taken from the smallest and largest element of all rows together."""
    step.refuse(
        "takes its scale from all rows of the batch together, so that a row's answer depends on "
        "its neighbours"
    )


def require_scalars(step: Step, *positions: int) -> None:
    """Refuse settings that come from the batch or are not one number for all rows."""
    step.require_free(*positions)
    for i in positions:
        if step.has(i) and not all(map(is_one, step.dims(i))):
            step.refuse(f"has a setting for every row or channel (input {i})")
