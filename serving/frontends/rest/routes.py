"""The routes that FastAPI serves: health, metadata, documentation, and the page for people.

The inference routes are not among them (``app`` dispatches those before FastAPI sees them),
but ``/openapi.json`` describes them. The page at ``/docs`` loads Swagger UI from a CDN; without
a way out to it, use ``/openapi.json``.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from serving import __version__, error_guide
from serving.dataplane import DataPlane
from serving.errors import (
    InternalError,
    NotFound,
    ServingError,
    Status,
    Unavailable,
    did_you_mean,
)
from serving.frontends import v2_metadata
from serving.frontends.method import of_model
from serving.frontends.rest import names, openapi, status
from serving.frontends.rest.body import BodyBudget
from serving.frontends.rest.error_page import error_page
from serving.frontends.rest.memory_routes import add_memory
from serving.frontends.rest.page import page
from serving.frontends.rest.repository_routes import add_repository
from serving.frontends.rest.statistics_routes import METRICS, add_statistics
from serving.frontends.rest.v2_codec import version_number
from serving.frontends.shared_memory.gate import EXTENSION
from serving.frontends.shared_memory.regions import Regions
from serving.request import Description

_log = logging.getLogger("serving.rest")
_BODY_BYTES = 1 << 20
_ROUTES = (
    "/predict", "/docs", "/openapi.json", error_guide.PAGE, METRICS,
    "/v2", "/v2/repository/index", "/v2/health/live", "/v2/health/ready",
)  # fmt: skip


def build_routes(
    plane: DataPlane, budget: BodyBudget | None = None, regions: Regions | None = None
) -> FastAPI:
    """Return the FastAPI application over a data plane; bodies are read within ``budget``.

    ``regions`` are what clients share with the server, None where they may not.
    """
    budget = budget or BodyBudget(_BODY_BYTES, _BODY_BYTES)
    app = FastAPI(title="serving", version=__version__, redoc_url=None, redirect_slashes=False)
    app.state.plane = plane
    _add_health(app, plane)
    add_statistics(app, plane)
    _add_metadata(app, plane, () if regions is None else (EXTENSION,))
    add_repository(app, plane, budget)
    add_memory(app, regions, budget)

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> HTMLResponse:
        return HTMLResponse(await page(plane, str(request.base_url)))

    @app.get(error_guide.PAGE, include_in_schema=False)
    async def errors() -> HTMLResponse:
        return HTMLResponse(error_page())

    app.add_exception_handler(ServingError, _on_serving_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_exception)
    app.openapi = _describer(app)  # type: ignore[method-assign]
    return app


def _get(app: FastAPI, path: str, summary: str, handler: Callable[..., Any]) -> None:
    """Add a GET route; probes and proxies may use HEAD on it as well."""
    app.add_api_route(path, handler, methods=["GET"], summary=summary, response_model=None)
    app.add_api_route(path, handler, methods=["HEAD"], include_in_schema=False, response_model=None)


def _add_health(app: FastAPI, plane: DataPlane) -> None:
    async def live() -> JSONResponse:
        alive = plane.live()
        return JSONResponse({"live": alive}, 200 if alive else 503)

    async def ready() -> JSONResponse:
        is_ready = plane.ready()
        return JSONResponse({"live": plane.live(), "ready": is_ready}, 200 if is_ready else 503)

    async def model_ready(name: str, version: str | None = None) -> JSONResponse:
        description = _describe(plane, name, version)
        code = 200 if description.ready else 503
        return JSONResponse({"name": name, "ready": description.ready}, code)

    async def any_ready(name: str) -> JSONResponse:
        return await model_ready(name)

    _get(app, "/v2/health/live", "Whether the server turns over", live)
    _get(app, "/v2/health/ready", "Whether the server takes requests", ready)
    _get(app, "/v2/models/{name}/ready", "Whether a servable takes requests", any_ready)
    _get(
        app,
        "/v2/models/{name}/versions/{version}/ready",
        "Whether a version of a servable takes requests",
        model_ready,
    )


def _add_metadata(app: FastAPI, plane: DataPlane, extensions: tuple[str, ...]) -> None:
    async def server() -> JSONResponse:
        return JSONResponse(v2_metadata.server_metadata(*extensions))

    async def version_metadata(name: str, version: str) -> JSONResponse:
        model = names.check(name)
        return JSONResponse(v2_metadata.model_document(plane, model, version_number(version)))

    async def metadata(name: str) -> JSONResponse:
        return JSONResponse(v2_metadata.model_document(plane, names.check(name)))

    async def version_config(name: str, version: str) -> JSONResponse:
        return JSONResponse(v2_metadata.model_config(_describe(plane, name, version), name))

    async def config(name: str) -> JSONResponse:
        return JSONResponse(v2_metadata.model_config(_describe(plane, name, None), name))

    _get(app, "/v2", "Name, version and extensions of the server", server)
    _get(app, "/v2/models/{name}", "Inputs and outputs of a servable", metadata)
    _get(
        app,
        "/v2/models/{name}/versions/{version}",
        "Inputs and outputs of a version of a servable",
        version_metadata,
    )
    _get(app, "/v2/models/{name}/config", "Settings that a servable runs with", config)
    _get(
        app,
        "/v2/models/{name}/versions/{version}/config",
        "Settings that a version of a servable runs with",
        version_config,
    )


def _describe(plane: DataPlane, name: str, version: str | None) -> Description:
    return of_model(plane, names.check(name), version_number(version))


def _describer(app: FastAPI) -> Callable[[], dict[str, Any]]:
    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            app.openapi_schema = openapi.with_inference(schema)
        return app.openapi_schema

    return describe


def _on_v2(request: Request) -> bool:
    return request.url.path == "/v2" or request.url.path.startswith("/v2/")


def _error_response(request: Request, error: ServingError, id: str = "") -> Response:
    id = id or secrets.token_hex(8)
    form = status.v2_error if _on_v2(request) else status.problem
    request.app.state.plane.answered_with(error, "rest")
    reply = form(error, id)
    headers = {k.decode(): v.decode() for k, v in reply.headers}
    if error.status is Status.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(reply.body, reply.status, headers, reply.content_type.decode())


async def _on_serving_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServingError)
    return _error_response(request, error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Give the router's own refusals (no such route, wrong method) the wire format's form."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "GET")
        refusal = status.MethodNotAllowed(
            f"this route does not take {request.method}", expected=allowed
        )
        response = _error_response(request, refusal)
        response.headers["Allow"] = allowed
        return response
    if error.status_code == 404:
        missing = NotFound(
            "there is no such route",
            code="unknown_route",
            where="path",
            fix=did_you_mean(request.url.path[:80], _ROUTES) or "see / or /docs",
        )
        return _error_response(request, missing)
    return _error_response(request, Unavailable(str(error.detail)))


async def _on_exception(request: Request, error: Exception) -> Response:
    id = secrets.token_hex(8)
    _log.error("request %s failed", id, exc_info=error)
    return _error_response(request, InternalError("the server failed"), id)
