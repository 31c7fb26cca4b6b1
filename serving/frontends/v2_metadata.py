"""The metadata documents of V2: what the server is, and what a model takes and gives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from serving import __version__
from serving.dataplane import DataPlane
from serving.frontends.method import example, is_usual, split
from serving.request import Description, VersionName
from serving.tensor import TensorSpec

NAME = "serving"
EXTENSIONS = (
    "binary_tensor_data", "classification", "model_configuration", "model_repository", "parameters",
    "schedule_policy", "statistics",
)  # fmt: skip


def server_metadata(*more: str) -> dict[str, Any]:
    """Return the answer to ``GET /v2``; ``more`` are extensions that are not always offered."""
    return {"name": NAME, "version": __version__, "extensions": [*EXTENSIONS, *more]}


def model_document(
    plane: DataPlane, model: str, version: VersionName | None = None
) -> dict[str, Any]:
    """Return the answer to ``GET /v2/models/{model}``; raises NotFound and Unavailable.

    A servable's methods are models by the name ``servable:method``. The servable itself names them
    as ``methods``, each with its inputs and outputs; its own inputs and outputs are those of the
    method that need not be named, if there is such a one.
    """
    servable, method = split(model)
    names = () if method is not None else plane.methods(servable, version)
    if not names:
        return model_metadata(plane.describe(servable, version, method), model)
    methods = [plane.describe(servable, version, name) for name in names]
    usual = next((m for m in methods if is_usual(m)), None)
    document = model_metadata(usual or methods[0], model)
    if usual is None:
        document |= {"inputs": [], "outputs": []}
    document["methods"] = [{"name": m.method, **_signature(m)} for m in methods]
    return document


def model_metadata(description: Description, model: str) -> dict[str, Any]:
    """Return the metadata of a model itself, or of one method, under the name ``model``.

    An input or output that may be of any type has the datatype ANY, which V2 does not know. Sizes
    that vary are -1, the batch axis among them; a tensor of unknown rank is ``[-1]``.
    Over the specification, ``properties`` says (as strings) whether requests are batched, what
    proved it or why not, and how many rows fit one batch; ``example``, where the servable's
    folder has one, is a body of ``POST /predict`` and what its answer must hold. ``labels`` are
    what versions can be asked for by, where there are any.
    """
    batch = description.batch
    found = example(description)
    return {
        "name": model,
        "versions": [str(v) for v in description.versions or (description.version,)],
        "platform": description.platform,
        **_signature(description),
        "properties": {
            "version": str(description.version),
            "batched": "true" if batch.batched else "false",
            "batch_reason": batch.reason,
            "max_batch_size": str(description.max_batch_size),
        },
        **({} if found is None else {"example": found}),
        **({"labels": dict(description.labels)} if description.labels else {}),
    }


def _signature(description: Description) -> dict[str, Any]:
    signature, batch = description.signature, description.batch
    return {
        "inputs": _tensors(signature.inputs, batch.inputs if batch.batched else ()),
        "outputs": _tensors(signature.outputs, batch.outputs if batch.batched else ()),
    }


def model_config(description: Description, model: str) -> dict[str, Any]:
    """Return the answer to ``GET /v2/models/{model}/config``: Triton's model configuration."""
    return {**description.details["config"], "name": model}


def _tensors(specs: Iterable[TensorSpec], axes: tuple[int | None, ...]) -> list[dict[str, Any]]:
    return [
        {
            "name": spec.name,
            "datatype": spec.dtype.name,
            "shape": _shape(spec, axes[i] if i < len(axes) else None),
        }
        for i, spec in enumerate(specs)
    ]


def _shape(spec: TensorSpec, axis: int | None) -> list[int]:
    if spec.shape is None:
        return [-1]
    return [dim if isinstance(dim, int) and i != axis else -1 for i, dim in enumerate(spec.shape)]
