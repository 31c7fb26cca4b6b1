"""Whether a request fits the signature, how many rows it brings, and who may share with it.

Pure. The checks are made once for each combination of names, dtypes and shapes; requests that
look the same again take the remembered verdict.
"""

from __future__ import annotations

from dataclasses import dataclass

from serving.channel.layout import FieldShape
from serving.errors import InvalidRequest, did_you_mean, listing
from serving.request import Description, InferRequest
from serving.tensor import Dim, Tensor, TensorSpec, element_count, shape_text

Look = tuple[object, ...]
"""Names, dtypes and shapes of a request: everything but its values."""


@dataclass(frozen=True)
class Admission:
    """The verdict on a request's look.

    ``order[i]`` is where input i of the signature stands in the request, None if they stand in
    its order. ``fields`` are the shapes of single rows, equal for all requests that may share a
    batch; ``shared`` are the positions (in signature order) of the inputs that all rows have in
    common. ``outputs`` are the positions of the wanted ones, None for all in their order.
    ``nbytes`` are those of the numbers; strings have as many as they have.
    """

    rows: int
    order: tuple[int, ...] | None
    fields: tuple[FieldShape, ...]
    shared: tuple[int, ...]
    outputs: tuple[int, ...] | None
    nbytes: int
    has_strings: bool

    def ordered(self, request: InferRequest) -> tuple[Tensor, ...]:
        """Return the inputs of a request of this look in the signature's order."""
        given, order = request.inputs, self.order
        return given if order is None else tuple([given[i] for i in order])


def look(request: InferRequest) -> Look:
    """Return what a verdict depends on."""
    return (
        request.outputs,
        *[(tensor.name, tensor.dtype.code, tensor.shape) for tensor in request.inputs],
    )


def admit(request: InferRequest, description: Description) -> Admission:
    """Check a request against the signature; raises InvalidRequest naming the first fault."""
    order = order_of(request, description)
    tensors = [request.inputs[i] for i in order]
    outputs = outputs_of(request, description)
    specs = description.signature.inputs
    sizes: dict[str, tuple[int, str]] = {}
    axes = description.batch.inputs if description.batch.batched else (None,) * len(specs)
    for spec, tensor, axis in zip(specs, tensors, axes, strict=True):
        _check_tensor(tensor, spec, axis, sizes)
    rows = _rows(tensors, axes)
    fields = tuple(
        FieldShape(spec.dtype, _without(tensor.shape, axis), axis)
        for spec, tensor, axis in zip(specs, tensors, axes, strict=True)
    )
    batched = description.batch.batched
    shared = tuple(i for i, axis in enumerate(axes) if axis is None) if batched else ()
    return Admission(
        rows,
        None if order == tuple(range(len(specs))) else order,
        fields,
        shared,
        None if outputs == tuple(range(len(description.signature.outputs))) else outputs,
        sum(element_count(t.shape) * t.dtype.itemsize for t in tensors if not t.dtype.is_bytes),
        any(t.dtype.is_bytes for t in tensors),
    )


def order_of(request: InferRequest, description: Description) -> tuple[int, ...]:
    """Return where each input of the signature stands in a request; raises InvalidRequest."""
    names = [spec.name for spec in description.signature.inputs]
    places: dict[str, int] = {}
    for index, tensor in enumerate(request.inputs):
        if tensor.name not in names:
            raise InvalidRequest(
                f"servable {description.servable!r} has no input {tensor.name!r}",
                code="unknown_input",
                where=f"inputs.{tensor.name}",
                expected=f"inputs {listing(names)}",
                fix=did_you_mean(tensor.name, names),
            )
        if tensor.name in places:
            raise InvalidRequest(
                f"input {tensor.name!r} is given twice",
                code="duplicate_input",
                where=f"inputs.{tensor.name}",
            )
        places[tensor.name] = index
    missing = [name for name in names if name not in places]
    if missing:
        raise InvalidRequest(
            f"servable {description.servable!r} needs input {missing[0]!r}",
            code="missing_input",
            where=f"inputs.{missing[0]}",
            expected=f"inputs {listing(names)}",
            given=listing(places) if places else "none",
        )
    return tuple(places[name] for name in names)


def outputs_of(request: InferRequest, description: Description) -> tuple[int, ...]:
    """Return the places of the wanted outputs in the signature; raises InvalidRequest."""
    names = [spec.name for spec in description.signature.outputs]
    if request.outputs is None:
        return tuple(range(len(names)))
    if len(set(request.outputs)) != len(request.outputs):
        raise InvalidRequest(
            "an output is asked for twice", code="duplicate_output", where="outputs"
        )
    chosen = []
    for name in request.outputs:
        if name not in names:
            raise InvalidRequest(
                f"servable {description.servable!r} has no output {name!r}",
                code="unknown_output",
                where=f"outputs.{name}",
                expected=f"outputs {listing(names)}",
                fix=did_you_mean(name, names),
            )
        chosen.append(names.index(name))
    return tuple(chosen)


def _check_tensor(
    tensor: Tensor, spec: TensorSpec, axis: int | None, sizes: dict[str, tuple[int, str]]
) -> None:
    if tensor.dtype is not spec.dtype:
        raise InvalidRequest(
            f"input {spec.name!r} has the wrong data type",
            code="wrong_dtype",
            where=f"inputs.{spec.name}",
            expected=spec.dtype.name,
            given=tensor.dtype.name,
        )
    if spec.shape is None:
        if axis is not None and len(tensor.shape) <= axis:
            raise InvalidRequest(
                f"input {spec.name!r} has the wrong number of axes",
                code="wrong_rank",
                where=f"inputs.{spec.name}",
                expected=f"an axis {axis}, which counts the rows",
                given=f"shape {shape_text(tensor.shape)}",
            )
        return
    if len(tensor.shape) != len(spec.shape):
        raise InvalidRequest(
            f"input {spec.name!r} has the wrong number of axes",
            code="wrong_rank",
            where=f"inputs.{spec.name}",
            expected=f"shape {shape_text(spec.shape)}",
            given=f"shape {shape_text(tensor.shape)}",
            fix=_rank_hint(tensor.shape, spec.shape, axis),
        )
    for index, (given, wanted) in enumerate(zip(tensor.shape, spec.shape, strict=True)):
        if index != axis:
            _check_dim(tensor, spec, index, given, wanted, sizes)


def _check_dim(
    tensor: Tensor,
    spec: TensorSpec,
    index: int,
    given: int,
    wanted: Dim,
    sizes: dict[str, tuple[int, str]],
) -> None:
    if isinstance(wanted, int):
        if wanted >= 0 and given != wanted:
            raise InvalidRequest(
                f"input {spec.name!r} has size {given} on axis {index}",
                code="wrong_shape",
                where=f"inputs.{spec.name}",
                expected=f"shape {shape_text(spec.shape or ())}",
                given=f"shape {shape_text(tensor.shape)}",
            )
        return
    if not wanted or wanted == "?":
        return
    size, other = sizes.setdefault(wanted, (given, spec.name))
    if size != given:
        raise InvalidRequest(
            f"inputs {other!r} and {spec.name!r} must agree on {wanted!r}",
            code="wrong_shape",
            where=f"inputs.{spec.name}",
            expected=f"size {size} on axis {index}, as in {other!r}",
            given=f"shape {shape_text(tensor.shape)}",
        )


def _rank_hint(given: tuple[int, ...], wanted: tuple[Dim, ...], axis: int | None) -> str:
    if axis is not None and len(given) == len(wanted) - 1:
        return f"axis {axis} counts the rows: one row has shape [1,...]"
    return ""


def _rows(tensors: list[Tensor], axes: tuple[int | None, ...]) -> int:
    rows: int | None = None
    first = ""
    for tensor, axis in zip(tensors, axes, strict=True):
        if axis is None:
            continue
        size = tensor.shape[axis]
        if rows is None:
            rows, first = size, tensor.name
        elif size != rows:
            raise InvalidRequest(
                f"inputs {first!r} and {tensor.name!r} bring different numbers of rows",
                code="wrong_shape",
                where=f"inputs.{tensor.name}",
                expected=f"{rows} rows on axis {axis}, as in {first!r}",
                given=f"{size}",
            )
    if rows == 0:
        raise InvalidRequest(
            "the request holds no rows",
            code="empty_batch",
            where=f"inputs.{first}",
            expected="at least one row",
            given="0",
        )
    return 1 if rows is None else rows


def _without(shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    return shape if axis is None else (*shape[:axis], *shape[axis + 1 :])
