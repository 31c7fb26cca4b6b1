"""Descriptions of servables that the tests of the REST side decode against."""

from __future__ import annotations

from serving.errors import NotFound
from serving.frontends.method import Describe
from serving.request import Description, InferRequest, InferResponse
from serving.tensor import BatchAxes, DType, Signature, Tensor, TensorSpec

NOW = 1000.0


def spec(name: str, dtype: DType, *shape: int | str, json: bool = False) -> TensorSpec:
    return TensorSpec(name, dtype, shape, json)


def describe_as(
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...] | None = None,
    *,
    batched: bool = True,
    axes: tuple[int | None, ...] | None = None,
    out_axes: tuple[int | None, ...] | None = None,
    max_batch_size: int = 32,
    name: str = "m",
) -> Description:
    outputs = inputs if outputs is None else outputs
    batch = BatchAxes.refused("no batch axis")
    if batched:
        batch = BatchAxes(
            True,
            "asserted",
            axes if axes is not None else (0,) * len(inputs),
            out_axes if out_axes is not None else (0,) * len(outputs),
        )
    return Description(
        name, 3, Signature(inputs, outputs), batch, max_batch_size, "stub", versions=(1, 3)
    )


def only(description: Description) -> Describe:
    """Describe one servable, as the data plane does."""

    def describe(servable: str | None, version: int | None, method: str | None) -> Description:
        if servable not in (None, description.servable):
            raise NotFound(f"servable {servable!r} is not served here", code="unknown_servable")
        if version is not None and version not in description.versions:
            raise NotFound(f"no version {version}", code="unknown_version")
        if method not in (None, description.method or "predict"):
            raise NotFound(f"no method {method}", code="unknown_method", where="method")
        return description

    return describe


def answer(request: InferRequest, outputs: tuple[Tensor, ...] | None = None) -> InferResponse:
    """Answer with the inputs, or with the given outputs."""
    return InferResponse(
        request.servable, 3, request.id, request.inputs if outputs is None else outputs
    )
