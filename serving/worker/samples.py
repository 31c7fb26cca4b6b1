"""Inputs to warm a model with and to try its batch axis on: given ones, or made up.

Rows that somebody put beside the model come first, for some models refuse all others, or are at
odds with themselves on them. More rows than were given are turns of these along their last axis.
Values that are made up from the signature are small and harmless: indices stay 0 or 1 (an
embedding has at least two rows nearly always), floats lie in (-1, 1), strings are short. Sizes that
vary are tried small. A model that refuses every one of them can still serve; its batch axis then
stays unproved.
"""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

import numpy as np

from serving.backends.base import BackendError, DeviceLost, MemoryExhausted, Model
from serving.gears import most_rows, next_gear
from serving.tensor import (
    BF16,
    BOOL,
    Array,
    BatchAxes,
    Dim,
    Signature,
    Tensor,
    TensorSpec,
    element_count,
    fixed_batch,
    float32_to_bf16,
)
from serving.worker.sample_file import Row

_SIZES = (8, 1, 16, 32)
"""What sizes that vary are set to, in this order, until the model accepts one."""

_LARGE_SIZE, _LARGE_ELEMENTS = 256, 1 << 20
"""Tried last, where no tensor gets more elements: models of sound take no less than some 200."""

_MAX_ELEMENTS = 1 << 26

AS_GIVEN = -1
"""In place of a size: the rows that were given."""

_ROWS_TRIED = 8


class Samples:
    """Makes rows for one model; the same number gives the same row.

    ``given`` are rows as ``sample_file`` reads them; those of other shapes than the first are
    left out. ``gears`` are the numbers of rows that the model takes, None for any.
    """

    def __init__(
        self,
        signature: Signature,
        claim: BatchAxes,
        given: Sequence[Row] = (),
        gears: Optional[Sequence[int]] = None,
    ) -> None:
        self.signature = signature
        self.gears = gears
        self.batched = claim.batched
        self.axes: Tuple[Optional[int], ...] = (
            claim.inputs if claim.batched else (None,) * len(signature.inputs)
        )
        self.fixed = fixed_batch(signature, claim)
        self._given = [row for row in given if _shapes(row) == _shapes(given[0])]
        if claim.batched and not self._differ():
            self._given = []  # rows that are all alike cannot show whether they touch

    def rows(self, numbers: Sequence[int], size: int) -> List[Tensor]:
        """Return inputs that hold the rows ``numbers``, varying sizes set to ``size``.

        A model that takes certain numbers of rows gets its missing rows as copies of the first.
        """
        missing = self.filled(len(numbers)) - len(numbers)
        numbers = [*numbers, *[numbers[0]] * max(0, missing)]
        if size == AS_GIVEN:
            return self.together([self._turned(number) for number in numbers])
        return [
            _tensor(spec, axis, numbers, size)
            for spec, axis in zip(self.signature.inputs, self.axes)
        ]

    def filled(self, rows: int) -> int:
        """Return how many rows a run of ``rows`` has."""
        return self.fixed or (next_gear(self.gears, rows) if self.batched else rows)

    def most(self, limit: int) -> int:
        """Return how many rows may run together, at most ``limit`` where the model leaves it."""
        return self.fixed or most_rows(self.gears, limit)

    def fitting_size(self, model: Model) -> Tuple[int, str]:
        """Return a size that the model accepts, or 0 and the engine's last refusal.

        Raises MemoryExhausted when none fits and memory was why: a trial under a limit must
        not let a model through to workers that have none.
        """
        return self._fitting(model, self._sizes())

    def made_up_size(self, model: Model) -> int:
        """Return a size with which the model accepts made-up inputs, or 0."""
        return self._fitting(model, self._made_up_sizes())[0]

    def _fitting(self, model: Model, sizes: Sequence[int]) -> Tuple[int, str]:
        refusal = ""
        exhausted: Optional[MemoryExhausted] = None
        for size in sizes:
            try:
                model.bind(self.rows([0], size), None).run()
            except DeviceLost:
                raise
            except MemoryExhausted as error:
                exhausted = error
            except BackendError as error:
                refusal = str(error)
            except MemoryError:
                refusal = "not enough memory for a sample run"
            else:
                return size, ""
        if exhausted is not None:
            raise MemoryExhausted(f"a sample run needs more memory than there is: {exhausted}")
        return 0, refusal

    def warm(self, model: Model) -> str:
        """Run one sample so that the first request finds the engine warm; say if it failed."""
        size, refusal = self.fitting_size(model)
        return "" if size else f"not warmed: the model refused made-up inputs: {refusal}"

    def together(self, rows: Sequence[Row]) -> List[Tensor]:
        """Return inputs that hold these rows, which have one look."""
        return [
            rows[0][i] if axis is None else stacked(spec, axis, [row[i] for row in rows])
            for i, (spec, axis) in enumerate(zip(self.signature.inputs, self.axes))
        ]

    def _turned(self, number: int) -> Row:
        """Return a given row, turned by so many steps as it has been used before."""
        row, steps = self._given[number % len(self._given)], number // len(self._given)
        if not steps:
            return row
        return [
            t if axis is None or not t.shape else _rolled(t, steps)
            for t, axis in zip(row, self.axes)
        ]

    def _differ(self) -> bool:
        rows = [self._turned(n) for n in range(_ROWS_TRIED)] if self._given else []
        return any(not _same(row, rows[0]) for row in rows[1:])

    def _sizes(self) -> Tuple[int, ...]:
        return (AS_GIVEN, *self._made_up_sizes()) if self._given else self._made_up_sizes()

    def _made_up_sizes(self) -> Tuple[int, ...]:
        if not self._varies():
            return _SIZES[:1]
        shapes = [
            row_shape(spec, axis, _LARGE_SIZE)
            for spec, axis in zip(self.signature.inputs, self.axes)
        ]
        small = all(element_count(shape) <= _LARGE_ELEMENTS for shape in shapes)
        return (*_SIZES, _LARGE_SIZE) if small else _SIZES

    def _varies(self) -> bool:
        for spec, axis in zip(self.signature.inputs, self.axes):
            dims = spec.shape if spec.shape is not None else ("",)
            if any(isinstance(d, str) or d < 0 for i, d in enumerate(dims) if i != axis):
                return True
        return False


def stacked(spec: TensorSpec, axis: int, rows: Sequence[Tensor]) -> Tensor:
    """Return rows as one tensor, counted by ``axis``."""
    grid = np.stack([_elements(row) for row in rows], axis=axis)
    if spec.dtype.is_bytes:
        return Tensor(spec.name, spec.dtype, grid.shape, items=grid.reshape(-1).tolist())
    return Tensor(spec.name, spec.dtype, grid.shape, np.ascontiguousarray(grid))


def _shapes(row: Row) -> List[Tuple[int, ...]]:
    return [tensor.shape for tensor in row]


def _same(row: Row, other: Row) -> bool:
    return all(
        a.items == b.items if a.array is None else np.array_equal(_elements(a), _elements(b))
        for a, b in zip(row, other)
    )


def _rolled(tensor: Tensor, steps: int) -> Tensor:
    grid = np.roll(_elements(tensor), steps, axis=-1)
    if tensor.array is None:
        return Tensor(tensor.name, tensor.dtype, tensor.shape, items=grid.reshape(-1).tolist())
    return Tensor(tensor.name, tensor.dtype, tensor.shape, grid)


def _tensor(spec: TensorSpec, axis: Optional[int], numbers: Sequence[int], size: int) -> Tensor:
    shape = row_shape(spec, axis, size)
    if element_count(shape) * len(numbers) > _MAX_ELEMENTS:
        raise MemoryError("made-up inputs would be too large")
    if axis is None:
        return made_up(spec, shape, 0)
    return stacked(spec, axis, [made_up(spec, shape, number) for number in numbers])


def row_shape(spec: TensorSpec, axis: Optional[int], size: int) -> Tuple[int, ...]:
    """Return the shape of a tensor without its batch axis, sizes that vary set to ``size``."""
    dims: Sequence[Dim] = spec.shape if spec.shape is not None else (1,) * ((axis or 0) + 1)
    return tuple(
        size if isinstance(d, str) or d < 0 else d for i, d in enumerate(dims) if i != axis
    )


def _elements(tensor: Tensor) -> Array:
    if tensor.array is not None:
        return tensor.array
    grid = np.empty(len(tensor.items or ()), dtype=object)
    grid[:] = tensor.items
    return grid.reshape(tensor.shape)


def made_up(spec: TensorSpec, shape: Tuple[int, ...], seed: int) -> Tensor:
    """Return a tensor of harmless values, the same ones for the same seed."""
    count = element_count(shape)
    random = np.random.default_rng(seed + 1)
    if spec.dtype.is_bytes:
        # Numerals, for a model that reads numbers from its strings refuses every other word.
        words = (b"1", b"2", b"3", b"4")
        items = [words[i] for i in random.integers(0, len(words), count)]
        return Tensor(spec.name, spec.dtype, shape, items=items)
    assert spec.dtype.numpy is not None
    if spec.dtype is BF16:
        array = float32_to_bf16(random.uniform(-1, 1, shape).astype(np.float32))
    elif spec.dtype.numpy.kind == "f":
        array = random.uniform(-1, 1, shape).astype(spec.dtype.numpy)
    elif spec.dtype is BOOL:
        array = random.integers(0, 2, shape).astype(np.bool_)
    else:
        array = random.integers(0, 2, shape).astype(spec.dtype.numpy)
    return Tensor(spec.name, spec.dtype, shape, np.ascontiguousarray(array).reshape(shape))
