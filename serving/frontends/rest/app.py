"""The REST side as one ASGI callable: inference routes first, everything else by FastAPI."""

from __future__ import annotations

from concurrent.futures import Executor

from serving.config import ServerSettings
from serving.dataplane import DataPlane
from serving.errors import NotFound, ServingError
from serving.frontends.rest import names, predict_codec, status, v2_codec
from serving.frontends.rest.asgi import Message, Receive, Scope, Send
from serving.frontends.rest.body import BodyBudget
from serving.frontends.rest.inference import ErrorForm, Inference, WireFormat, echo, send_error
from serving.frontends.rest.routes import build_routes
from serving.frontends.rest.wire import Call, Describe, Headers

MIB = 1 << 20


class RestApp:
    """Dispatches requests; built by ``RestFrontEnd``, called on the event loop by uvicorn.

    ``pool`` runs the decoding and encoding of large messages; its owner shuts it down.
    """

    def __init__(self, plane: DataPlane, settings: ServerSettings, pool: Executor) -> None:
        self.budget = BodyBudget(settings.max_request_mb * MIB, settings.memory_mb * MIB)
        self._inference = Inference(plane, self.budget, pool)
        self._routes = build_routes(plane)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI scope."""
        if scope["type"] == "http":
            path: str = scope["path"]
            if path == "/predict":
                await self._infer(scope, receive, send, _PREDICT)
                return
            if path.endswith("/infer"):
                try:
                    found = names.infer_route(scope["raw_path"])
                except NotFound as error:
                    await _refuse(scope, receive, send, error, status.v2_error)
                    return
                if found is not None:
                    await self._infer(scope, receive, send, _V2(*found))
                    return
        await self._routes(scope, receive, _echoing(scope, send))

    async def _infer(self, scope: Scope, receive: Receive, send: Send, form: WireFormat) -> None:
        if scope["method"] == "POST":
            await self._inference.serve(scope, receive, send, form)
            return
        error = status.MethodNotAllowed(
            f"this route does not take {scope['method']}", expected="POST"
        )
        await _refuse(scope, receive, send, error, form.error, [(b"allow", b"POST")])


class _Predict:
    """``POST /predict``."""

    decode = staticmethod(predict_codec.decode)
    error = staticmethod(status.problem)

    def decodes_fast(self, _size: int, _headers: Headers, _describe: Describe, /) -> bool:
        return False


_PREDICT = _Predict()


class _V2:
    """``POST /v2/models/{model}[/versions/{version}]/infer``."""

    __slots__ = ("_model", "_version")
    error = staticmethod(status.v2_error)

    def __init__(self, model: str, version: str | None) -> None:
        self._model = model
        self._version = version

    def decode(self, body: bytes, headers: Headers, describe: Describe, now: float) -> Call:
        return v2_codec.decode(self._model, self._version, body, headers, describe, now)

    def decodes_fast(self, size: int, headers: Headers, describe: Describe, /) -> bool:
        return v2_codec.decodes_fast(self._model, self._version, size, headers, describe)


async def _refuse(
    scope: Scope,
    receive: Receive,
    send: Send,
    error: ServingError,
    form: ErrorForm,
    extra: list[tuple[bytes, bytes]] | None = None,
) -> None:
    await send_error(dict(scope["headers"]), receive, send, error, form, extra=extra)


def _echoing(scope: Scope, send: Send) -> Send:
    """Return a ``send`` that repeats the client's request id in the response."""
    extra = echo(dict(scope["headers"])) if scope["type"] == "http" else []
    if not extra:
        return send

    async def echoing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *extra]
        await send(message)

    return echoing
