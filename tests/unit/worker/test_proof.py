"""A batch axis is confirmed only if real runs agree row by row, and the reason says what did not.

The double is a numpy function, so each test shows one way in which rows can touch each other.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

from serving.backends.base import BackendError, MemoryExhausted
from serving.tensor import (
    BF16,
    BOOL,
    BYTES,
    FP16,
    FP32,
    FP64,
    INT32,
    INT64,
    Array,
    BatchAxes,
    Dim,
    DType,
    Signature,
    TensorSpec,
    bf16_to_float32,
    float32_to_bf16,
)
from serving.worker import proof, samples
from serving.worker.proof import TOLERANCES, prove
from serving.worker.samples import Samples
from tests.doubles.model import Function, FunctionModel

CONTRADICTED = "trial runs contradict the batch axis: "


def run_proof(
    function: Function,
    dtype: DType = FP32,
    shape: tuple[Dim, ...] = ("batch", 3),
    axis: int = 0,
    most: int = 8,
    output: DType | None = None,
) -> tuple[BatchAxes, str, FunctionModel]:
    """Prove axis ``axis`` of a model with one input and one output; also return the model."""
    spec = TensorSpec("x", dtype, shape)
    model = FunctionModel(Signature((spec,), (TensorSpec("y", output or dtype, shape),)), function)
    claim = BatchAxes(True, "claimed", (axis,), (axis,))
    result, note = prove(model, claim, Samples(model.signature, claim), most)
    assert claim == BatchAxes(True, "claimed", (axis,), (axis,))
    return result, note, model


def refusal(*args: object, **kwargs: object) -> str:
    """Return why the axis was refused."""
    result, _, _ = run_proof(*args, **kwargs)  # type: ignore[arg-type]
    assert not result.batched
    assert result.inputs == result.outputs == ()
    return result.reason


@pytest.mark.parametrize("dtype", [FP16, FP32, FP64, BF16, INT32, BOOL, BYTES], ids=repr)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_proof_confirms_rows_that_do_not_touch(dtype: DType, axis: int) -> None:
    shape: list[Dim] = [3, "width"]
    shape.insert(axis, "batch")
    claim, note, model = run_proof(lambda x: x.copy(), dtype, tuple(shape), axis)
    assert claim == BatchAxes(True, "claimed", (axis,), (axis,))
    assert note == ""
    # One row, and four together at least twice: the same rows, and beside other rows.
    sizes = [shapes[0][axis] for shapes in model.runs]
    assert set(sizes) == {1, 4}
    assert sizes.count(4) == 2


def test_proof_runs_each_row_alone_together_and_beside_other_rows() -> None:
    seen: list[Array] = []

    def keep(x: Array) -> Array:
        seen.append(x.copy())
        return x

    run_proof(keep)
    alone = [x[0].tobytes() for x in seen if len(x) == 1]
    together, beside = [[row.tobytes() for row in x] for x in seen if len(x) == 4]
    assert len(set(together)) == 4
    assert set(together) <= set(alone)
    stayed = [a == b for a, b in zip(together, beside, strict=True)]
    # Some rows keep their place, all others are replaced by rows that were not there before.
    assert any(stayed)
    assert not all(stayed)
    assert not {b for b, same in zip(beside, stayed, strict=True) if not same} & set(together)


MIXERS: dict[str, Function] = {
    "the sum of all rows": lambda x: x + x.sum(axis=0, keepdims=True),
    "the row before": lambda x: x + np.concatenate([x[:1] * 0, x[:-1]]),
    "the first row": lambda x: x - x[:1],
    "another order": lambda x: x[::-1],
    "the place": lambda x: x + np.arange(len(x)).reshape(-1, *[1] * (x.ndim - 1)).astype(x.dtype),
    "the number of rows": lambda x: x * len(x),
    "a softmax over the rows": lambda x: np.exp(x) / np.exp(x).sum(axis=0),
}


@pytest.mark.parametrize("mixer", MIXERS.values(), ids=MIXERS)
def test_proof_refuses_rows_that_see_each_other(mixer: Function) -> None:
    reason = refusal(mixer)
    assert reason.startswith(CONTRADICTED + "row ")
    assert " of 4 differs from itself alone: output 'y' by up to " in reason


@pytest.mark.parametrize("name", [n for n in MIXERS if "softmax" not in n])
def test_proof_refuses_numbers_that_see_each_other(name: str) -> None:
    """Made-up numbers are only 0 and 1; they must tell mixing apart all the same."""
    assert refusal(MIXERS[name], INT64, ("batch",)).startswith(CONTRADICTED)


def test_proof_refuses_rows_that_meet_on_another_axis() -> None:
    assert "differs" in refusal(lambda x: x + x.sum(axis=1, keepdims=True), FP32, (3, "b"), 1)


def test_proof_refuses_a_flag_that_any_row_may_raise() -> None:
    reason = refusal(lambda x: x | x.any(axis=0, keepdims=True), BOOL)
    assert reason.endswith("output 'y' by up to 1")


def test_proof_refuses_strings_that_see_each_other() -> None:
    reason = refusal(lambda x: np.broadcast_to(x[:1], x.shape), BYTES, ("batch",))
    assert reason == CONTRADICTED + (
        "row 1 of 4 differs from itself alone: output 'y' holds other strings"
    )


def test_proof_names_the_gap_of_large_integers_exactly() -> None:
    """As floats 2**60 and 2**60 + 1 are equal."""
    reason = refusal(lambda x: x * 0 + 2**60 + len(x), INT64, ("batch",))
    assert reason.endswith("output 'y' by up to 3")


# -- shapes of outputs -------------------------------------------------------------------------


def test_proof_refuses_outputs_without_a_row_for_each_row() -> None:
    reason = refusal(lambda x: x.sum(axis=0, keepdims=True))
    assert reason == CONTRADICTED + (
        "rows that run alone fail together: output 'y' has shape [1, 3] for 4 rows"
    )


@pytest.mark.parametrize("shape", [(), (3,)], ids=str)
def test_proof_refuses_outputs_without_the_axis(shape: tuple[int, ...]) -> None:
    assert f"output 'y' has shape {list(shape)} for 1 rows" in refusal(
        lambda x: np.zeros(shape, np.float32)
    )


def test_proof_refuses_rows_whose_shape_depends_on_their_company() -> None:
    reason = refusal(lambda x: np.repeat(x, len(x), axis=1))
    assert reason == CONTRADICTED + (
        "row 0 of 4 differs from itself alone: output 'y' is [3] alone and [12] together"
    )


def test_proof_takes_rows_without_elements() -> None:
    claim, _, _ = run_proof(lambda x: x, FP32, ("batch", 0))
    assert claim.batched


# -- what is not a number ------------------------------------------------------------------------


def test_proof_takes_nan_and_infinity_in_the_same_places_for_equal() -> None:
    def fill(x: Array) -> Array:
        y = x.copy()
        y[:, 0], y[:, 1] = np.nan, -np.inf
        return y

    claim, _, _ = run_proof(fill)
    assert claim.batched


@pytest.mark.parametrize("dtype", [FP16, FP32, FP64], ids=repr)
def test_proof_refuses_nan_that_only_company_brings(dtype: DType) -> None:
    reason = refusal(lambda x: x if len(x) == 1 else x * np.nan, dtype)
    assert reason.endswith(
        "row 0 of 4 differs from itself alone: output 'y' is NaN in other places"
    )


def test_proof_refuses_nan_of_bfloat16_that_only_company_brings() -> None:
    nan = np.uint16(0x7FC0)
    reason = refusal(lambda x: x if len(x) == 1 else np.full_like(x, nan), BF16)
    assert reason.endswith("output 'y' is NaN in other places")


def test_proof_refuses_infinity_of_the_other_sign() -> None:
    reason = refusal(lambda x: x * 0 + np.float32(np.inf if len(x) == 1 else -np.inf))
    assert reason.endswith("output 'y' by up to inf")


# -- tolerance -------------------------------------------------------------------------------------

ROUNDING = {dtype.name: (dtype, *TOLERANCES[dtype.name]) for dtype in (FP16, FP32, FP64, BF16)}


def scaled(dtype: DType, by: float) -> Function:
    """Return what multiplies its rows by ``1 + by`` as soon as there are two."""

    def function(x: Array) -> Array:
        if dtype is BF16:
            # Powers of two: adding to the last place is then a known share of the number.
            ones = np.ones(x.shape, np.float32)
            return float32_to_bf16(ones if len(x) == 1 else ones * np.float32(1 + by))
        ones = np.ones(x.shape, x.dtype)
        return ones if len(x) == 1 else (ones * (1 + by)).astype(x.dtype)

    return function


@pytest.mark.parametrize(("dtype", "relative", "absolute"), ROUNDING.values(), ids=ROUNDING)
def test_proof_allows_the_rounding_of_the_dtype_and_no_more(
    dtype: DType, relative: float, absolute: float
) -> None:
    claim, _, _ = run_proof(scaled(dtype, relative * 0.8), dtype)
    assert claim.batched
    assert "by up to" in refusal(scaled(dtype, (relative + absolute) * 1.5), dtype)


def test_proof_allows_integers_no_difference() -> None:
    assert refusal(lambda x: x + (len(x) > 1), INT32).endswith("by up to 1")


@pytest.mark.parametrize(
    ("alone", "together", "same"),
    [(1.0, 2.0, False), (0.0, -0.0, True), (1.0, 1.0078125, True)],
    ids=["patterns 1 % apart", "patterns far apart", "the next number"],
)
def test_proof_compares_bfloat16_as_the_numbers_that_it_means(
    alone: float, together: float, same: bool
) -> None:
    one, four = float32_to_bf16(np.array([alone, together], np.float32))
    assert bf16_to_float32(np.array([one, four])).tolist() == [alone, together]
    claim, _, _ = run_proof(lambda x: np.full_like(x, one if len(x) == 1 else four), BF16)
    assert claim.batched is same


# -- models that refuse --------------------------------------------------------------------------


def test_proof_refuses_what_only_runs_alone() -> None:
    def alone(x: Array) -> Array:
        if len(x) > 1:
            raise BackendError("a batch of 1 is burnt into a Reshape")
        return x

    assert refusal(alone) == CONTRADICTED + (
        "rows that run alone fail together: a batch of 1 is burnt into a Reshape"
    )


def test_proof_without_any_run_leaves_the_axis_unproved() -> None:
    def picky(x: Array) -> Array:
        raise BackendError("made-up numbers are not for me")

    claim, note, _ = run_proof(picky)
    assert claim == BatchAxes.refused(note)
    assert note == (
        "no run could confirm the batch axis: made-up inputs were refused: "
        "made-up numbers are not for me"
    )


def test_proof_whose_rows_together_are_too_large_to_try_leaves_the_axis_unproved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One row runs: the model serves, unbatched."""
    monkeypatch.setattr(samples, "_MAX_ELEMENTS", 5)
    claim, note, model = run_proof(lambda x: x)
    assert claim == BatchAxes.refused(note)
    assert note == "no run could confirm the batch axis: made-up inputs would be too large"
    assert {shapes[0] for shapes in model.runs} == {(1, 3)}


def test_proof_that_finds_no_memory_for_a_single_row_lets_the_load_fail() -> None:
    def greedy(x: Array) -> Array:
        raise MemoryExhausted("3 GiB for a buffer")

    with pytest.raises(MemoryExhausted, match="3 GiB for a buffer"):
        run_proof(greedy)


# -- what is not tried -----------------------------------------------------------------------------


def test_proof_of_a_model_without_a_claim_only_warms_it() -> None:
    spec = TensorSpec("x", FP32, (2, "width"))
    model = FunctionModel(Signature((spec,), (spec,)), lambda x: x)
    claim = BatchAxes.refused("no axis")
    assert prove(model, claim, Samples(model.signature, claim), 8) == (claim, "")
    assert [shapes[0][0] for shapes in model.runs] == [2]


def test_proof_of_a_model_that_never_gets_two_rows_needs_no_second() -> None:
    claim, _, model = run_proof(lambda x: x * len(x), most=1)
    assert claim.batched
    assert {shapes[0][0] for shapes in model.runs} == {1}


def test_proof_of_a_frozen_batch_size_always_runs_full_batches() -> None:
    claim, _, model = run_proof(lambda x: x, FP32, (4, 3))
    assert claim.batched
    assert {shapes[0][0] for shapes in model.runs} == {4}


def test_proof_of_a_frozen_batch_size_sees_rows_that_touch() -> None:
    assert "of 4 differs" in refusal(MIXERS["the sum of all rows"], FP32, (4, 3))


def test_proof_tries_only_two_rows_of_a_slow_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "_SLOW_RUN_S", 0.001)

    def slow(x: Array) -> Array:
        time.sleep(0.005)
        return x

    claim, _, model = run_proof(slow)
    assert claim.batched
    assert {shapes[0][0] for shapes in model.runs} == {1, 2}


@pytest.mark.parametrize(
    ("off", "told"), [(1e-7, "by up to"), (np.nan, "is NaN in other places"), (-0.0, "by up to 0")]
)
def test_proof_of_an_exact_claim_allows_no_bit_to_differ(off: float, told: str) -> None:
    def sums(x: Array) -> Array:
        y = np.zeros_like(x) + np.float32(1 if off else 0)
        if len(x) > 8:  # as an engine that takes another way for many rows
            y[7, 0] = off if off != off or not off else np.float32(1 + off)
        return y

    claim, _ = proved(sums, exact=True)
    assert not claim.batched
    assert told in claim.reason
    assert proved(sums, exact=False)[0].batched


def test_proof_of_an_exact_claim_runs_as_many_rows_as_a_run_may_have() -> None:
    claim, model = proved(lambda x: x.copy(), exact=True)
    assert claim.batched
    assert {shapes[0][0] for shapes in model.runs} == {1, 16}


def test_proof_of_an_exact_claim_is_not_tried_on_a_slow_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proof, "_SLOW_RUN_S", 0.0)
    assert "takes too long to try" in proved(lambda x: x.copy(), exact=True)[0].reason


def proved(function: Function, *, exact: bool) -> tuple[BatchAxes, FunctionModel]:
    specs = (TensorSpec("x", FP32, ("batch", 3)),), (TensorSpec("y", FP32, ("batch", 3)),)
    model = FunctionModel(Signature(*specs), function)
    claim = BatchAxes(True, "claimed", (0,), (0,), exact=exact)
    result, _ = prove(model, claim, Samples(model.signature, claim), 16)
    return result, model
