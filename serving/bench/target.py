"""What is to be measured, learned from a V2 server's metadata: this one's, or another's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.errors import ConfigError, InvalidRequest
from serving.request import Description
from serving.tensor import BY_NAME, BatchAxes, Dim, Signature, TensorSpec


def described(name: str, metadata: Mapping[str, Any], config: Mapping[str, Any]) -> Description:
    """Return a model as ``GET /v2/models/{name}`` and ``.../config`` describe it.

    Of a server that says nothing of batching in the metadata, ``max_batch_size`` of its
    configuration does. Raises InvalidRequest for a document that is no metadata.
    """
    try:
        inputs = tuple(_spec(item) for item in metadata["inputs"])
        outputs = tuple(_spec(item) for item in metadata["outputs"])
        most = int(metadata.get("properties", {}).get("max_batch_size", 0)) or int(
            config.get("max_batch_size", 0)
        )
        versions = tuple(int(v) for v in metadata.get("versions", ()) if str(v).isdigit())
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InvalidRequest(
            f"what the server says of {name!r} is no V2 metadata", code="bad_answer"
        ) from None
    said = metadata.get("properties", {}).get("batched")
    batched = said == "true" if said is not None else most > 0
    axes = BatchAxes(
        batched,
        "as the server says",
        tuple(_axis(spec, batched) for spec in inputs),
        tuple(_axis(spec, batched) for spec in outputs),
    )
    example = metadata.get("example")
    return Description(
        servable=name,
        version=max(versions, default=1),
        signature=Signature(inputs, outputs),
        batch=axes,
        max_batch_size=most,
        platform=str(metadata.get("platform", "")),
        versions=versions,
        details={} if example is None else {"example": example},
    )


def _spec(item: Mapping[str, Any]) -> TensorSpec:
    dtype = BY_NAME.get(str(item["datatype"]))
    if dtype is None:
        raise ConfigError(
            f"tensor {item['name']!r} is of type {item['datatype']}, which cannot be sent",
            code="bad_input",
            expected=", ".join(BY_NAME),
        )
    shape: tuple[Dim, ...] = tuple("" if int(d) < 0 else int(d) for d in item["shape"])
    return TensorSpec(str(item["name"]), dtype, shape)


def _axis(spec: TensorSpec, batched: bool) -> int | None:
    return 0 if batched and spec.shape else None
