"""Runs the small tensors that hold sizes: what exporters do between ``Shape`` and ``Reshape``.

One function per operator; each works on object arrays of sizes, so numpy does the slicing,
gathering and joining. A function that cannot follow its operator returns ``None``.
"""

from __future__ import annotations

from functools import reduce
from typing import Any, Callable

import numpy as np
import onnx
from numpy.typing import NDArray

from serving.formats.batch_axis import arithmetic
from serving.formats.batch_axis.size import Kind, Size, Symbol
from serving.formats.batch_axis.step import Step
from serving.formats.batch_axis.value import Elements, Value, known_value, object_array

FOLD_LIMIT = 64
"""Larger tensors are never shapes."""
LARGEST_RESULT = 2**31 - 1
"""Arithmetic beyond this may wrap around in a 32-bit tensor and is not followed."""

_LARGEST_TABLE = 1 << 20
"""Larger ones are not looked through for their largest number."""

Fold = Callable[[Step, list[Elements]], Elements | list[Elements] | None]
_WIDE_NUMBERS = frozenset((onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.DOUBLE))
_WHOLE_NUMBERS = frozenset((onnx.TensorProto.INT64, onnx.TensorProto.INT32))
_REALS = frozenset(
    (
        onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16,
        onnx.TensorProto.BFLOAT16,
    )
)  # fmt: skip


def is_real(element_type: int) -> bool:
    """Return whether an ONNX element type is floating point (an unknown one may be)."""
    return element_type in _REALS or element_type == 0


def tensor_value(tensor: onnx.TensorProto) -> Value:
    """Return a constant; the numbers of a small one are remembered."""
    dims = tuple(Size(int(n)) for n in tensor.dims)
    count = int(np.prod(list(tensor.dims), dtype=object)) if tensor.dims else 1
    readable = tensor.data_location != onnx.TensorProto.EXTERNAL
    numeric = tensor.data_type in _WIDE_NUMBERS or tensor.data_type in (
        onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL
    )  # fmt: skip
    if readable and FOLD_LIMIT < count <= _LARGEST_TABLE and tensor.data_type in _WHOLE_NUMBERS:
        return Value(dims, reach=_table_reach(onnx.numpy_helper.to_array(tensor)))
    if count > FOLD_LIMIT or not readable or not numeric:
        return Value(dims)
    array = onnx.numpy_helper.to_array(tensor)
    items: list[Size | None] = [arithmetic.number(n) for n in array.flatten().tolist()]
    return known_value(object_array(items, array.shape), is_real(tensor.data_type))


def _table_reach(table: NDArray[Any]) -> Size | None:
    return Size(int(table.max()) + 1) if table.min() >= 0 else None


def with_elements(name: str, value: Value, real: bool) -> Value | None:
    """Give a small free tensor elements: unknown quantities of its own."""
    if value.known is not None:
        return value
    if value.dims is None or value.rows is not None or value.sequence:
        return None
    shape = [d.constant for d in value.dims]
    sizes = [n for n in shape if n is not None]
    if len(sizes) < len(shape) or int(np.prod(sizes, dtype=object)) > FOLD_LIMIT:
        return None
    kind = Kind.REAL if real else Kind.INTEGER
    count = int(np.prod(sizes)) if sizes else 1
    items: list[Size | None] = [Size.of(Symbol(f"{name!r}[{i}]", kind)) for i in range(count)]
    return known_value(object_array(items, tuple(sizes)), real)


def fold(step: Step, values: list[Value]) -> list[Value] | None:
    """Compute a node whose inputs all have known elements; ``None`` if it cannot be followed."""
    function = _FOLDS.get(step.node.op_type)
    if function is None or step.node.domain not in ("", "ai.onnx"):
        return None
    try:
        result = function(step, [v.known for v in values if v.known is not None])
    except (IndexError, ValueError, TypeError, OverflowError):
        return None  # the engine will refuse this node; nothing is known of its result
    if result is None:
        return None
    arrays = result if isinstance(result, list) else [result]
    if any(a.size > FOLD_LIMIT for a in arrays):
        return None
    real = _result_is_real(step, values)
    return [known_value(a, real) for a in arrays]


def _result_is_real(step: Step, values: list[Value]) -> bool:
    if step.node.op_type == "Cast":
        return is_real(step.attribute("to", 0))
    if step.node.op_type in _TRUTHS:
        return False
    if step.node.op_type == "ConstantOfShape":
        filler = step.attribute("value")
        return filler is None or is_real(filler.data_type)
    return values[-1].real if step.node.op_type in ("Where", "Expand") else values[0].real


_TRUTHS = ("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "And", "Or", "Not")


def _filled(shape: tuple[int, ...]) -> Elements:
    return np.empty(shape, dtype=object)


def _map(function: Callable[..., Any], *arrays: Elements) -> Elements:
    broadcast = np.broadcast_arrays(*arrays)
    out = _filled(broadcast[0].shape)
    for index in np.ndindex(out.shape):
        out[index] = function(*(a[index] for a in broadcast))
    return out


def _binary(step: Step, arrays: list[Elements], real: bool) -> Elements:
    operation = arithmetic.BINARY[step.node.op_type]

    def apply(a: Size | None, b: Size | None) -> Size | None:
        result = None if a is None or b is None else operation(a, b, real)
        if result is not None and abs(result.factor) > LARGEST_RESULT and result not in (a, b):
            raise OverflowError
        return result

    return reduce(lambda a, b: _map(apply, a, b), arrays)


def _unary(step: Step, arrays: list[Elements]) -> Elements:
    operation = arithmetic.UNARY[step.node.op_type]
    return _map(lambda a: None if a is None else operation(a), arrays[0])


def _cast(step: Step, arrays: list[Elements]) -> Elements | None:
    target = step.attribute("to", 0)
    if target == onnx.TensorProto.BOOL:
        return _map(lambda a: None if a is None else arithmetic.truth(a), arrays[0])
    if target == onnx.TensorProto.FLOAT:
        return arrays[0]  # a size too large to be exact would not fit any later reshape
    if target not in _WIDE_NUMBERS:
        return None
    if is_real(target):
        return arrays[0]
    rounded = arithmetic.whole("truncate")
    return _map(lambda a: None if a is None else rounded(a), arrays[0])


def _clip(step: Step, arrays: list[Elements]) -> Elements | None:
    """Bounds are inputs since opset 11; before, nobody computed shapes with it."""
    if step.opset < 11 or len(arrays) != len(step.given()):
        return None
    real = step.value(0).real
    rest = iter(arrays[1:])
    result = arrays[0]
    for position, choose in ((1, arithmetic.maximum), (2, arithmetic.minimum)):
        if step.has(position):
            bound = next(rest).flat[0]

            def bounded(a: Size | None, choose: Any = choose, bound: Any = bound) -> Size | None:
                return None if a is None or bound is None else choose(a, bound, real)

            result = _map(bounded, result)
    return result


def _integers(array: Elements) -> list[int] | None:
    numbers = [None if e is None else e.constant for e in array.flat]
    return None if None in numbers else [n for n in numbers if n is not None]


def _gather(step: Step, arrays: list[Elements]) -> Elements | None:
    indices = _integers(arrays[1])
    if indices is None:
        return None
    where = np.array(indices, dtype=np.int64).reshape(arrays[1].shape)
    taken = np.take(arrays[0], where, axis=step.attribute("axis", 0))
    return np.asarray(taken, dtype=object).reshape(np.shape(taken))


def _slice(step: Step, arrays: list[Elements]) -> Elements | None:
    if step.opset < 10:
        starts, ends = step.attribute("starts"), step.attribute("ends")
        axes, steps = step.attribute("axes"), None
    else:
        if any(not step.has(i) for i in (1, 2)) or len(arrays) != len(step.given()):
            return None
        starts, ends = step.integers(1), step.integers(2)
        axes = step.integers(3) if step.has(3) else None
        steps = step.integers(4) if step.has(4) else None
        if (step.has(3) and axes is None) or (step.has(4) and steps is None):
            return None
    if starts is None or ends is None:
        return None
    cut = [slice(None)] * arrays[0].ndim
    for i, axis in enumerate(range(len(starts)) if axes is None else axes):
        stride = 1 if steps is None else steps[i]
        stop: int | None = ends[i]
        if stride < 0 and ends[i] < -arrays[0].shape[axis]:
            stop = None
        cut[axis] = slice(starts[i], stop, stride)
    result: Elements = arrays[0][tuple(cut)]
    return result


def _concat(step: Step, arrays: list[Elements]) -> Elements:
    return np.concatenate(arrays, axis=step.attribute("axis", 0))


def _split(step: Step, arrays: list[Elements]) -> list[Elements] | None:
    axis, count = step.attribute("axis", 0), len(step.node.output)
    lengths = step.attribute("split") or (step.integers(1) if step.has(1) else None)
    if lengths is None:
        length = -(-arrays[0].shape[axis] // count)
        ends = [length * i for i in range(1, count)]
    else:
        ends = np.cumsum(lengths)[:-1].tolist()
    return list(np.split(arrays[0], ends, axis=axis))


def _unsqueeze(step: Step, arrays: list[Elements]) -> Elements | None:
    axes = step.axes(1)
    return None if axes is None else np.expand_dims(arrays[0], tuple(axes))


def _squeeze(step: Step, arrays: list[Elements]) -> Elements:
    axes = step.axes(1)
    shape = list(arrays[0].shape)
    gone = [i for i, n in enumerate(shape) if n == 1] if axes is None else axes
    gone = [a % len(shape) for a in gone]
    return arrays[0].reshape([n for i, n in enumerate(shape) if i not in gone])


def _reshape(step: Step, arrays: list[Elements]) -> Elements | None:
    target = _integers(arrays[1])
    if target is None:
        return None
    if not step.attribute("allowzero", 0):
        target = [arrays[0].shape[i] if n == 0 else n for i, n in enumerate(target)]
    return arrays[0].reshape(target)


def _where(_step: Step, arrays: list[Elements]) -> Elements:
    return _map(arithmetic.choose, *arrays)


def _expand(_step: Step, arrays: list[Elements]) -> Elements | None:
    target = _integers(arrays[1])
    if target is None or np.prod(target, dtype=object) > FOLD_LIMIT:
        return None
    shape = np.broadcast_shapes(arrays[0].shape, tuple(target))
    return np.array(np.broadcast_to(arrays[0], shape), dtype=object)


def _transpose(step: Step, arrays: list[Elements]) -> Elements:
    return np.transpose(arrays[0], step.attribute("perm"))


def _range(_step: Step, arrays: list[Elements]) -> Elements | None:
    bounds = [_integers(a) for a in arrays]
    numbers = [b[0] for b in bounds if b]
    if len(numbers) != 3 or numbers[2] == 0:
        return None
    values = range(*numbers)
    if len(values) > FOLD_LIMIT:
        return None
    return object_array([Size(n) for n in values], (len(values),))


def _reduce(step: Step, arrays: list[Elements]) -> Elements | None:
    axes = step.axes(1)
    if arrays[0].ndim != 1 or axes not in (None, [0], [-1]) or arrays[0].size == 0:
        return None
    if axes is None and step.attribute("noop_with_empty_axes", 0):
        return None
    operation = {
        "ReduceProd": arithmetic.multiply, "ReduceSum": arithmetic.add,
        "ReduceMax": arithmetic.maximum, "ReduceMin": arithmetic.minimum,
    }[step.node.op_type]  # fmt: skip
    total: Size | None = arrays[0][0]
    for element in arrays[0][1:]:
        total = None if total is None or element is None else operation(total, element, False)
    return object_array([total], (1,) if step.attribute("keepdims", 1) else ())


def _constant_of_shape(step: Step, arrays: list[Elements]) -> Elements | None:
    shape = _integers(arrays[0])
    if shape is None or np.prod(shape, dtype=object) > FOLD_LIMIT:
        return None
    filler = step.attribute("value")
    fill = 0.0 if filler is None else onnx.numpy_helper.to_array(filler).flatten().tolist()[0]
    count = int(np.prod(shape)) if shape else 1
    return object_array([arithmetic.number(fill)] * count, tuple(shape))


def _identity(_step: Step, arrays: list[Elements]) -> Elements:
    return arrays[0]


def _arithmetic(step: Step, arrays: list[Elements]) -> Elements:
    real = any(v.real for v in step.given())
    return _binary(step, arrays, real)


_FOLDS: dict[str, Fold] = {
    "Cast": _cast, "Clip": _clip, "Gather": _gather, "Slice": _slice, "Concat": _concat,
    "Unsqueeze": _unsqueeze, "Squeeze": _squeeze, "Reshape": _reshape, "Where": _where,
    "ConstantOfShape": _constant_of_shape, "Expand": _expand, "Transpose": _transpose,
    "Range": _range, "Identity": _identity, "Split": _split,
    "ReduceProd": _reduce, "ReduceSum": _reduce, "ReduceMax": _reduce, "ReduceMin": _reduce,
    **dict.fromkeys(arithmetic.BINARY, _arithmetic),
    **dict.fromkeys(arithmetic.UNARY, _unary),
}  # fmt: skip
