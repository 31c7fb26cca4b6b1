"""Routes that are read: what GET answers, HEAD answers without the body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response


def get(
    app: FastAPI,
    path: str,
    summary: str,
    handler: Callable[..., Any],
    *,
    tag: str = "",
    answer: type[Response] = JSONResponse,
) -> None:
    """Add a route for GET, and for HEAD: probes, proxies and monitors use it.

    Without a ``tag``, which is the heading that it stands under, it is not documented. ``answer``
    is the kind of response that the handler returns.
    """
    app.add_api_route(
        path,
        handler,
        methods=["GET"],
        summary=summary,
        tags=[tag] if tag else None,
        include_in_schema=bool(tag),
        response_class=answer,
        response_model=None,
    )
    app.add_api_route(path, handler, methods=["HEAD"], include_in_schema=False, response_model=None)
