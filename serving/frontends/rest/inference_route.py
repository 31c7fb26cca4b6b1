"""Which wire format a path of an inference route speaks."""

from __future__ import annotations

from typing import Protocol

from serving.errors import ServingError
from serving.frontends.method import Describe
from serving.frontends.rest import (
    ms_route,
    names,
    predict_codec,
    predict_row_form,
    status,
    tf_route,
    v2_codec,
)
from serving.frontends.rest.exchange import Exchange
from serving.frontends.rest.row_form import Cut
from serving.frontends.rest.wire import Call, Headers, Reply

PREDICT = b"/predict"


class WireFormat(Protocol):
    """One route's codec, bound to what its URL says."""

    def decode(self, body: bytes, headers: Headers, describe: Describe, now: float) -> Call:
        """Decode a body; raises a ``ServingError``. May run on another thread."""
        ...

    def decodes_fast(self, size: int, headers: Headers, describe: Describe, /) -> bool:
        """Return whether even a large body is decoded without work per element."""
        ...

    def cut(self, body: bytes, headers: Headers, describe: Describe, /) -> Cut | None:
        """Return what a body, which was decoded, has in common with others but for numbers.

        None for one that has nothing; raises a ``ServingError``.
        """
        ...

    def error(self, error: ServingError, request_id: str) -> Reply:
        """Return the answer to a call that failed."""
        ...

    @property
    def exchange(self) -> type[Exchange]:
        """How its calls are run."""
        ...


def find(raw_path: bytes) -> WireFormat | None:
    """Return the format of an inference route, None for any other path.

    ``raw_path`` is as the client wrote it, without a query. Raises NotFound for a name in it
    that cannot be one.
    """
    if raw_path == PREDICT:
        return _PREDICT
    if raw_path.startswith(tf_route.START):
        return tf_route.find(raw_path)
    found = names.infer_route(raw_path) if raw_path.endswith(b"/infer") else None
    return ms_route.find(raw_path) if found is None else _V2(*found)


class _Predict:
    """``POST /predict``."""

    decode = staticmethod(predict_codec.decode)
    error = staticmethod(status.problem)
    exchange = Exchange

    def decodes_fast(self, _size: int, _headers: Headers, _describe: Describe, /) -> bool:
        return False

    def cut(self, body: bytes, headers: Headers, _describe: Describe, /) -> Cut | None:
        return predict_row_form.cut(body, headers)


_PREDICT = _Predict()


class _V2:
    """``POST /v2/models/{model}[/versions/{version}]/infer``."""

    __slots__ = ("_model", "_version")
    error = staticmethod(status.v2_error)
    exchange = Exchange

    def __init__(self, model: str, version: str | None) -> None:
        self._model = model
        self._version = version

    def decode(self, body: bytes, headers: Headers, describe: Describe, now: float) -> Call:
        return v2_codec.decode(self._model, self._version, body, headers, describe, now)

    def decodes_fast(self, size: int, headers: Headers, describe: Describe, /) -> bool:
        return v2_codec.decodes_fast(self._model, self._version, size, headers, describe)

    def cut(self, body: bytes, headers: Headers, describe: Describe, /) -> Cut | None:
        return v2_codec.cut(self._model, self._version, body, headers, describe)
