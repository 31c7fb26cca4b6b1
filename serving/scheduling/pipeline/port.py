"""A model as methods and functions see it: values of one instance go in, values come out.

An instance of a model that is declared ``with_batch_dim`` goes without axis 0, and so do its
outputs; without it an instance is all that a run takes.
"""

from __future__ import annotations

from typing import NamedTuple

from serving.errors import InternalError, InvalidRequest
from serving.model_value import (
    Dims,
    check_shape,
    check_size,
    is_text,
    other_type,
    string_sizes,
    type_name,
)
from serving.request import InferRequest, InferResponse
from serving.scheduling.line import Line
from serving.tensor import (
    BF16,
    BYTES,
    FP32,
    TEXT,
    DType,
    Signature,
    Tensor,
    TensorSpec,
    bf16_to_float32,
    element_count,
    float32_to_bf16,
)

Values = tuple[Tensor, ...]
"""The values of one instance."""


class Terms(NamedTuple):
    """How a request wants to be treated; ``deadline`` and when it was ``born`` are monotonic s."""

    id: str
    deadline: float | None
    priority: int
    born: float


class _Input(NamedTuple):
    spec: TensorSpec
    axis: int | None
    row: Dims


class Port:
    """One model of a version.

    ``signature`` are its sizes as an instance has them; ``inputs`` and ``outputs`` the axes that
    an instance goes without.
    """

    def __init__(
        self,
        line: Line,
        signature: Signature,
        inputs: tuple[int | None, ...],
        outputs: tuple[int | None, ...],
    ) -> None:
        self.line = line
        self._inputs = tuple(
            _Input(spec, axis, row_of(spec, axis))
            for spec, axis in zip(signature.inputs, inputs, strict=True)
        )
        self._outputs = outputs
        self.input_rows = tuple(TensorSpec("", i.spec.dtype, i.row) for i in self._inputs)
        self.output_rows = tuple(
            TensorSpec("", FP32 if spec.dtype is BF16 else spec.dtype, row_of(spec, axis))
            for spec, axis in zip(signature.outputs, outputs, strict=True)
        )

    def axis(self, output: int) -> int | None:
        """Return the axis of an output that counts instances, None where it has none."""
        return self._outputs[output]

    def request(self, values: Values, terms: Terms) -> InferRequest:
        """Return the request of one instance; raises InvalidRequest where a value does not fit."""
        if len(values) != len(self._inputs):
            raise InvalidRequest(
                f"the inputs count {len(values)} not match the model inputs count "
                f"{len(self._inputs)}"
            )
        inputs = tuple(
            [_fed(v, i, n) for n, (v, i) in enumerate(zip(values, self._inputs, strict=True))]
        )
        description = self.line.description
        return InferRequest(
            description.servable,
            inputs,
            id=terms.id,
            deadline=terms.deadline,
            priority=terms.priority,
            generation=description.generation,
        )

    def values(self, response: InferResponse) -> Values:
        """Return the outputs of one instance; views of the response."""
        return tuple(
            [_taken(t, axis) for t, axis in zip(response.outputs, self._outputs, strict=True)]
        )


def row_of(spec: TensorSpec, axis: int | None) -> Dims:
    """Return the sizes of one instance of an input or output."""
    if spec.shape is None or axis is None:
        return spec.shape
    return spec.shape[:axis] + spec.shape[axis + 1 :]


def _fed(value: Tensor, given: _Input, index: int) -> Tensor:
    spec = given.spec
    if is_text(spec.dtype) or is_text(value.dtype):
        return _fed_text(value, given, index)
    array = value.array
    assert array is not None
    sizes = check_size(index, given.row, spec.dtype, _nbytes(value))
    as_is = value.dtype is spec.dtype
    if not as_is and not (spec.dtype is BF16 and value.dtype is FP32):
        raise other_type(index, type_name(value.dtype), spec.dtype)
    if not as_is:
        array = float32_to_bf16(array)
    shape = check_shape(index, given.row, given.axis, value.shape) if sizes is None else sizes
    shape = _with(shape, given.axis)
    return Tensor(spec.name, spec.dtype, shape, array.reshape(shape))


def _nbytes(value: Tensor) -> int:
    """Return the bytes of numbers as MindSpore Serving counts them: of BF16 those of FP32."""
    return value.nbytes * 2 if value.dtype is BF16 else value.nbytes


def _fed_text(value: Tensor, given: _Input, index: int) -> Tensor:
    spec = given.spec
    if not (is_text(spec.dtype) and is_text(value.dtype)):
        if is_text(value.dtype):
            check_size(index, given.row, spec.dtype, 0)  # a string counts no bytes there
        raise other_type(index, type_name(value.dtype), spec.dtype)
    if element_count(value.shape) == 1:
        shape = string_sizes(index, given.row)
    else:
        shape = check_shape(index, given.row, given.axis, value.shape)
    return Tensor(spec.name, BYTES, _with(shape, given.axis), items=value.items)


def _with(shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    return shape if axis is None else (*shape[:axis], 1, *shape[axis:])


def _taken(tensor: Tensor, axis: int | None) -> Tensor:
    """Return an output without its batch axis, in a type that functions know."""
    shape = tensor.shape
    if axis is not None:
        if axis >= len(shape) or shape[axis] != 1:
            raise InternalError(f"output {tensor.name!r} does not have the one row it should")
        shape = shape[:axis] + shape[axis + 1 :]
    if tensor.array is None:
        items = tensor.items or ()
        dtype: DType = TEXT if all(map(_is_utf8, items)) else BYTES
        return Tensor("", dtype, shape, items=items)
    if tensor.dtype is BF16:
        return Tensor("", FP32, shape, bf16_to_float32(tensor.array).reshape(shape))
    return Tensor("", tensor.dtype, shape, tensor.array.reshape(shape))


def _is_utf8(item: bytes) -> bool:
    try:
        bytes(item).decode()
    except UnicodeDecodeError:
        return False
    return True
