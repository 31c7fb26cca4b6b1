"""Inputs made up from a signature: to warm a model, and to try its batch axis on.

Values are small and harmless: indices stay 0 or 1 (an embedding has at least two rows nearly
always), floats lie in (-1, 1), strings are short. Sizes that vary are tried small. A model
that refuses every one of them can still serve; its batch axis then stays unproved.
"""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

import numpy as np

from serving.backends.base import BackendError, MemoryExhausted, Model
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

_SIZES = (8, 1, 16, 32)
"""What sizes that vary are set to, in this order, until the model accepts one."""

_LARGE_SIZE, _LARGE_ELEMENTS = 256, 1 << 20
"""Tried last, where no tensor gets more elements: models of sound take no less than some 200."""

_MAX_ELEMENTS = 1 << 26


class Samples:
    """Makes rows for one model; the same number gives the same row."""

    def __init__(self, signature: Signature, claim: BatchAxes) -> None:
        self.signature = signature
        self.axes: Tuple[Optional[int], ...] = (
            claim.inputs if claim.batched else (None,) * len(signature.inputs)
        )
        self._fixed = fixed_batch(signature, claim)

    def rows(self, numbers: Sequence[int], size: int) -> List[Tensor]:
        """Return inputs that hold the rows ``numbers``, varying sizes set to ``size``.

        A model frozen to a batch size gets its missing rows as copies of the first.
        """
        missing = (self._fixed or 0) - len(numbers)
        numbers = [*numbers, *[numbers[0]] * max(0, missing)]
        return [
            _tensor(spec, axis, numbers, size)
            for spec, axis in zip(self.signature.inputs, self.axes)
        ]

    def fitting_size(self, model: Model) -> Tuple[int, str]:
        """Return a size that the model accepts, or 0 and the engine's last refusal.

        Raises MemoryExhausted when none fits and memory was why: a trial under a limit must
        not let a model through to workers that have none.
        """
        refusal = ""
        exhausted: Optional[MemoryExhausted] = None
        for size in self._sizes():
            try:
                model.bind(self.rows([0], size), None).run()
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

    def _sizes(self) -> Tuple[int, ...]:
        if not self._varies():
            return _SIZES[:1]
        shapes = [
            _row_shape(spec, axis, _LARGE_SIZE)
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


def _tensor(spec: TensorSpec, axis: Optional[int], numbers: Sequence[int], size: int) -> Tensor:
    row_shape = _row_shape(spec, axis, size)
    if element_count(row_shape) * len(numbers) > _MAX_ELEMENTS:
        raise MemoryError("made-up inputs would be too large")
    if axis is None:
        return _filled(spec, row_shape, 0)
    rows = [_elements(_filled(spec, row_shape, number)) for number in numbers]
    stacked = np.stack(rows, axis=axis)
    if spec.dtype.is_bytes:
        return Tensor(spec.name, spec.dtype, stacked.shape, items=stacked.reshape(-1).tolist())
    return Tensor(spec.name, spec.dtype, stacked.shape, np.ascontiguousarray(stacked))


def _row_shape(spec: TensorSpec, axis: Optional[int], size: int) -> Tuple[int, ...]:
    dims: Sequence[Dim] = spec.shape if spec.shape is not None else (1,) * ((axis or 0) + 1)
    return tuple(
        size if isinstance(d, str) or d < 0 else d for i, d in enumerate(dims) if i != axis
    )


def _elements(tensor: Tensor) -> Array:
    if tensor.array is not None:
        return tensor.array
    return np.array(tensor.items, dtype=object).reshape(tensor.shape)


def _filled(spec: TensorSpec, shape: Tuple[int, ...], seed: int) -> Tensor:
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
