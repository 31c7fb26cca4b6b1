"""The metadata documents of V2: what the server is, and what a model takes and gives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from serving import __version__
from serving.request import Description
from serving.tensor import TensorSpec

NAME = "serving"
EXTENSIONS = (
    "binary_tensor_data", "model_configuration", "model_repository", "parameters",
    "schedule_policy", "statistics",
)  # fmt: skip


def server_metadata() -> dict[str, Any]:
    """Return the answer to ``GET /v2``."""
    return {"name": NAME, "version": __version__, "extensions": list(EXTENSIONS)}


def model_metadata(description: Description) -> dict[str, Any]:
    """Return the answer to ``GET /v2/models/{name}``.

    Sizes that vary are -1, the batch axis among them; a tensor of unknown rank is ``[-1]``.
    Over the specification, ``properties`` says (as strings) whether requests are batched, what
    proved it or why not, and how many rows fit one batch; ``example``, where the servable's
    folder has one, is a body of ``POST /predict`` and what its answer must hold.
    """
    signature, batch = description.signature, description.batch
    example = description.details.get("example")
    return {
        "name": description.servable,
        "versions": [str(v) for v in description.versions or (description.version,)],
        "platform": description.platform,
        "inputs": _tensors(signature.inputs, batch.inputs if batch.batched else ()),
        "outputs": _tensors(signature.outputs, batch.outputs if batch.batched else ()),
        "properties": {
            "version": str(description.version),
            "batched": "true" if batch.batched else "false",
            "batch_reason": batch.reason,
            "max_batch_size": str(description.max_batch_size),
        },
        **({} if example is None else {"example": example}),
    }


def model_config(description: Description) -> dict[str, Any]:
    """Return the answer to ``GET /v2/models/{name}/config``: Triton's model configuration."""
    config: dict[str, Any] = description.details["config"]
    return config


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
