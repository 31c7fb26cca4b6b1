"""What a servable takes and gives, as the signatures that ``GetModelMetadata`` tells of.

Source: SignatureDef and TensorInfo in tensorflow/core/protobuf/meta_graph.proto, in the form that
protobuf gives them in JSON.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from serving.dataplane import DataPlane
from serving.frontends.method import is_usual
from serving.frontends.plan import plan_for
from serving.frontends.tensorflow import types
from serving.frontends.tensorflow.target import DEFAULT_SIGNATURE, Target
from serving.request import Description
from serving.tensor import TensorSpec

FIELD = "signature_def"
"""The one metadata field there is."""

_METHOD_NAME = "tensorflow/serving/predict"


class Signatures(NamedTuple):
    """The signatures of a version by name, each a SignatureDef."""

    version: int
    by_name: dict[str, Any]


def signatures(plane: DataPlane, target: Target) -> Signatures:
    """Return what a servable's methods take and give; a model has the default signature alone.

    A method that need not be named is told twice, by its name and as the default. Raises NotFound
    and Unavailable.
    """
    methods = plane.methods(target.servable, target.version)
    if not methods:
        known = target.described(plane.describe)
        return Signatures(known.version, {DEFAULT_SIGNATURE: _definition(known)})
    found = {name: plane.describe(target.servable, target.version, name) for name in methods}
    by_name = {name: _definition(known) for name, known in found.items()}
    for name, known in found.items():
        if is_usual(known):
            by_name[DEFAULT_SIGNATURE] = by_name[name]
    return Signatures(next(iter(found.values())).version, by_name)


def _definition(description: Description) -> dict[str, Any]:
    plan = plan_for(description)
    return {
        "inputs": _infos((item.spec, item.axis) for item in plan.inputs),
        "outputs": _infos((item.spec, item.axis) for item in plan.outputs.values()),
        "method_name": _METHOD_NAME,
    }


def _infos(tensors: Iterable[tuple[TensorSpec, int | None]]) -> dict[str, Any]:
    return {
        spec.name: {
            "name": spec.name,
            "dtype": types.name_of(spec.dtype),
            "tensor_shape": _shape(spec, axis),
        }
        for spec, axis in tensors
    }


def _shape(spec: TensorSpec, axis: int | None) -> dict[str, Any]:
    dims = [
        {
            "size": str(dim) if isinstance(dim, int) and place != axis else "-1",
            "name": dim if isinstance(dim, str) else "",
        }
        for place, dim in enumerate(spec.shape or ())
    ]
    return {"dim": dims, "unknown_rank": spec.shape is None}
