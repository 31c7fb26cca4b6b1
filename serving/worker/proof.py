"""The second half of the proof of a batch axis: real runs must agree row by row.

The axis walk claims that rows do not touch each other. Here the same rows are run alone,
together, and beside other rows; each row's outputs must be the same, within the dtype's tolerance
(engines may sum in another order for another batch size), or bit for bit where that is claimed.
"""

from __future__ import annotations

import json
import time
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from serving.backends.base import BackendError, DeviceLost, Model
from serving.tensor import (
    BF16,
    Array,
    BatchAxes,
    Signature,
    Tensor,
    bf16_to_float32,
    element_count,
)
from serving.worker.samples import Samples

TOLERANCES: Dict[str, Tuple[float, float]] = {
    "FP16": (2e-2, 2e-3),
    "BF16": (5e-2, 1e-2),
    "FP32": (1e-4, 1e-5),
    "FP64": (1e-7, 1e-10),
}
"""Relative and absolute difference that a change of batch size may make; others: none."""

_SLOW_RUN_S = 0.25
_MOST = 4
_MOST_EXACT = 32
"""Rows that are run together. An engine that takes numbers by eights, and what is left over one by
one, may differ in the last bit, and only of some numbers: more rows are more of a proof.
"""


def prove(
    model: Model, claim: BatchAxes, samples: Samples, max_batch_size: int
) -> Tuple[BatchAxes, str]:
    """Return the claim as the runs left it, and a note for the log if no run was possible."""
    size, refusal = samples.fitting_size(model)
    if not claim.batched:
        return claim, "" if size else f"not warmed: the model refused made-up inputs: {refusal}"
    if not size:
        reason = f"no run could confirm the batch axis: made-up inputs were refused: {refusal}"
        return BatchAxes.refused(reason), reason
    most = min(samples.most(max_batch_size), _MOST_EXACT if claim.exact else _MOST)
    if most < 2:
        return claim, ""
    try:
        began = time.monotonic()
        _run(model, claim, samples, [0], size)
        if time.monotonic() - began > _SLOW_RUN_S:
            if claim.exact:
                return BatchAxes.refused(f"{claim.reason}; but a run takes too long to try"), ""
            most = 2  # a slow model would be minutes at this; two rows still tell mixing apart
        disagreement = _disagreement(model, claim, samples, size, most)
    except DeviceLost:
        raise
    except BackendError as error:
        disagreement = f"rows that run alone fail together: {error}"
    except MemoryError as error:
        reason = f"no run could confirm the batch axis: {str(error) or 'not enough memory'}"
        return BatchAxes.refused(reason), reason
    if disagreement:
        return BatchAxes.refused(f"trial runs contradict the batch axis: {disagreement}"), ""
    return claim, ""


def _disagreement(model: Model, claim: BatchAxes, samples: Samples, size: int, most: int) -> str:
    alone = {n: _run(model, claim, samples, [n], size)[0] for n in range(most)}
    exchanged = [most + n if n % 2 else n for n in range(most)]
    for numbers in (list(range(most)), exchanged):
        together = _run(model, claim, samples, numbers, size)
        for place, number in enumerate(numbers):
            if number in alone:
                difference = _differs(
                    model.signature, alone[number], together[place], exact=claim.exact
                )
                if difference:
                    return f"row {place} of {len(numbers)} differs from itself alone: {difference}"
    return ""


def _run(
    model: Model, claim: BatchAxes, samples: Samples, numbers: Sequence[int], size: int
) -> List[List[Tensor]]:
    """Run rows together and return each row's outputs."""
    outputs = model.bind(samples.rows(numbers, size), None).run()
    assert outputs is not None
    rows: List[List[Tensor]] = [[] for _ in numbers]
    count = samples.filled(len(numbers))
    for tensor, axis in zip(outputs, claim.outputs):
        for row, piece in zip(rows, _cut(tensor, axis, count)):
            row.append(piece)
    return rows


def _cut(tensor: Tensor, axis: Optional[int], count: int) -> List[Tensor]:
    if axis is None or len(tensor.shape) <= axis or tensor.shape[axis] != count:
        raise BackendError(
            f"output {tensor.name!r} has shape {list(tensor.shape)} for {count} rows"
        )
    shape = tensor.shape[:axis] + tensor.shape[axis + 1 :]
    if tensor.items is not None:
        grid = np.array(tensor.items, dtype=object).reshape(tensor.shape)
        rows = np.moveaxis(grid, axis, 0).reshape(count, element_count(shape))
        return [Tensor(tensor.name, tensor.dtype, shape, items=row.tolist()) for row in rows]
    assert tensor.array is not None
    return [
        Tensor(tensor.name, tensor.dtype, shape, np.array(np.take(tensor.array, i, axis=axis)))
        for i in range(count)
    ]


def _differs(
    signature: Signature, one: Sequence[Tensor], other: Sequence[Tensor], *, exact: bool
) -> str:
    for spec, a, b in zip(signature.outputs, one, other):
        if a.shape != b.shape:
            return f"output {a.name!r} is {list(a.shape)} alone and {list(b.shape)} together"
        if a.items is not None:
            agree = _documents_agree if spec.json and not exact else _same
            if not all(agree(x, y) for x, y in zip(a.items, b.items or ())):
                return f"output {a.name!r} holds other {'values' if spec.json else 'strings'}"
            continue
        if not (_equal(a, b) if exact else _close(a, _numbers(a), _numbers(b))):
            return f"output {a.name!r} {_gap(_numbers(a), _numbers(b))}"
    return ""


def _same(a: bytes, b: bytes) -> bool:
    return a == b


def _equal(a: Tensor, b: Tensor) -> bool:
    """Compare bits: -0.0 is another number than 0.0, and NaN is itself."""
    assert a.array is not None
    assert b.array is not None
    return a.array.tobytes() == b.array.tobytes()


def _documents_agree(a: bytes, b: bytes) -> bool:
    """Compare a sequence's or map's documents; their numbers within FP32's tolerance."""
    return _agree(json.loads(a), json.loads(b))


def _agree(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(_agree(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_agree(x, y) for x, y in zip(a, b))
    if isinstance(a, float) and isinstance(b, float):
        relative, absolute = TOLERANCES["FP32"]
        return abs(a - b) <= absolute + relative * abs(b)
    return bool(a == b)


def _gap(a: Array, b: Array) -> str:
    """Say how far apart two arrays are that are not close; exact for integers of any size."""
    pairs = [(x, y) for x, y in zip(a.ravel().tolist(), b.ravel().tolist()) if x != y]
    if any((x == x) != (y == y) for x, y in pairs):
        return "is NaN in other places"
    worst = max((abs(x - y) for x, y in pairs if x == x), default=0.0)
    return f"by up to {worst:.3g}"


def _numbers(tensor: Tensor) -> Array:
    assert tensor.array is not None
    return bf16_to_float32(tensor.array) if tensor.dtype is BF16 else tensor.array


def _close(tensor: Tensor, a: Array, b: Array) -> bool:
    tolerance = TOLERANCES.get(tensor.dtype.name)
    if tolerance is None:
        return bool(np.array_equal(a, b))
    relative, absolute = tolerance
    return bool(np.allclose(a, b, rtol=relative, atol=absolute, equal_nan=True))
