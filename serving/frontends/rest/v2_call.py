"""One V2 call over REST: what was asked for, and how its answer is written.

The answer is JSON; outputs that were wanted as binary data follow it as raw tensors, and
``Inference-Header-Content-Length`` says where they begin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from serving.errors import InvalidRequest, ServingError
from serving.frontends import raw_tensor
from serving.frontends.classification import Classes
from serving.frontends.rest import json_answer, v2_answer
from serving.frontends.rest.wire import Reply
from serving.frontends.shared_memory.sharing import ON_LOOP_BYTES, Shared, Sharing
from serving.request import Description, InferRequest, InferResponse
from serving.tensor import Tensor

HEADER_LENGTH = b"inference-header-content-length"
_BINARY = b"application/octet-stream"


class V2Call(NamedTuple):
    """A decoded inference request, and which of its outputs are wanted as binary data.

    ``model`` is the name that was asked for. ``sharing`` is what was said of tensors in shared
    memory; before the call runs, ``SharedCalls`` puts ``shared`` in its place.
    """

    model: str
    description: Description
    request: InferRequest
    id: str
    binary_default: bool
    binary: Mapping[str, bool]
    classes: Classes | None = None
    sharing: Sharing | None = None
    shared: Shared | None = None

    @property
    def requests(self) -> tuple[InferRequest, ...]:
        """The one request."""
        return (self.request,)

    @property
    def encodes_fast(self) -> bool:
        """Whether all outputs are binary, and none are strings: then they are only copied."""
        stored: Mapping[str, Any] = {}
        if self.classes is not None:
            return False
        if self.shared is not None:
            if self.shared.output_bytes > ON_LOOP_BYTES:
                return False
            stored = self.shared.outputs
        return all(
            (spec.name in stored or self.binary.get(spec.name, self.binary_default))
            and not spec.dtype.is_bytes
            for spec in self.description.signature.outputs
            if self.request.outputs is None or spec.name in self.request.outputs
        )

    def failed(self, _index: int, error: ServingError) -> ServingError:
        """Return the error: it is that of the one request."""
        return error

    def encode(self, responses: Sequence[InferResponse]) -> Reply:
        """Write the answer: JSON, followed by the outputs that were wanted as binary data.

        Raises InvalidRequest for a string that JSON cannot hold, and for an output that does not
        fit its place in shared memory.
        """
        (response,) = responses
        if self.classes is not None:
            response = self.classes.of(response)
        if self.shared is None and response.outputs:
            written = v2_answer.write(
                self.model, self.id, response, self.binary, self.binary_default
            )
            if written is not None:
                return _reply(*written)
        stored: dict[str, dict[str, str | int]] = {}
        if self.shared is not None:
            stored = _without_data(self.shared.store(response.outputs, response.stored))
            if len(stored) == len(response.outputs) and not (self.id or response.parameters):
                return Reply(v2_answer.write_stored(self.model, response, stored))
        outputs: list[dict[str, Any]] = []
        tail: list[bytes | memoryview] = []
        for tensor in response.outputs:
            output: dict[str, Any] = {
                "name": tensor.name,
                "datatype": "BYTES" if tensor.array is None else tensor.dtype.name,
                "shape": list(tensor.shape),
            }
            if stored and tensor.name in stored:
                output["parameters"] = stored[tensor.name]
            elif self.binary.get(tensor.name, self.binary_default):
                data = raw_tensor.write(tensor)
                output["parameters"] = {"binary_data_size": len(data)}
                tail.append(data)
            else:
                output["data"] = _json_data(tensor)
            outputs.append(output)
        answer: dict[str, Any] = {
            "model_name": self.model,
            "model_version": str(response.version),
        }
        if self.id:
            answer["id"] = self.id
        if response.parameters:
            answer["parameters"] = response.parameters
        answer["outputs"] = outputs
        return _reply(json_answer.dumps(answer), tail)


def _without_data(
    stored: Mapping[str, Mapping[str, str | int]],
) -> dict[str, dict[str, str | int]]:
    """Return parameters that say as well that no binary data follow.

    Triton's C++ client insists on a size wherever there are parameters.
    """
    return {name: {**told, "binary_data_size": 0} for name, told in stored.items()}


def _reply(head: bytes, tail: Sequence[bytes | memoryview]) -> Reply:
    """Return the reply of a JSON part and the binary data behind it, if there is any."""
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
