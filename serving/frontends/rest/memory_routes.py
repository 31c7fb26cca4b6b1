"""V2's shared memory extensions over REST: which regions there are, register, unregister.

Source: Triton's ``extension_shared_memory``. Regions of CUDA memory are refused, but for taking
back what was never registered.
"""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from serving.errors import InvalidRequest, TooLarge
from serving.frontends.rest import status
from serving.frontends.rest.asgi import ClientGone
from serving.frontends.rest.body import BodyBudget, BodyMemoryFull, BodyTooLarge
from serving.frontends.rest.openapi import MEMORY
from serving.frontends.rest.reading import get
from serving.frontends.rest.repository_routes import Early
from serving.frontends.shared_memory import gate
from serving.frontends.shared_memory.regions import LARGEST, Regions

_SHORT_BYTES = 64 << 10
_SYSTEM, _CUDA = "/v2/systemsharedmemory", "/v2/cudasharedmemory"
_ONE = "/region/{name}"
_KEYS = {
    "key": {"type": "string", "description": "The name that the object was made with"},
    "offset": {"type": "integer", "minimum": 0, "default": 0},
    "byte_size": {"type": "integer", "minimum": 1},
}
_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"type": "object", "properties": _KEYS, "required": ["key", "byte_size"]},
            "example": {"key": "/my_memory", "byte_size": 4096},
        }
    },
}


def add_memory(app: FastAPI, regions: Regions | None, budget: BodyBudget) -> None:
    """Add the routes; with ``regions`` None they refuse, and are not documented."""
    routes = _Routes(regions, budget)
    shown = regions is not None
    tag = MEMORY if shown else ""
    get(app, f"{_SYSTEM}/status", "List shared memory regions", routes.status, tag=tag)
    get(app, f"{_SYSTEM}{_ONE}/status", "Show a shared memory region", routes.status_of, tag=tag)
    for path, handler, summary in (
        (f"{_SYSTEM}{_ONE}/register", routes.register, "Register a shared memory region"),
        (f"{_SYSTEM}/unregister", routes.unregister, "Unregister all regions"),
        (f"{_SYSTEM}{_ONE}/unregister", routes.unregister_of, "Unregister a region"),
    ):
        extra = {"requestBody": _BODY} if handler == routes.register else None
        app.add_api_route(
            path,
            handler,
            methods=["POST"],
            summary=summary,
            tags=[MEMORY],
            response_model=None,
            include_in_schema=shown,
            openapi_extra=extra,
        )
    for start in (_CUDA, f"{_CUDA}{_ONE}"):
        get(app, f"{start}/status", "", _cuda)
        for tail, cuda in (("register", _cuda), ("unregister", routes.unregister_cuda)):
            app.add_api_route(
                f"{start}/{tail}",
                cuda,
                methods=["POST"],
                include_in_schema=False,
                response_model=None,
            )


async def _cuda() -> Response:
    raise gate.cuda("path")


class _Routes:
    def __init__(self, regions: Regions | None, budget: BodyBudget) -> None:
        self._regions = regions
        self._budget = budget

    async def status(self, request: Request) -> Response:
        return self._status(request, None)

    async def status_of(self, request: Request, name: str) -> Response:
        return self._status(request, name)

    async def register(self, request: Request, name: str) -> Response:
        regions = self._opened(request)
        try:
            headers = dict(request.scope["headers"])
            body, taken = await self._budget.read(request.receive, headers)
        except ClientGone:
            return Response(status_code=499)
        except (BodyTooLarge, BodyMemoryFull) as error:
            return Early(status.v2_error(error, ""))
        self._budget.give_back(taken)
        await regions.register(name, *_asked(body))
        return JSONResponse({})

    async def unregister(self, request: Request) -> Response:
        await self._opened(request).unregister()
        return JSONResponse({})

    async def unregister_of(self, request: Request, name: str) -> Response:
        await self._opened(request).unregister(name)
        return JSONResponse({})

    async def unregister_cuda(self, request: Request) -> Response:
        self._opened(request)
        return JSONResponse({})

    def _status(self, request: Request, name: str | None) -> Response:
        found = self._opened(request).status(name)
        return JSONResponse(
            [
                {"name": name, "key": r.key, "offset": r.offset, "byte_size": r.size}
                for name, r in found.items()
            ]
        )

    def _opened(self, request: Request) -> Regions:
        headers = dict(request.scope["headers"])
        is_local = gate.local_http(request.scope.get("client"), headers)
        return gate.opened(self._regions, is_local, "path")


def _asked(body: bytes) -> tuple[str, int, int]:
    """Return key, offset and size."""
    if len(body) > _SHORT_BYTES:
        raise TooLarge("the body is too large", expected=f"at most {_SHORT_BYTES} bytes")
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(
            "the body is not valid JSON", code="bad_json", where="body", given=str(error)
        ) from None
    if not isinstance(found, dict):
        raise InvalidRequest("the body must be an object", code="wrong_type", where="body")
    key = found.get("key")
    if not isinstance(key, str):
        raise InvalidRequest("field 'key' must be a string", code="wrong_type", where="key")
    return key, _number(found, "offset", 0), _number(found, "byte_size", 1)


def _number(found: dict[str, Any], field: str, least: int) -> int:
    value = found.get(field)
    value = 0 if value is None else value
    if type(value) is not int or not least <= value <= LARGEST:
        raise InvalidRequest(
            f"field {field!r} must be a whole number",
            code="wrong_type",
            where=field,
            expected=f"{least} to {LARGEST}",
            given=repr(value)[:60],
        )
    return value
