"""Read Triton's raw binary request: the whole body is the elements of the one input."""

from __future__ import annotations

from serving.errors import InvalidRequest, listing
from serving.frontends import raw_tensor
from serving.frontends.plan import InputPlan, plan_for
from serving.request import Description
from serving.tensor import BYTES, Tensor, element_count


def read(description: Description, body: bytes) -> Tensor:
    """Return the one input, a view of ``body``; its shape follows from the size.

    Raises InvalidRequest where it does not follow.
    """
    specs = description.signature.inputs
    plans = plan_for(description).inputs
    shape = _shape(plans[0], len(body)) if len(plans) == 1 else None
    if shape is None:
        raise InvalidRequest(
            "a body without JSON is only understood for one input with at most one free size",
            code="bad_header_length",
            where="header Inference-Header-Content-Length",
            given=listing([f"{spec.name} {spec.text()}" for spec in specs]),
            fix="describe the tensors in a JSON part, and give its length",
        )
    spec = specs[0]
    value = raw_tensor.read(memoryview(body), spec.dtype, shape, spec.name, f"inputs.{spec.name}")
    return Tensor(spec.name, spec.dtype, shape, value.array, value.items)


def _shape(plan: InputPlan, size: int) -> tuple[int, ...] | None:
    """Return the shape of ``size`` bytes: one row, or as many as fit when a row has no free size.

    None when the shape does not follow.
    """
    spec, axis, dims = plan.spec, plan.axis, plan.whole
    if dims is None:
        return None
    free = [i for i, dim in enumerate(dims) if isinstance(dim, str)]
    if axis is not None and len(free) == 2:
        dims = (*dims[:axis], 1, *dims[axis + 1 :])
        free.remove(axis)
    known = element_count([dim for dim in dims if isinstance(dim, int)])
    if spec.dtype is BYTES:
        return tuple(dim if isinstance(dim, int) else 1 for dim in dims) if known == 1 else None
    if len(free) > 1 or (free and not known):
        return None
    count = size // spec.dtype.itemsize
    return tuple(dim if isinstance(dim, int) else count // known for dim in dims)
