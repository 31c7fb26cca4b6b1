"""The REST side as one ASGI callable: inference routes first, everything else by FastAPI.

FastAPI is imported with the first call that is for it, on a thread: it takes 0.15 to 0.3 s of CPU
and 10 MB, which a server should have neither before it answers nor for inference alone.
"""

from __future__ import annotations

import asyncio
import functools
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor

from serving.config import ServerSettings
from serving.dataplane import DataPlane
from serving.errors import NotFound, ServingError
from serving.frontends.rest import entry, inference_route, status
from serving.frontends.rest.asgi import Fields, Message, Receive, Scope, Send, send_response
from serving.frontends.rest.body import BodyBudget
from serving.frontends.rest.inference import Inference
from serving.frontends.rest.inference_route import WireFormat
from serving.frontends.rest.refusal import ErrorForm, refusal
from serving.frontends.rest.shared_calls import SharedCalls
from serving.frontends.rest.wire import echo
from serving.frontends.shared_memory.regions import Regions

MIB = 1 << 20
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class RestApp:
    """Dispatches requests; built by ``RestFrontEnd``, called on the event loop by uvicorn.

    ``pool`` runs the decoding and encoding of large messages; its owner shuts it down. ``regions``
    are what clients share with the server, None where they may not.
    """

    def __init__(
        self,
        plane: DataPlane,
        settings: ServerSettings,
        pool: Executor,
        regions: Regions | None = None,
    ) -> None:
        self.budget = BodyBudget(settings.max_request_mb * MIB, settings.memory_mb * MIB)
        self._plane = plane
        self._inference = Inference(plane, self.budget, pool, SharedCalls(regions, pool))
        # FastAPI remembers every function that it was ever given, beyond the life of its app: what
        # they hold would stay with them where servers come and go in one process.
        self._build = functools.partial(_routes, weakref.proxy(plane), self.budget, regions)
        self._built: asyncio.Task[Application] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI scope."""
        if scope["type"] == "http":
            path: str = scope["path"]
            raw_path = inference_route.PREDICT if path == "/predict" else scope["raw_path"]
            shut = path not in entry.OPEN_PATHS and entry.shut_out(
                self._plane, dict(scope["headers"])
            )
            if shut:
                await self._turn_away(scope, send, shut, _error_form(raw_path))
                return
            try:
                form = inference_route.find(raw_path)
            except NotFound as error:
                await self._refuse(scope, send, error, status.v2_error)
                return
            if form is not None:
                await self._infer(scope, receive, send, form)
                return
        routes = await self._others()
        await routes(scope, receive, _echoing(scope, send))

    async def _others(self) -> Application:
        """Return the routes that are FastAPI's; whoever asks first need not stay until they are."""
        if self._built is None:
            self._built = asyncio.create_task(asyncio.to_thread(self._build))
        return await asyncio.shield(self._built)

    async def _infer(self, scope: Scope, receive: Receive, send: Send, form: WireFormat) -> None:
        if scope["method"] == "POST":
            await self._inference.serve(scope, receive, send, form)
            return
        error = status.MethodNotAllowed(
            f"this route does not take {scope['method']}", expected="POST"
        )
        await self._refuse(scope, send, error, form.error, ((b"allow", b"POST"),))

    async def _turn_away(
        self, scope: Scope, send: Send, error: ServingError, form: ErrorForm
    ) -> None:
        """Answer with 401 in every form, though one of them has 200 for all errors."""
        headers = dict(scope["headers"])
        reply = refusal(error, headers, form, self._plane)._replace(status=401)
        await send_response(send, reply, (*echo(headers), entry.CHALLENGE))

    async def _refuse(
        self, scope: Scope, send: Send, error: ServingError, form: ErrorForm, extra: Fields = ()
    ) -> None:
        headers = dict(scope["headers"])
        reply = refusal(error, headers, form, self._plane)
        await send_response(send, reply, (*echo(headers), *extra))


def _error_form(raw_path: bytes) -> ErrorForm:
    """Return how errors look to who asks for a path, whether there is such a route or not."""
    try:
        form = inference_route.find(raw_path)
    except NotFound:
        form = None
    return status.v2_error if form is None else form.error


def _routes(plane: DataPlane, budget: BodyBudget, regions: Regions | None) -> Application:
    from serving.frontends.rest.routes import build_routes

    return build_routes(plane, budget, regions)


def _echoing(scope: Scope, send: Send) -> Send:
    """Return a ``send`` that repeats the client's request id in the response."""
    extra = echo(dict(scope["headers"])) if scope["type"] == "http" else ()
    if not extra:
        return send

    async def echoing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *extra]
        await send(message)

    return echoing
