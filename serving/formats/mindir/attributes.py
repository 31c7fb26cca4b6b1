"""Decodes attributes: values and types, in the typed form of MindSpore 1.5 and later.

The form differs by release. Since about 1.5 an attribute has a ``type``, and sequences hold
elements in ``values``, each with its value in the repeated field even when it is one. Before,
``ref_attr_name`` held a text that arranges the elements; see ``attribute_text``.
"""

from __future__ import annotations

from typing import TypeAlias

from serving.formats.mindir.attribute_text import arranged, named_values
from serving.formats.mindir.broken import broken
from serving.formats.mindir.graph import Constant, Monad, Opaque
from serving.formats.mindir.stubs import mindir_pb2
from serving.formats.mindir.tensors import array_of, dtype_of, tensor_type
from serving.formats.mindir.types import MONAD, OtherType, ScalarType, TupleType, Type

Attribute: TypeAlias = mindir_pb2.AttributeProto
_STRING = 8  # of TensorProto.DataType
_INTEGERS = frozenset(
    (Attribute.UINT8, Attribute.INT8, Attribute.UINT16, Attribute.INT16, Attribute.INT32,
     Attribute.INT64, Attribute.UINT32, Attribute.UINT64)
)  # fmt: skip
_FLOATS = frozenset((Attribute.FLOAT, Attribute.FLOAT16, Attribute.BFLOAT16))
_SEQUENCES = frozenset((Attribute.TUPLE, Attribute.LIST))
_MONADS = frozenset((Attribute.UMONAD, Attribute.IOMONAD))
_CLOSURES = frozenset(
    (Attribute.PRIMITIVECLOSURE, Attribute.FUNCGRAPHCLOSURE, Attribute.PARTIALCLOSURE,
     Attribute.UNIONFUNCCLOSURE)
)  # fmt: skip


def value_of(attribute: Attribute, what: str) -> Constant | Monad:
    """Return the value of an attribute or constant; raises ``LoadError`` naming ``what``."""
    if attribute.ref_attr_name and not attribute.values:
        return arranged(attribute.ref_attr_name, named_values(attribute, what), what)
    kind = attribute.type
    if kind in _SEQUENCES:
        return tuple(_element(e, what) for e in attribute.values)
    if kind in (Attribute.TENSOR, Attribute.TENSORS):
        return _tensor_value(attribute, what)
    if kind in _MONADS:
        return Monad()
    if kind == Attribute.NONE:
        return None
    scalars = _scalars(attribute, what)
    if scalars is None:
        return Opaque(_kind_name(kind))
    return scalars[0] if len(scalars) == 1 else scalars


def type_of(attribute: Attribute, what: str) -> Type:
    """Return the type that a ``shape`` attribute or ``attr_info`` states."""
    kind = attribute.type
    if attribute.ref_attr_name.startswith("shape:") or kind == Attribute.TENSORS:
        return tensors_type(attribute.tensors, attribute.ref_attr_name, what)
    if kind in _SEQUENCES:
        return TupleType(tuple(type_of(e, what) for e in attribute.values))
    if kind == Attribute.SCALAR and attribute.tensors:
        return ScalarType(dtype_of(attribute.tensors[0].data_type, what))
    if kind in _MONADS:
        return MONAD
    return OtherType("closure" if kind in _CLOSURES else _kind_name(kind).lower())


def tensors_type(tensors: list[mindir_pb2.TensorProto], text: str, what: str) -> Type:
    """Return the type that one or several tensors state; ``text`` arranges several."""
    types = [_one_type(t, what) for t in tensors]
    if len(types) == 1 and "[" not in text:
        return types[0]
    return TupleType(tuple(types))


def _one_type(tensor: mindir_pb2.TensorProto, what: str) -> Type:
    return OtherType("string") if tensor.data_type == _STRING else tensor_type(tensor, what)


def _element(attribute: Attribute, what: str) -> Constant:
    found = value_of(attribute, what)
    return Opaque("monad") if isinstance(found, Monad) else found


def _scalars(attribute: Attribute, what: str) -> tuple[Constant, ...] | None:
    """Return the one scalar or the several of an attribute; ``None`` if it holds other things."""
    kind = attribute.type
    if kind in _INTEGERS:
        return tuple(attribute.ints) or (attribute.i,)
    if kind == Attribute.BOOL:
        return tuple(bool(i) for i in attribute.ints) or (bool(attribute.i),)
    if kind in _FLOATS:
        return tuple(attribute.floats) or (attribute.f,)
    if kind == Attribute.DOUBLE:
        return tuple(attribute.doubles) or (attribute.d,)
    if kind == Attribute.STRING:
        texts = tuple(attribute.strings) or (attribute.s,)
        return tuple(text_of(t, what) for t in texts)
    return None


def text_of(raw: bytes, what: str) -> str:
    """Return a text of the file; raises ``LoadError`` if it is none."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise broken(f"{what} holds a text that is not UTF-8") from error


def _tensor_value(attribute: Attribute, what: str) -> Constant:
    tensors = [attribute.t] if attribute.type == Attribute.TENSOR else list(attribute.tensors)
    if len(tensors) == 1:
        return single_tensor(tensors[0], what)
    return tuple(array_of(t, what) for t in tensors)


def single_tensor(tensor: mindir_pb2.TensorProto, what: str) -> Constant:
    """Return an array, or the element type that a tensor without data and axes stands for."""
    if tensor.data_type == _STRING:
        return Opaque("string")
    if not tensor.dims and not tensor.HasField("raw_data"):
        return dtype_of(tensor.data_type, what)
    return array_of(tensor, what)


def _kind_name(kind: int) -> str:
    known = Attribute.AttributeType.values()
    return Attribute.AttributeType.Name(kind) if kind in known else f"attribute type {kind}"
