"""Descriptions of methods for front-end tests, and what they answer."""

from __future__ import annotations

from serving.errors import ExecutionFailed
from serving.request import Description, InferRequest
from serving.tensor import ANY, FP32, BatchAxes, Signature, Tensor, TensorSpec

INSTANCES = BatchAxes(True, "axis 0 counts instances", (0,), (0,))
METHODS = ("echo", "add", "pick")


def method(
    name: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> Description:
    axes = BatchAxes(True, INSTANCES.reason, (0,) * len(inputs), (0,) * len(outputs))
    return Description(
        "kinds", 1, Signature(inputs, outputs), axes, 32, "pipeline",
        versions=(1,), generation=7, method=name, methods=METHODS,
    )  # fmt: skip


ECHO = method("echo", (TensorSpec("x", ANY, None),), (TensorSpec("y", ANY, None),))
ADD = method(
    "add",
    (TensorSpec("x1", FP32, ("", 2)), TensorSpec("x2", FP32, ("", 2))),
    (TensorSpec("y", FP32, ("", 2)),),
)
PICK = method("pick", (TensorSpec("x", ANY, None),), (TensorSpec("y", ANY, None),))
"""Answers with the first instance's value whatever it is; refuses a negative one."""


def answer(request: InferRequest) -> tuple[Tensor, ...]:
    first = request.inputs[0]
    if request.method == "add":
        assert first.array is not None
        assert request.inputs[1].array is not None
        return (Tensor("y", FP32, first.shape, first.array + request.inputs[1].array),)
    if request.method == "pick" and first.array is not None and (first.array < 0).any():
        raise ExecutionFailed("it is negative", code="stage_failed")
    return (Tensor("y", first.dtype, first.shape, first.array, first.items),)
