"""One V2 call over REST: what was asked for, and how its answer is written.

The answer is JSON; outputs that were wanted as binary data follow it as raw tensors, and
``Inference-Header-Content-Length`` says where they begin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from serving.errors import InvalidRequest
from serving.frontends import raw_tensor
from serving.frontends.rest import json_answer
from serving.frontends.rest.wire import Reply
from serving.request import Description, InferRequest, InferResponse
from serving.tensor import BYTES, Tensor

HEADER_LENGTH = b"inference-header-content-length"
_BINARY = b"application/octet-stream"


class V2Call(NamedTuple):
    """A decoded inference request, and which of its outputs are wanted as binary data."""

    description: Description
    request: InferRequest
    id: str
    binary_default: bool
    binary: Mapping[str, bool]

    @property
    def requests(self) -> tuple[InferRequest, ...]:
        """The one request."""
        return (self.request,)

    @property
    def encodes_fast(self) -> bool:
        """Whether all outputs are binary, and none are strings: then they are only copied."""
        return all(
            self.binary.get(spec.name, self.binary_default) and spec.dtype is not BYTES
            for spec in self.description.signature.outputs
            if self.request.outputs is None or spec.name in self.request.outputs
        )

    def encode(self, responses: Sequence[InferResponse]) -> Reply:
        """Write the answer: JSON, followed by the outputs that were wanted as binary data.

        Raises InvalidRequest for a string that JSON cannot hold.
        """
        (response,) = responses
        outputs: list[dict[str, Any]] = []
        tail: list[bytes | memoryview] = []
        for tensor in response.outputs:
            output: dict[str, Any] = {
                "name": tensor.name,
                "datatype": tensor.dtype.name,
                "shape": list(tensor.shape),
            }
            if self.binary.get(tensor.name, self.binary_default):
                data = raw_tensor.write(tensor)
                output["parameters"] = {"binary_data_size": len(data)}
                tail.append(data)
            else:
                output["data"] = _json_data(tensor)
            outputs.append(output)
        answer: dict[str, Any] = {
            "model_name": response.servable,
            "model_version": str(response.version),
        }
        if self.id:
            answer["id"] = self.id
        if response.parameters:
            answer["parameters"] = response.parameters
        answer["outputs"] = outputs
        head = json_answer.dumps(answer)
        if not tail:
            return Reply(head)
        length = (HEADER_LENGTH, b"%d" % len(head))
        return Reply(b"".join([head, *tail]), _BINARY, (length,))


def _json_data(tensor: Tensor) -> Any:
    """Return the elements in C order, flat."""
    if tensor.array is not None:
        return json_answer.plain(json_answer.numbers(tensor).reshape(-1))
    try:
        return [item.decode() for item in tensor.items or ()]
    except UnicodeDecodeError:
        raise InvalidRequest(
            f"output {tensor.name!r} holds bytes that JSON text cannot",
            code="not_text",
            where=f"outputs.{tensor.name}",
            fix='ask for it as binary data: "parameters": {"binary_data": true}',
        ) from None
