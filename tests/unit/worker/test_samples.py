"""Made-up inputs fit the signature, are harmless, and are the same rows every time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.backends.base import BackendError, MemoryExhausted
from serving.tensor import (
    BF16,
    BYTES,
    DTYPES,
    FP32,
    INT64,
    Array,
    BatchAxes,
    Dim,
    DType,
    Signature,
    Tensor,
    TensorSpec,
    bf16_to_float32,
)
from serving.worker.samples import Samples
from tests.doubles.model import FunctionModel, array_of

ALONE = BatchAxes.refused("test")


def batched(*axes: int | None) -> BatchAxes:
    return BatchAxes(True, "test", axes, (0,))


def model_of(spec: TensorSpec, function: object = None) -> FunctionModel:
    return FunctionModel(
        Signature((spec,), (spec,)),
        function or (lambda x: x),  # type: ignore[arg-type]
    )


dims: st.SearchStrategy[Dim] = st.integers(0, 4) | st.sampled_from(["n", "", "?"])


@settings(deadline=None)
@given(
    st.sampled_from(DTYPES),
    st.lists(dims, max_size=3),
    st.integers(0, 3),
    st.lists(st.integers(0, 7), min_size=1, max_size=4),
    st.integers(1, 8),
)
def test_samples_fit_any_signature_and_each_row_is_its_own(
    dtype: DType, shape: list[Dim], axis: int, numbers: list[int], size: int
) -> None:
    axis = min(axis, len(shape))
    shape.insert(axis, "batch")
    spec = TensorSpec("x", dtype, tuple(shape))
    samples = Samples(Signature((spec,), ()), batched(axis))
    (together,) = samples.rows(numbers, size)
    wanted = [size if isinstance(d, str) else d for d in shape]
    wanted[axis] = len(numbers)
    assert (together.name, together.dtype, together.shape) == ("x", dtype, tuple(wanted))
    grid = array_of(together)
    for place, number in enumerate(numbers):
        (alone,) = samples.rows([number], size)
        assert np.array_equal(np.take(grid, [place], axis=axis), array_of(alone))
    if together.array is not None:
        assert together.array.flags.c_contiguous
        assert together.array.dtype == dtype.numpy
    else:
        assert all(type(item) is bytes for item in together.items or ())


@pytest.mark.parametrize("dtype", DTYPES, ids=repr)
def test_samples_are_harmless_and_not_all_alike(dtype: DType) -> None:
    spec = TensorSpec("x", dtype, ("batch", 16))
    (tensor,) = Samples(Signature((spec,), ()), batched(0)).rows(range(4), 1)
    if tensor.items is not None:
        assert {len(item) for item in tensor.items} == {1}
        values = np.array([int.from_bytes(item) for item in tensor.items])
    else:
        assert tensor.array is not None
        array = bf16_to_float32(tensor.array) if dtype is BF16 else tensor.array
        values = array.astype(float)
        assert np.abs(values).max() <= 1
        if dtype.numpy is not None and dtype.numpy.kind in "iub" and dtype is not BF16:
            assert set(values.ravel()) == {0, 1}  # an index into a table of two rows
    assert len({row.tobytes() for row in values.reshape(4, 16)}) == 4


def test_samples_of_a_frozen_batch_size_repeat_the_first_row() -> None:
    spec = TensorSpec("x", FP32, (4, 3))
    samples = Samples(Signature((spec,), ()), batched(0))
    (tensor,) = samples.rows([5, 2], 1)
    grid = array_of(tensor)
    assert grid.shape == (4, 3)
    assert np.array_equal(grid[2:], [grid[0], grid[0]])
    assert not np.array_equal(grid[0], grid[1])


def test_samples_give_shared_inputs_once_whatever_the_rows() -> None:
    signature = Signature((TensorSpec("x", FP32, ("b", 2)), TensorSpec("scale", FP32, ())), ())
    samples = Samples(signature, batched(0, None))
    (_, one), (rows, other) = samples.rows([0], 1), samples.rows([1, 2, 3], 1)
    assert rows.shape == (3, 2)
    assert one.shape == other.shape == ()
    assert array_of(one) == array_of(other)


def test_samples_of_an_unbatched_model_keep_its_first_axis() -> None:
    (tensor,) = Samples(Signature((TensorSpec("x", INT64, ("batch", "n", 2)),), ()), ALONE).rows(
        [0], 8
    )
    assert tensor.shape == (8, 8, 2)


def test_samples_of_unknown_rank_are_vectors() -> None:
    (tensor,) = Samples(Signature((TensorSpec("x", FP32, None),), ()), ALONE).rows([0], 8)
    assert tensor.shape == (1,)


@pytest.mark.parametrize("axis", [0, 1, 3])
def test_samples_of_unknown_rank_have_the_axis_that_was_asserted(axis: int) -> None:
    samples = Samples(Signature((TensorSpec("x", FP32, None),), ()), batched(axis))
    (tensor,) = samples.rows([0, 1], 8)
    assert tensor.shape[axis] == 2
    assert array_of(tensor).size == 2


# -- which size fits ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 1, 16, 32, 256])
def test_samples_find_the_size_that_a_model_accepts(size: int) -> None:
    def picky(x: Array) -> Array:
        if x.shape[1] != size:
            raise BackendError(f"width {x.shape[1]} is not {size}")
        return x

    model = model_of(TensorSpec("x", FP32, ("batch", "width")), picky)
    samples = Samples(model.signature, batched(0))
    assert samples.fitting_size(model) == (size, "")
    assert samples.warm(model) == ""


def test_samples_tell_the_last_refusal_when_no_size_fits() -> None:
    def picky(x: Array) -> Array:
        raise BackendError(f"no width {x.shape[1]}")

    model = model_of(TensorSpec("x", FP32, ("batch", "width")), picky)
    samples = Samples(model.signature, batched(0))
    assert samples.fitting_size(model) == (0, "no width 256")
    assert samples.warm(model) == "not warmed: the model refused made-up inputs: no width 256"


def test_samples_try_once_where_nothing_varies() -> None:
    def picky(x: Array) -> Array:
        raise BackendError("never")

    model = model_of(TensorSpec("x", FP32, ("batch", 3)), picky)
    assert Samples(model.signature, batched(0)).fitting_size(model) == (0, "never")
    assert model.runs == [((1, 3),)]


def test_samples_pass_over_sizes_that_are_too_large() -> None:
    """Eight to the ninth elements are more than anybody should make up; one is not."""
    model = model_of(TensorSpec("x", FP32, ("a", *"bcdefghi")))
    assert Samples(model.signature, ALONE).fitting_size(model) == (1, "")


def test_samples_do_not_try_the_large_size_on_a_volume() -> None:
    """256 cubed would be 64 MiB of input and perhaps minutes of a run."""

    def picky(x: Array) -> Array:
        raise BackendError("never")

    model = model_of(TensorSpec("x", FP32, ("batch", "depth", "height", "width")), picky)
    assert Samples(model.signature, batched(0)).fitting_size(model) == (0, "never")
    assert [shape for (shape,) in model.runs] == [(1, n, n, n) for n in (8, 1, 16, 32)]


def test_samples_that_only_lack_memory_let_the_load_fail() -> None:
    """A trial has a limit on its memory and a worker has none."""

    def greedy(x: Array) -> Array:
        if x.shape[1] == 8:
            raise MemoryExhausted("9 GiB")
        raise BackendError("no such width")

    model = model_of(TensorSpec("x", FP32, ("batch", "width")), greedy)
    with pytest.raises(MemoryExhausted, match="a sample run needs more memory .*9 GiB"):
        Samples(model.signature, batched(0)).fitting_size(model)


def test_samples_that_fit_at_another_size_forgive_a_lack_of_memory() -> None:
    def greedy(x: Array) -> Array:
        if x.shape[1] > 1:
            raise MemoryExhausted("9 GiB")
        return x

    model = model_of(TensorSpec("x", FP32, ("batch", "width")), greedy)
    assert Samples(model.signature, batched(0)).fitting_size(model) == (1, "")


def test_samples_of_strings_stand_on_the_axis_that_counts_rows() -> None:
    spec = TensorSpec("x", BYTES, (2, "batch"))
    samples = Samples(Signature((spec,), ()), batched(1))
    (together,) = samples.rows([0, 1, 2], 1)
    columns = [list(samples.rows([n], 1)[0].items or ()) for n in range(3)]
    assert list(together.items or ()) == [c[0] for c in columns] + [c[1] for c in columns]
    assert isinstance(together, Tensor)
