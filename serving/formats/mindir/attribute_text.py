"""Reads the texts by which releases before about 1.5 arrange the elements of an attribute.

``ref_attr_name`` is such a text (seen in a file of 1.0.0; for 1.1 to 1.4 from the public
anf_model_parser.cc of those branches)::

    scalar:value0                               one number or text
    scalar:Tuple[value1,List[value2,],]         a tuple (the names count the elements)
    tensor:value0      type:value0              an array; an element type
    shape:shape1,      none      Monad:UMonad   an output's type; None; a token of order

1.0 keeps every element in a tensor of that name, later releases in ``ints``, ``floats``,
``strings`` by position, and in ``i``, ``f``, ``s`` when there is but one.
"""

from __future__ import annotations

import re
from typing import Mapping

from serving.formats.mindir.broken import broken
from serving.formats.mindir.graph import Constant, Monad
from serving.formats.mindir.stubs import mindir_pb2
from serving.formats.mindir.tensors import array_of, dtype_of

_TOKEN = re.compile(r"(?:Tuple|List)?\[|\]|,|[^\[\],]+")
_TEXT = 8  # of TensorProto.DataType
_BOOL_ATTRIBUTE = 9  # of mind_ir's AttributeType


def arranged(text: str, values: Mapping[str, Constant], what: str) -> Constant | Monad:
    """Return the value that ``text`` makes of the named elements; raises ``LoadError``."""
    kind, _, rest = text.partition(":")
    if kind == "Monad":
        return Monad()
    if kind == "none":
        return None
    if kind not in ("scalar", "tensor", "type", "shape"):
        raise broken(f"{what} is arranged in an unknown way")
    stack: list[list[Constant]] = [[]]
    for token in _TOKEN.findall(rest):
        if token.endswith("["):
            stack.append([])
        elif token == "]":
            if len(stack) < 2:
                raise broken(f"{what} closes a tuple that was never opened")
            done = tuple(stack.pop())
            stack[-1].append(done)
        elif token != ",":
            if token not in values:
                raise broken(f"{what} names an element that is not there")
            stack[-1].append(values[token])
    if len(stack) != 1 or len(stack[0]) != 1:
        raise broken(f"{what} is not one whole value")
    return stack[0][0]


def named_values(attribute: mindir_pb2.AttributeProto, what: str) -> dict[str, Constant]:
    """Return the elements of an attribute of 1.1 to 1.4 under the names that its text uses."""
    if attribute.ref_attr_name.startswith("type:"):
        return {t.name or "value0": dtype_of(t.data_type, what) for t in attribute.tensors[:1]}
    if attribute.tensors:
        named = enumerate(attribute.tensors, 0 if len(attribute.tensors) == 1 else 1)
        return {t.name or f"value{i}": array_of(t, what) for i, t in named}
    listed: list[Constant] = [
        *attribute.ints, *attribute.floats, *attribute.doubles,
        *(s.decode("utf-8", "replace") for s in attribute.strings),
    ]  # fmt: skip
    single: list[Constant] = [
        attribute.s.decode("utf-8", "replace") if field == "s" else getattr(attribute, field)
        for field in ("i", "f", "d", "s")
        if attribute.HasField(field)
    ]
    if attribute.type == _BOOL_ATTRIBUTE:
        listed, single = [bool(v) for v in listed], [bool(v) for v in single]
    numbered = {f"value{i}": v for i, v in enumerate(listed, 1)}
    return {"value0": single[0], **numbered} if single else numbered


def tensor_values(attribute: mindir_pb2.LegacyAttributeProto, what: str) -> dict[str, Constant]:
    """Return the elements of an attribute of 1.0 under the names of their tensors."""
    if attribute.ref_attr_name.startswith("type:"):
        return {t.name or "value0": dtype_of(t.data_type, what) for t in attribute.tensors[:1]}
    whole = attribute.ref_attr_name.startswith("tensor:")
    return {t.name: _element(t, whole, what) for t in attribute.tensors}


def _element(tensor: mindir_pb2.LegacyTensorProto, whole: bool, what: str) -> Constant:
    if tensor.data_type == _TEXT:
        return b"".join(tensor.string_data).decode("utf-8", "replace")
    found = array_of(tensor, what)
    if whole or found.shape:
        return found
    single: bool | int | float = found.item()
    return single
