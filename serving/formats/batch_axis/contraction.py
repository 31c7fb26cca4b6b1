"""Products of matrices: the batch may be any axis that is not summed over."""

from __future__ import annotations

from serving.formats.batch_axis.broadcasting import common_dim, require_scalars
from serving.formats.batch_axis.size import Size
from serving.formats.batch_axis.step import MICROSOFT, Step, is_one, rule
from serving.formats.batch_axis.value import Draft, Rows


@rule("MatMul")
def matmul(step: Step) -> Draft:
    """Numpy's matmul."""
    return multiply(step, 0, 1)


@rule("MatMulInteger")
def matmul_integer(step: Step) -> Draft:
    """Matmul less the zero points, which must be one number each or belong to free columns."""
    require_scalars(step, 2)
    _column_settings(step, 1, (3,))
    return multiply(step, 0, 1)


@rule("QLinearMatMul")
def qlinear_matmul(step: Step) -> Draft:
    """Matmul of quantised tensors: scale and zero point after each of them, then the result's."""
    require_scalars(step, 1, 2, 6, 7)
    _column_settings(step, 3, (4, 5))
    return multiply(step, 0, 3)


@rule("FusedMatMul", domain=MICROSOFT)
def fused_matmul(step: Step) -> Draft:
    """Matmul with either side transposed first."""
    if step.attribute("transBatchA", 0) or step.attribute("transBatchB", 0):
        step.refuse("moves its batch axes about, which is not followed")
    flags = bool(step.attribute("transA", 0)), bool(step.attribute("transB", 0))
    return multiply(step, 0, 1, *flags)


def _column_settings(step: Step, weights: int, positions: tuple[int, ...]) -> None:
    """Allow a number for every column of the right side only if that side is free."""
    if step.value(weights).rows is None:
        step.require_free(*positions)
        for i in positions:
            if step.has(i) and step.rank(i) > 1:
                step.refuse(f"has a setting of rank {step.rank(i)} (input {i})")
    else:
        require_scalars(step, *positions)


def _operand(step: Step, position: int, transposed: bool) -> tuple[list[Size], Rows | None]:
    dims, rows = list(step.dims(position)), step.value(position).rows
    if not dims:
        step.refuse("multiplies a scalar as a matrix")
    if transposed and len(dims) >= 2:
        last = len(dims) - 1
        dims[-1], dims[-2] = dims[-2], dims[-1]
        if rows is not None and rows.axis >= last - 1:
            rows = rows.at(2 * last - 1 - rows.axis)
    return dims, rows


def multiply(
    step: Step, a: int, b: int, transpose_a: bool = False, transpose_b: bool = False
) -> Draft:
    """Return the product of two inputs as matmul has it (leading axes are stretched)."""
    left, left_rows = _operand(step, a, transpose_a)
    right, right_rows = _operand(step, b, transpose_b)
    vector_left, vector_right = len(left) == 1, len(right) == 1
    if left_rows is not None and left_rows.axis == len(left) - 1:
        step.refuse(f"sums over axis {left_rows.axis} of its left side, the batch")
    summed_right = 0 if vector_right else len(right) - 2
    if right_rows is not None and right_rows.axis == summed_right:
        step.refuse(f"sums over axis {summed_right} of its right side, the batch")
    rank = max(len(left), len(right), 2)
    full_left = [] if vector_left else left
    full_right = [] if vector_right else right
    dims = _leading(full_left, full_right, rank)
    rows = _product_rows(step, (left, left_rows), (right, right_rows), rank)
    tail = [] if vector_left else [left[-2]]
    tail += [] if vector_right else [right[-1]]
    axis = rows.axis - 1 if vector_left and rows.axis == rank - 1 else rows.axis
    return Draft(rows.at(axis), (*dims, *tail))


def _leading(left: list[Size], right: list[Size], rank: int) -> list[Size]:
    """Return the stretched leading axes, all but the last two."""
    dims = []
    for back in range(rank, 2, -1):
        here = [side[-back] for side in (left, right) if len(side) >= back]
        # The batch meets only itself or 1 (checked by the caller), so it is the longer one.
        with_batch = [s for s in here if s.has_batch]
        dims.append(with_batch[0] if with_batch else common_dim(here))
    return dims


Side = tuple[list[Size], Rows | None]


def _product_rows(step: Step, left: Side, right: Side, rank: int) -> Rows:
    """Return the rows of the product, its axes counted as if neither side were a vector."""
    places = []
    for (dims, rows), (other, _) in ((left, right), (right, left)):
        if rows is None:
            continue
        from_right = len(dims) - rows.axis
        if from_right > 2 and len(other) >= from_right:
            _check_leading(step, other, from_right, right if dims is left[0] else left, rows)
        places.append(rows.at(rank - from_right))
    if len(places) == 2 and places[0] != places[1]:
        step.refuse("multiplies rows of the batch with one another")
    if len(places) == 2 and places[0].axis >= rank - 2:
        step.refuse("multiplies rows of the batch with one another")
    return places[0]


def _check_leading(step: Step, dims: list[Size], from_right: int, other: Side, rows: Rows) -> None:
    mate = other[1]
    if mate is not None and len(dims) - mate.axis == from_right and mate.alike(rows):
        return
    if not is_one(dims[-from_right]):
        step.refuse(
            f"pairs the batch with an axis of length {dims[-from_right]} of its other side; it "
            "would have to be 1"
        )


@rule("Gemm")
def gemm(step: Step) -> Draft:
    """A product of two matrices plus a stretched third."""
    return _gemm(step)


@rule("FusedGemm", domain=MICROSOFT)
def fused_gemm(step: Step) -> Draft:
    """Gemm with an activation after it."""
    return _gemm(step)


def _gemm(step: Step) -> Draft:
    if step.rank(0) != 2 or step.rank(1) != 2:
        step.refuse("multiplies tensors that are not matrices")
    if step.value(0).rows is None and step.value(1).rows is None:
        step.refuse("adds the batch to a product that has none")
    flags = bool(step.attribute("transA", 0)), bool(step.attribute("transB", 0))
    made = multiply(step, 0, 1, *flags)
    if not step.has(2):
        return made
    bias, rank = step.value(2), step.rank(2)
    from_right = 2 - made.rows.axis
    if bias.rows is not None:
        meets = rank - bias.rows.axis == from_right and bias.rows.alike(made.rows)
        if not meets:
            step.refuse("adds rows of the batch to one another")
    elif rank >= from_right and not is_one(step.dims(2)[-from_right]):
        step.refuse(f"adds a constant of length {step.dims(2)[-from_right]} along the batch")
    return made


@rule("Einsum")
def einsum(step: Step) -> Draft:
    """The batch must have one letter, found in every input that carries it and in the result."""
    terms, result = _equation(step)
    letters = set()
    for i, term in enumerate(terms):
        rows = step.value(i).rows
        if len(term) != step.rank(i):
            step.refuse(f"has an equation that does not fit the rank of input {i}")
        if rows is not None:
            letters.add(term[rows.axis])
    if len(letters) > 1:
        step.refuse("multiplies rows of the batch with one another (two letters for the batch)")
    letter = letters.pop()
    first = next(v.rows for v in step.given() if v.rows is not None)
    for i, term in enumerate(terms):
        rows = step.value(i).rows
        if rows is None and letter in term:
            step.refuse(f"pairs the batch ('{letter}') with an axis of an input that has none")
        if rows is not None and (term.count(letter) > 1 or not rows.alike(first)):
            step.refuse("takes a diagonal of the batch, or rows laid out differently")
    if letter not in result:
        step.refuse(f"sums over '{letter}', the batch")
    lengths: dict[str, Size] = {}
    for i, term in enumerate(terms):
        for name, dim in zip(term, step.dims(i), strict=True):
            lengths[name] = common_dim([lengths[name], dim]) if name in lengths else dim
    dims = tuple(first.size if name == letter else lengths[name] for name in result)
    return Draft(first.at(result.index(letter)), dims)


def _equation(step: Step) -> tuple[list[str], str]:
    text = step.attribute("equation", "").replace(" ", "")
    if "." in text:
        step.refuse("has an equation with an ellipsis, which is not followed")
    left, arrow, result = text.partition("->")
    terms = left.split(",")
    if not arrow:
        result = "".join(sorted(c for c in set(left) - {","} if left.count(c) == 1))
    if (
        len(terms) != len(step.inputs)
        or not set(result) <= set(left)
        or len(set(result)) != len(result)
    ):
        step.refuse(f"has an equation that does not fit its inputs: {text!r}")
    return terms, result
