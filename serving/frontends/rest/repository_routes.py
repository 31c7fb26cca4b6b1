"""V2's model repository extension over REST: index, load, unload.

Source: Triton's ``extension_model_repository``; ``POST /v2/repository/models/{name}/load`` takes
``{"parameters": {"config": "<JSON text>", "file:1/model.onnx": "<base64>"}}``.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from serving.dataplane import DataPlane, RepositoryControl
from serving.errors import InvalidRequest, TooLarge, Unauthenticated
from serving.frontends import repository
from serving.frontends.rest import names, status
from serving.frontends.rest.asgi import ClientGone, Receive, Scope, Send, send_and_close
from serving.frontends.rest.body import BodyBudget, BodyMemoryFull, BodyTooLarge
from serving.frontends.rest.openapi import REPOSITORY
from serving.frontends.rest.wire import Reply
from serving.repository.override import PREFIX, Override

_SHORT_BYTES = 64 << 10
"""Largest body of a call for the index."""

_READY = {"ready": {"type": "boolean", "description": "Only what serves"}}
_LOAD = {
    "parameters": {
        "type": "object",
        "description": "config: a model configuration as JSON text; file:<version>/<file>: base64",
        "additionalProperties": {"type": "string"},
    }
}


def add_repository(app: FastAPI, plane: DataPlane, budget: BodyBudget) -> None:
    """Add the routes; bodies are read within ``budget``."""
    routes = _Routes(plane, budget)
    for path, handler, summary, fields in (
        ("/v2/repository/index", routes.index, "List servables, their versions and states", _READY),
        (
            "/v2/repository/models/{name}/load",
            routes.load,
            "Load a servable, or load it anew",
            _LOAD,
        ),
        ("/v2/repository/models/{name}/unload", routes.unload, "Take a servable down", {}),
    ):
        app.add_api_route(
            path,
            handler,
            methods=["POST"],
            summary=summary,
            tags=[REPOSITORY],
            response_model=None,
            openapi_extra={"requestBody": _body(fields)},
        )


class Early(Response):
    """An answer to a body that was not read to its end."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self._reply = reply

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer, and close."""
        await send_and_close(send, self._reply)


def _body(fields: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": fields}
    content = {"schema": schema, "example": {}}
    return {"required": False, "content": {"application/json": content}}


class _Routes:
    def __init__(self, plane: DataPlane, budget: BodyBudget) -> None:
        self._plane = plane
        self._budget = budget

    async def index(self, request: Request) -> Response:
        try:
            body, taken = await self._read(request)
        except ClientGone:
            return Response(status_code=499)
        except (BodyTooLarge, BodyMemoryFull) as error:
            return Early(status.v2_error(error, ""))
        self._budget.give_back(taken)
        if len(body) > _SHORT_BYTES:
            raise TooLarge("the body is too large", expected=f"at most {_SHORT_BYTES} bytes")
        ready = _object(body).get("ready", False)
        if not isinstance(ready, bool):
            raise InvalidRequest(
                "field 'ready' must be true or false", code="wrong_type", where="ready"
            )
        found = repository.entries(await self._plane.index(), ready=ready)
        return JSONResponse([entry.to_json() for entry in found])

    async def load(self, request: Request, name: str) -> Response:
        control = self._control(request)
        servable = names.check(name)
        try:
            body, taken = await self._read(request)
        except ClientGone:
            return Response(status_code=499)
        except (BodyTooLarge, BodyMemoryFull) as error:
            return Early(status.v2_error(error, ""))
        try:
            override = await asyncio.to_thread(_override, body)
            await control.load(servable, override)
        finally:
            self._budget.give_back(taken)
        return JSONResponse({})

    async def unload(self, request: Request, name: str) -> Response:
        await self._control(request).unload(names.check(name))
        return JSONResponse({})

    def _control(self, request: Request) -> RepositoryControl:
        authorization = request.headers.get("authorization")
        control = self._plane.control(authorization)
        if authorization is None and "origin" in request.headers:
            # A web page that somebody on this machine looks at could send this.
            raise Unauthenticated(
                "pages in a browser may not load or unload models",
                code="browser_refused",
                where="header Origin",
                fix="send the request without Origin, or set --admin-token-file and send the token",
            )
        return control

    async def _read(self, request: Request) -> tuple[bytes, int]:
        return await self._budget.read(request.receive, dict(request.scope["headers"]))


def _override(body: bytes) -> Override:
    parameters = _object(body).get("parameters", {})
    if not isinstance(parameters, dict):
        raise InvalidRequest(
            "field 'parameters' must be an object", code="wrong_type", where="parameters"
        )
    files: dict[str, bytes] = {}
    config = ""
    for key, value in parameters.items():
        if value is None:
            continue
        if key != "config" and not key.startswith(PREFIX):
            raise repository.unknown_parameter(key)
        if not isinstance(value, str):
            raise InvalidRequest(
                f"parameter {key[:60]!r} must be a string",
                code="wrong_type",
                where=f"parameters.{key[:60]}",
            )
        if key == "config":
            config = value
        else:
            files[key] = _decoded(key, value)
    return repository.read_override(config, files)


def _decoded(key: str, value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        raise InvalidRequest(
            "the content of a file is not base64",
            code="bad_base64",
            where=f"parameters.{key[:60]}",
        ) from None


def _object(body: bytes) -> dict[str, Any]:
    """Return the members of a body that are not null."""
    if not body.strip():
        return {}
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(
            "the body is not valid JSON", code="bad_json", where="body", given=str(error)
        ) from None
    if not isinstance(found, dict):
        raise InvalidRequest("the body must be an object", code="wrong_type", where="body")
    return {key: value for key, value in found.items() if value is not None}
