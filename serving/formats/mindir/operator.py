"""One node as its conversion function sees it: arguments by name, types, and what it emits."""

from __future__ import annotations

from typing import Any, Mapping, NoReturn, Sequence, TypeVar

import numpy as np

from serving.formats.mindir.broken import broken, unsupported
from serving.formats.mindir.builder import Builder
from serving.formats.mindir.graph import Constant, Monad, Node, Opaque, Weight
from serving.formats.mindir.types import BY_TYPE_ID, TensorType, TupleType, Type, run_dtype
from serving.formats.mindir.value import Known, Tensor, Value, describe, of_constant
from serving.tensor import BOOL, FP32, INT64, Array, DType

_REQUIRED: Any = object()
T = TypeVar("T")


class Operator:
    """A node being converted.

    Arguments are asked for by name. ``tensor`` gives one to compute with; ``integer``, ``flag``
    and the like give settings, which must be constants; a missing one takes the default or, if
    there is none, refuses the model. ``a|b`` asks for either name (releases differ).
    """

    def __init__(
        self,
        node: Node,
        names: Sequence[str],
        inputs: Sequence[Value],
        builder: Builder,
    ) -> None:
        self.node = node
        self._builder = builder
        values = [i for i in inputs if not isinstance(i, Monad)]
        if len(values) > len(names):
            self.refuse(f"has {len(values)} inputs where {len(names)} are known")
        self._given: Mapping[str, Value] = {
            one: value
            for name, value in zip(names, values, strict=False)
            for one in name.split("|")
        }

    def refuse(self, why: str) -> NoReturn:
        """Refuse the model because of this node; ``why`` continues the sentence naming it."""
        raise unsupported(f"{self.node.label} {why}")

    # --- types ---------------------------------------------------------------------------

    @property
    def output(self) -> TensorType:
        """Return the type of the one output, as it is computed (bfloat16 is float32)."""
        return self._tensor_type(self.node.type)

    @property
    def outputs(self) -> tuple[TensorType, ...]:
        """Return the types of the outputs of an operator that gives a tuple."""
        if not isinstance(self.node.type, TupleType):
            self.refuse("should give a tuple")
        return tuple(self._tensor_type(t) for t in self.node.type.items)

    def _tensor_type(self, stated: Type) -> TensorType:
        if not isinstance(stated, TensorType):
            self.refuse("does not give a tensor where one is expected")
        return TensorType(run_dtype(stated.dtype), stated.shape)

    def dims(self, tensor: Tensor) -> tuple[int, ...]:
        """Return a tensor's lengths, -1 where one varies; refuses an unknown rank."""
        if tensor.shape is None:
            self.refuse("has an input of unknown rank")
        return tensor.shape

    def static_dims(self, tensor: Tensor) -> tuple[int, ...]:
        """Return a tensor's lengths; refuses one that varies."""
        dims = self.dims(tensor)
        if any(n < 0 for n in dims):
            self.refuse("has an input whose shape varies")
        return dims

    def axis(self, raw: int, rank: int) -> int:
        """Count an axis from the front; refuses one that is out of range."""
        if not -rank <= raw < max(rank, 1):
            self.refuse(f"names axis {raw} of a tensor of rank {rank}")
        return raw % max(rank, 1)

    # --- arguments that are computed with --------------------------------------------------

    def value(self, name: str) -> Value:
        """Return an argument as it is, which must be there."""
        found = self._find(name)
        if found is None:
            self.refuse(f"lacks its argument '{name}'")
        return found

    def has(self, name: str) -> bool:
        """Return whether an argument is given and is not ``None``."""
        found = self._find(name)
        return found is not None and not (isinstance(found, Known) and found.value is None)

    def tensor(self, name: str, dtype: DType | None = None) -> Tensor:
        """Return an argument as a tensor, cast to ``dtype`` if one is given."""
        return self.as_tensor(self.value(name), dtype)

    def tensors(self, name: str, dtype: DType | None = None) -> list[Tensor]:
        """Return an argument that is a tuple of tensors."""
        found = self.value(name)
        if not isinstance(found, tuple):
            self.refuse(f"takes a tuple as '{name}', not {describe(found)}")
        if not found:
            self.refuse(f"has no tensors in its tuple '{name}'")
        return [self.as_tensor(v, dtype) for v in found]

    def vector(self, name: str) -> Tensor:
        """Return a list of integers (a shape) as an INT64 tensor of one axis, computed or not."""
        found = self.value(name)
        if isinstance(found, Tensor):
            return self.cast(found, INT64)
        if not isinstance(found, tuple) or self._is_static(found):
            return self.constant(np.array(self.integers(name), np.int64))
        parts = [self._as_one(v) for v in found]
        return self.emit("Concat", *parts, type=TensorType(INT64, (len(parts),)), axis=0)

    def as_tensor(self, value: Value, dtype: DType | None = None) -> Tensor:
        """Return a value as a tensor, cast to ``dtype`` if one is given."""
        if isinstance(value, Weight):
            value = self._builder.weight(value)
        if isinstance(value, Known):
            return self.constant(self._array(value.value, dtype))
        if isinstance(value, tuple) and self._is_static(value):
            return self.constant(self._array(self._static(value), dtype))
        if not isinstance(value, Tensor):
            self.refuse(f"computes with {describe(value)}")
        return value if dtype is None else self.cast(value, dtype)

    def _as_one(self, value: Value) -> Tensor:
        single = self.as_tensor(value, INT64)
        return self.emit(
            "Reshape", single, self.constant(np.array([1])), type=TensorType(INT64, (1,))
        )

    def _array(self, constant: Constant, dtype: DType | None) -> Array:
        if isinstance(constant, (str, DType, Opaque)) or constant is None:
            self.refuse(f"computes with {describe(Known(constant))} that is no number")
        array = np.asarray(constant)
        if dtype is None and not isinstance(constant, np.ndarray):
            dtype = {"b": BOOL, "i": INT64}.get(array.dtype.kind, FP32)
        with np.errstate(over="ignore"):  # a mask of -1e9 is -inf in float16, as in MindSpore
            return array if dtype is None else array.astype(dtype.numpy)

    # --- arguments that are settings -------------------------------------------------------

    def integer(self, name: str, default: int = _REQUIRED) -> int:
        """Return a whole number."""
        return self._one(self.integers(name, (default,)), name)

    def integers(self, name: str, default: Sequence[int] = _REQUIRED) -> tuple[int, ...]:
        """Return whole numbers; a single one counts as one of them."""
        found = self._setting(name, default)
        numbers = self._flat(found)
        if not all(isinstance(n, int) for n in numbers):
            self.refuse(f"takes whole numbers as '{name}'")
        return tuple(int(n) for n in numbers)  # type: ignore[arg-type]

    def nested(self, name: str) -> tuple[int, ...]:
        """Return the whole numbers of a tuple of tuples, in order."""
        pending, found = [self._setting(name, _REQUIRED)], list[Constant]()
        while pending:
            one = pending.pop(0)
            if isinstance(one, tuple):
                pending[:0] = one
            else:
                found.extend(self._flat(one))
        if not all(isinstance(n, int) for n in found):
            self.refuse(f"takes whole numbers as '{name}'")
        return tuple(int(n) for n in found)  # type: ignore[arg-type]

    def number(self, name: str, default: float = _REQUIRED) -> float:
        """Return a number."""
        return self._one(self.numbers(name, (default,)), name)

    def numbers(self, name: str, default: Sequence[float] = _REQUIRED) -> tuple[float, ...]:
        """Return numbers; a single one counts as one of them."""
        found = self._flat(self._setting(name, default))
        if not all(isinstance(n, (int, float)) for n in found):
            self.refuse(f"takes numbers as '{name}'")
        return tuple(float(n) for n in found)  # type: ignore[arg-type]

    def flag(self, name: str, default: bool = _REQUIRED) -> bool:
        """Return a truth value."""
        return bool(self.integer(name, default))

    def text(self, name: str, default: str = _REQUIRED) -> str:
        """Return a text."""
        found = self._setting(name, default)
        if not isinstance(found, str):
            self.refuse(f"takes a text as '{name}'")
        return found

    def choice(self, name: str, words: Mapping[int, str], default: str = _REQUIRED) -> str:
        """Return one of some words, in upper case; newer releases write its number."""
        found = self._setting(name, default)
        word = words.get(found) if isinstance(found, int) else found
        if not isinstance(word, str) or word.upper() not in words.values():
            self.refuse(f"has an unknown setting '{name}'")
        return word.upper()

    def dtype(self, name: str) -> DType:
        """Return an element type, which newer releases write as a number."""
        found = self._setting(name, _REQUIRED)
        dtype = BY_TYPE_ID.get(found) if isinstance(found, int) else found
        if not isinstance(dtype, DType):
            self.refuse(f"takes an element type as '{name}'")
        return run_dtype(dtype)

    def _find(self, name: str) -> Value | None:
        for one in name.split("|"):
            if one in self._given:
                return self._given[one]
            if one in self.node.attributes:
                return of_constant(self.node.attributes[one])
        return None

    def _setting(self, name: str, default: Any) -> Constant:
        found = self._find(name)
        missing = default is _REQUIRED or default == (_REQUIRED,)
        if found is None or (isinstance(found, Known) and found.value is None and not missing):
            if missing:
                self.refuse(f"lacks its argument '{name}'")
            constant: Constant = default
            return constant
        if not self._is_static(found):
            self.refuse(f"takes a constant as '{name}', not {describe(found)}")
        return self._static(found)

    def _is_static(self, value: Value) -> bool:
        if isinstance(value, tuple):
            return all(self._is_static(v) for v in value)
        return isinstance(value, Known)

    def _static(self, value: Value) -> Constant:
        if isinstance(value, tuple):
            return tuple(self._static(v) for v in value)
        assert isinstance(value, Known)
        return value.value

    def _flat(self, found: Constant) -> tuple[Constant, ...]:
        if isinstance(found, np.ndarray):
            return tuple(found.reshape(-1).tolist())
        return found if isinstance(found, tuple) else (found,)

    def _one(self, found: Sequence[T], name: str) -> T:
        if len(found) != 1:
            self.refuse(f"takes a single value as '{name}'")
        return found[0]

    # --- emission --------------------------------------------------------------------------

    def emit(
        self,
        operator: str,
        *inputs: Tensor | None,
        type: TensorType | None = None,
        **attributes: Any,
    ) -> Tensor:
        """Add an ONNX node with one output.

        Its type is that of the node's (first) output unless one is given.
        """
        if type is None:
            type = self.outputs[0] if isinstance(self.node.type, TupleType) else self.output
        return self.emit_several(operator, *inputs, types=[type], **attributes)[0]

    def emit_several(
        self,
        operator: str,
        *inputs: Tensor | None,
        types: Sequence[TensorType],
        **attributes: Any,
    ) -> tuple[Tensor, ...]:
        """Add an ONNX node with an output of each of these types."""
        hint = self.node.scope or self.node.operator
        return self._builder.node(operator, inputs, types, hint, attributes)

    def fresh(self, hint: str) -> str:
        """Return a name that nothing has yet, for a value within the body of a node."""
        return self._builder.fresh(hint)

    def constant(self, array: Array) -> Tensor:
        """Return a small constant as a tensor."""
        return self._builder.constant(array)

    def cast(self, tensor: Tensor, dtype: DType) -> Tensor:
        """Return a tensor as another element type; the same one if it has it."""
        if tensor.dtype is dtype:
            return tensor
        return self.emit("Cast", tensor, type=TensorType(dtype, tensor.shape), to=dtype.onnx)

    def reshape(self, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        """Return a tensor with other axes; one of them may be -1."""
        target = self.constant(np.array(shape, np.int64))
        return self.emit("Reshape", tensor, target, type=TensorType(tensor.dtype, tuple(shape)))


def checked(node: Node, result: Value) -> Value:
    """Return what a conversion gave; raises ``LoadError`` if its types are not the node's."""
    pairs = [(result, node.type)]
    while pairs:
        found, stated = pairs.pop()
        if isinstance(found, tuple) and isinstance(stated, TupleType):
            pairs += zip(found, stated.items, strict=False)
        elif isinstance(found, Tensor) and isinstance(stated, TensorType):
            expected = run_dtype(stated.dtype)
            if found.dtype is not expected:
                raise broken(f"{node.label} gives {found.dtype} and states {expected}")
    return result
