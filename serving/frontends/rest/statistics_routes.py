"""The routes that tell what has been counted: V2's statistics, and metrics for Prometheus."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse

from serving.dataplane import DataPlane
from serving.frontends import v2_statistics
from serving.frontends.rest import exposition, metrics, names
from serving.frontends.rest.openapi import STATISTICS
from serving.frontends.rest.reading import get
from serving.frontends.rest.v2_codec import version_number

METRICS = "/metrics"


def add_statistics(app: FastAPI, plane: DataPlane) -> None:
    """Add the routes; must come before ``/v2/models/{name}``, which would match one of them."""

    async def every() -> JSONResponse:
        return JSONResponse(await v2_statistics.document(plane))

    async def servable(name: str) -> JSONResponse:
        return JSONResponse(await v2_statistics.document(plane, names.check(name)))

    async def one(name: str, version: str) -> JSONResponse:
        number = version_number(version)
        return JSONResponse(await v2_statistics.document(plane, names.check(name), number))

    for path, summary, handler in (
        ("/v2/models/stats", "Counts and times of every servable", every),
        ("/v2/models/{name}/stats", "Counts and times of a servable's versions", servable),
        (
            "/v2/models/{name}/versions/{version}/stats",
            "Counts and times of a version of a servable",
            one,
        ),
    ):
        get(app, path, summary, handler, tag=STATISTICS)

    async def scrape() -> _Exposition:
        told, listed, ready = await plane.statistics(), await plane.servables(), plane.ready()
        return _Exposition(
            # Thousands of servables are megabytes of text.
            await asyncio.to_thread(
                lambda: exposition.text(metrics.families(told, listed, ready)),
            )
        )

    about = "Metrics in Prometheus' text format"
    get(app, METRICS, about, scrape, tag=STATISTICS, answer=_Exposition)


class _Exposition(PlainTextResponse):
    media_type = exposition.CONTENT_TYPE
