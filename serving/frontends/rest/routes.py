"""The routes that FastAPI serves: health, metadata, documentation, and the pages for people.

The inference routes are not among them (``app`` dispatches those before FastAPI sees them),
but ``/openapi.json`` and ``/docs`` describe them. No page loads anything: FastAPI's own, which
fetch scripts from elsewhere, are off.
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
)
from serving.frontends import v2_metadata
from serving.frontends.method import of_model
from serving.frontends.rest import elsewhere, names, openapi, status
from serving.frontends.rest.api_page import api_page
from serving.frontends.rest.body import BodyBudget
from serving.frontends.rest.error_page import error_page
from serving.frontends.rest.memory_routes import add_memory
from serving.frontends.rest.page import page
from serving.frontends.rest.reading import get
from serving.frontends.rest.refusal import parting
from serving.frontends.rest.repository_routes import add_repository
from serving.frontends.rest.route_hint import hint
from serving.frontends.rest.statistics_routes import add_statistics
from serving.frontends.rest.tf_routes import MODELS, add_tensorflow
from serving.frontends.rest.v2_codec import version_number
from serving.frontends.shared_memory.gate import EXTENSION
from serving.frontends.shared_memory.regions import Regions
from serving.request import Description

_log = logging.getLogger("serving.rest")
_BODY_BYTES = 1 << 20
_DOCS, _SCHEMA = "/docs", "/openapi.json"


def build_routes(
    plane: DataPlane, budget: BodyBudget | None = None, regions: Regions | None = None
) -> FastAPI:
    """Return the FastAPI application over a data plane; bodies are read within ``budget``.

    ``regions`` are what clients share with the server, None where they may not.
    """
    budget = budget or BodyBudget(_BODY_BYTES, _BODY_BYTES)
    app = FastAPI(
        title="serving",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.plane = plane
    _add_health(app, plane)
    add_statistics(app, plane)
    _add_metadata(app, plane, () if regions is None else (EXTENSION,))
    add_repository(app, plane, budget)
    add_memory(app, regions, budget)
    add_tensorflow(app, plane)
    _add_pages(app, plane)
    app.add_exception_handler(ServingError, _on_serving_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_exception)
    app.openapi = _describer(app)  # type: ignore[method-assign]
    return app


def _add_pages(app: FastAPI, plane: DataPlane) -> None:
    async def index(request: Request) -> Response:
        # KServe's V1 client asks here whether the server lives; people come with a browser.
        accepted = request.headers.get("accept", "text/html")
        found: Response
        if "text/html" in accepted.lower():
            found = HTMLResponse(await page(plane, str(request.base_url)))
        else:
            found = JSONResponse(await _alive(plane), 200 if plane.live() else 503)
        found.headers["Vary"] = "Accept"
        return found

    async def errors() -> HTMLResponse:
        return HTMLResponse(error_page())

    async def schema() -> JSONResponse:
        return JSONResponse(app.openapi())

    async def docs(request: Request) -> HTMLResponse:
        return HTMLResponse(api_page(app.openapi(), str(request.base_url)))

    get(app, "/", "What is served", index)
    get(app, error_guide.PAGE, "What each error code means", errors)
    get(app, _SCHEMA, "The routes, for programs", schema)
    get(app, _DOCS, "The routes, for people", docs)


async def _alive(plane: DataPlane) -> dict[str, Any]:
    return {
        "status": "alive" if plane.live() else "not alive",
        "ready": plane.ready(),
        "servables": await plane.servables(),
    }


def _add_health(app: FastAPI, plane: DataPlane) -> None:
    async def live() -> JSONResponse:
        alive = plane.live()
        return JSONResponse({"live": alive}, 200 if alive else 503)

    async def ready() -> JSONResponse:
        is_ready = plane.ready()
        return JSONResponse({"live": plane.live(), "ready": is_ready}, 200 if is_ready else 503)

    async def model_ready(name: str) -> JSONResponse:
        return _readiness(name, _describe(plane, name, None))

    async def version_ready(name: str, version: str) -> JSONResponse:
        return _readiness(name, _describe(plane, name, version))

    get(app, "/v2/health/live", "Whether the server turns over", live, tag=openapi.HEALTH)
    get(app, "/v2/health/ready", "Whether the server takes requests", ready, tag=openapi.HEALTH)
    get(
        app,
        "/v2/models/{name}/ready",
        "Whether a servable takes requests",
        model_ready,
        tag=openapi.HEALTH,
    )
    get(
        app,
        "/v2/models/{name}/versions/{version}/ready",
        "Whether a version of a servable takes requests",
        version_ready,
        tag=openapi.HEALTH,
    )


def _readiness(name: str, description: Description) -> JSONResponse:
    code = 200 if description.ready else 503
    return JSONResponse({"name": name, "ready": description.ready}, code)


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

    get(app, "/v2", "Name, version and extensions of the server", server, tag=openapi.METADATA)
    get(
        app, "/v2/models/{name}", "Inputs and outputs of a servable", metadata, tag=openapi.METADATA
    )
    get(
        app,
        "/v2/models/{name}/versions/{version}",
        "Inputs and outputs of a version of a servable",
        version_metadata,
        tag=openapi.METADATA,
    )
    get(
        app,
        "/v2/models/{name}/config",
        "Settings that a servable runs with",
        config,
        tag=openapi.METADATA,
    )
    get(
        app,
        "/v2/models/{name}/versions/{version}/config",
        "Settings that a version of a servable runs with",
        version_config,
        tag=openapi.METADATA,
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


def _routes(app: FastAPI) -> list[str]:
    """Return the paths of all routes that are for people to know."""
    return [*app.openapi()["paths"], "/", error_guide.PAGE, _SCHEMA, _DOCS]


def _on_v2(request: Request) -> bool:
    """Whether errors have V2's form, which is that of TensorFlow Serving as well."""
    return request.url.path == "/v2" or request.url.path.startswith(("/v2/", MODELS))


def _error_response(request: Request, error: ServingError, id: str = "") -> Response:
    id = id or secrets.token_hex(8)
    form = status.v2_error if _on_v2(request) else status.problem
    request.app.state.plane.answered_with(error, "rest")
    reply = parting(form(error, id), error)
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
    away = elsewhere.refusal(request.url.path[:512]) if error.status_code in (404, 405) else None
    if away is not None:
        return _error_response(request, away)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "GET").replace("GET", "GET, HEAD")
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
            fix=hint(request.url.path, _routes(request.app)) or "see / or /docs",
        )
        return _error_response(request, missing)
    return _error_response(request, Unavailable(str(error.detail)))


async def _on_exception(request: Request, error: Exception) -> Response:
    id = secrets.token_hex(8)
    _log.error("request %s failed", id, exc_info=error)
    return _error_response(request, InternalError("the server failed"), id)
