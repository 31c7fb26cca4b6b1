"""What to say where instances have other axes, or are more, than a model takes.

A model that was exported with a fixed first axis runs one request at a time, with whole tensors.
"""

from __future__ import annotations

from serving.errors import InvalidRequest
from serving.frontends.plan import InputPlan, Plan
from serving.request import Description
from serving.tensor import shape_text

_ONE_ROW = "an instance is one row: leave the batch axis out, or send 'inputs' with whole tensors"
_EXPORT = "export it with a dynamic batch axis"


def fix(shape: tuple[int, ...], item: InputPlan, plan: Plan) -> str:
    """Return what helps who sent an instance with one axis too many or too few, or nothing."""
    dims = item.row
    if dims is None or plan.description.method:
        return ""
    if item.axis is not None:
        return _ONE_ROW if len(shape) == len(dims) + 1 else ""
    if plan.description.batch.batched or len(shape) != len(dims) - 1:
        return ""
    whole = f"an instance is the whole tensor {shape_text(dims)}: put one more [ ] around it"
    if isinstance(dims[0], int):
        return f"the model is frozen to batch {dims[0]}, so {whole}; or {_EXPORT}"
    return f"the model has no batch axis, so {whole}"


def check_count(count: int, description: Description) -> None:
    """Raise InvalidRequest unless so many instances, stacked, are the first axis of every input.

    ``description`` is that of a servable without a batch axis, as it is.
    """
    for spec in description.signature.inputs:
        batch = spec.shape[0] if spec.shape else None
        if not isinstance(batch, int) or batch == count:
            continue
        frozen = f"the model is frozen to batch {batch}"
        one_by_one = "send them one by one" if batch == 1 else f"send {batch} at a time"
        raise InvalidRequest(
            f"the model takes {batch} instance{'' if batch == 1 else 's'} at a time",
            code="wrong_shape",
            where="instances",
            expected=str(batch),
            given=str(count),
            fix=f"{one_by_one} ({frozen}), or {_EXPORT}",
        )
