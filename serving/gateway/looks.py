"""All of a request or a response but its id and its values, as bytes: the same for many.

Both sides remember what they have written or read, so that a servable's requests cost one look-up;
but not what is long, which a client may fill with names, or an id of a sequence, of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from serving.request import InferRequest, InferResponse, VersionName
from serving.tensor import BY_CODE, DType, Tensor

_MOST = 1024
_LONGEST_BYTES = 4096

T = TypeVar("T")


class Spec(NamedTuple):
    """Name, type and shape of a tensor."""

    name: str
    dtype: DType
    shape: tuple[int, ...]


class RequestLook(NamedTuple):
    """What a request asks for, and what its inputs look like."""

    servable: str
    version: VersionName | None
    method: str | None
    outputs: tuple[str, ...] | None
    sequence: str
    parameters: Mapping[str, Any]
    specs: tuple[Spec, ...]


class ResponseLook(NamedTuple):
    """Who answers, what outputs look like, and which are ``stored`` where the client wants them."""

    servable: str
    version: int
    parameters: Mapping[str, Any]
    specs: tuple[Spec, ...]
    stored: tuple[str, ...]


class Writer:
    """Turns looks into bytes. One for each side of a stream."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], bytes] = {}

    def request(self, request: InferRequest) -> bytes:
        """Return the look of a request."""
        if request.parameters:
            return _bytes_of(_request(request))
        key = (
            request.servable, request.version, request.method, request.outputs, request.sequence,
            *[(t.name, t.dtype.code, t.shape) for t in request.inputs],
        )  # fmt: skip
        found = self._known.get(key)
        return self._keep(key, _request(request)) if found is None else found

    def response(self, response: InferResponse) -> bytes:
        """Return the look of a response."""
        if response.parameters:
            return _bytes_of(_response(response))
        key = (
            response.servable, response.version, response.stored,
            *[(t.name, t.dtype.code, t.shape) for t in response.outputs],
        )  # fmt: skip
        found = self._known.get(key)
        return self._keep(key, _response(response)) if found is None else found

    def _keep(self, key: tuple[object, ...], look: list[Any]) -> bytes:
        found = _bytes_of(look)
        if len(found) <= _LONGEST_BYTES:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = found
        return found


class Reader:
    """Reads looks again. One for each side of a stream; raises ValueError for what is none."""

    def __init__(self) -> None:
        self._requests: dict[bytes, RequestLook] = {}
        self._responses: dict[bytes, ResponseLook] = {}

    def request(self, data: bytes) -> RequestLook:
        """Return the look of a request."""
        found = self._requests.get(data)
        if found is None:
            servable, version, method, outputs, sequence, parameters, specs = _values(data, 7)
            found = RequestLook(
                servable, version, method, None if outputs is None else tuple(outputs),
                sequence, parameters, _specs(specs),
            )  # fmt: skip
            _keep(self._requests, data, found)
        return found

    def response(self, data: bytes) -> ResponseLook:
        """Return the look of a response."""
        found = self._responses.get(data)
        if found is None:
            servable, version, parameters, specs, stored = _values(data, 5)
            found = ResponseLook(servable, version, parameters, _specs(specs), tuple(stored))
            _keep(self._responses, data, found)
        return found


def _keep(known: dict[bytes, T], data: bytes, found: T) -> None:
    if len(data) <= _LONGEST_BYTES:
        if len(known) >= _MOST:
            known.clear()
        known[data] = found


def _request(request: InferRequest) -> list[Any]:
    return [
        request.servable, request.version, request.method, request.outputs, request.sequence,
        dict(request.parameters), _told(request.inputs),
    ]  # fmt: skip


def _response(response: InferResponse) -> list[Any]:
    return [
        response.servable, response.version, response.parameters, _told(response.outputs),
        response.stored,
    ]  # fmt: skip


def _told(tensors: Sequence[Tensor]) -> list[list[Any]]:
    return [[t.name, t.dtype.code, t.shape] for t in tensors]


def _bytes_of(look: list[Any]) -> bytes:
    return json.dumps(look).encode()


def _values(data: bytes, count: int) -> list[Any]:
    values = json.loads(data)
    if not isinstance(values, list) or len(values) != count:
        raise ValueError("this is no look")
    return values


def _specs(values: list[Any]) -> tuple[Spec, ...]:
    try:
        return tuple([Spec(name, BY_CODE[code], tuple(shape)) for name, code, shape in values])
    except (LookupError, TypeError) as error:
        raise ValueError(f"a look of unknown types: {error}") from error
