"""The claim that the walk sets out to prove: axis 0 of every input that has axes is the batch."""

from __future__ import annotations

import re

import onnx

from serving.errors import listing
from serving.formats.batch_axis.size import Kind, Size, Symbol
from serving.formats.batch_axis.step import Refusal
from serving.formats.batch_axis.value import Rows, Value

_MADE_UP = re.compile(
    r"|\?|-1|None|unk__\d+|unknown\w*|p2o\.DynamicDimension\.\d+|.*dynamic_axes_\d+"
)
"""Names that exporters give to an axis when nobody named it; they say nothing."""

_NUMBERED = re.compile(r"[su]\d+")
"""PyTorch's own names: one name is one length, but two may well be of one length, too.

They are where every output is made of all of them: see ``ties``.
"""


def real_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs that a caller gives (older files list their constants as well)."""
    constants = {t.name for t in graph.initializer}
    constants |= {t.values.name for t in graph.sparse_initializer}
    return [i for i in graph.input if i.name not in constants]


def fixed_length(dim: onnx.TensorShapeProto.Dimension) -> int | None:
    """Return an axis' length; ``None`` if it varies, which some exporters write as -1."""
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return int(dim.dim_value)
    return None


def numbered_axes(graph: onnx.GraphProto) -> dict[str, str]:
    """Return the names of inputs' first axes that are PyTorch's own, by input."""
    found = {}
    for info in real_inputs(graph):
        axes = info.type.tensor_type.shape.dim
        if axes and _NUMBERED.fullmatch(axes[0].dim_param):
            found[info.name] = axes[0].dim_param
    return found


def claimed_inputs(graph: onnx.GraphProto) -> dict[str, Value]:
    """Return every input with the batch in axis 0 (none for scalars); raises ``Refusal``."""
    values: dict[str, Value] = {}
    names: dict[str, str] = {}
    for info in real_inputs(graph):
        values[info.name] = _claimed(info, names)
    if not any(v.rows is not None for v in values.values()):
        raise Refusal("no input has an axis that could count the rows of a batch")
    if len(set(names.values())) > 1:
        told = " and ".join(f"'{axis}' ({name})" for name, axis in names.items())
        raise Refusal(f"the inputs name their first axes differently: {told}")
    return values


def _claimed(info: onnx.ValueInfoProto, names: dict[str, str]) -> Value:
    if info.type.WhichOneof("value") != "tensor_type":
        raise Refusal(f"input '{info.name}' is not a tensor")
    if not info.type.tensor_type.HasField("shape"):
        raise Refusal(f"input '{info.name}' has no declared rank")
    axes = info.type.tensor_type.shape.dim
    if not axes:
        return Value(())
    first = axes[0]
    if fixed_length(first) is not None:
        raise Refusal(f"the first axis of input '{info.name}' is fixed at {first.dim_value}")
    name = first.dim_param
    if not _MADE_UP.fullmatch(name):
        if not _NUMBERED.fullmatch(name):
            names[info.name] = name
        same = [i for i, axis in enumerate(axes) if i and axis.dim_param == name]
        if same:
            places = listing([0, *same])
            raise Refusal(f"input '{info.name}' gives its axes {places} one name, '{name}'")
    dims = [_dim(info.name, i, axis) for i, axis in enumerate(axes)]
    rows = Rows(0)
    return Value((rows.size, *dims[1:]), rows)


def _dim(name: str, axis: int, dim: onnx.TensorShapeProto.Dimension) -> Size:
    # Equal names on different inputs prove nothing: the engine does not compare their lengths.
    length = fixed_length(dim)
    if length is not None:
        return Size(length)
    return Size.of(Symbol(f"{name!r}#{axis}", Kind.SIZE))
