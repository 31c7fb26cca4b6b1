"""What TensorFlow Serving's and KServe's first clients ask with GET: states, readiness, metadata.

Both protocols have ``GET /v1/models/NAME``, with other keys in the answer; each finds its own.
Sources: g3doc/api_rest.md of TensorFlow Serving's repository, KServe's "V1 protocol".
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from serving.dataplane import DataPlane
from serving.frontends.rest.openapi import TENSORFLOW
from serving.frontends.rest.reading import get
from serving.frontends.rest.tf_route import target_of
from serving.frontends.tensorflow.model_status import VersionStatus, statuses
from serving.frontends.tensorflow.signatures import FIELD, signatures
from serving.frontends.tensorflow.target import Target

MODELS = "/v1/models"


def add_tensorflow(app: FastAPI, plane: DataPlane) -> None:
    """Add the routes."""
    _add_status(app, plane)
    _add_metadata(app, plane)


def _add_status(app: FastAPI, plane: DataPlane) -> None:
    async def models() -> JSONResponse:
        found = {row["name"] for row in await plane.servables()}
        return JSONResponse({"models": sorted(found)})

    async def status(name: str) -> JSONResponse:
        return await _status(plane, target_of(name))

    async def version_status(name: str, version: str) -> JSONResponse:
        return await _status(plane, target_of(name, version))

    async def label_status(name: str, label: str) -> JSONResponse:
        return await _status(plane, target_of(name, label=label))

    of = "as TensorFlow Serving and KServe's V1 protocol tell it"
    get(app, MODELS, f"Names of all servables, {of}", models, tag=TENSORFLOW)
    get(app, f"{MODELS}/{{name}}", f"States of a servable's versions, {of}", status, tag=TENSORFLOW)
    get(
        app,
        f"{MODELS}/{{name}}/versions/{{version}}",
        f"State of a version, {of}",
        version_status,
        tag=TENSORFLOW,
    )
    get(
        app,
        f"{MODELS}/{{name}}/labels/{{label}}",
        f"State of a label's, {of}",
        label_status,
        tag=TENSORFLOW,
    )


def _add_metadata(app: FastAPI, plane: DataPlane) -> None:
    async def metadata(name: str) -> JSONResponse:
        return _metadata(plane, target_of(name))

    async def version_metadata(name: str, version: str) -> JSONResponse:
        return _metadata(plane, target_of(name, version))

    async def label_metadata(name: str, label: str) -> JSONResponse:
        return _metadata(plane, target_of(name, label=label))

    of = "as TensorFlow Serving tells them"
    place = f"{MODELS}/{{name}}"
    get(app, f"{place}/metadata", f"Signatures of a servable, {of}", metadata, tag=TENSORFLOW)
    get(
        app,
        f"{place}/versions/{{version}}/metadata",
        f"Of a version, {of}",
        version_metadata,
        tag=TENSORFLOW,
    )
    get(
        app,
        f"{place}/labels/{{label}}/metadata",
        f"Of a label's version, {of}",
        label_metadata,
        tag=TENSORFLOW,
    )


async def _status(plane: DataPlane, target: Target) -> JSONResponse:
    found = await statuses(plane, target)
    return JSONResponse(
        {
            "model_version_status": [_version(version) for version in found],
            "name": target.servable,
            "ready": any(version.is_ready for version in found),
        }
    )


def _version(status: VersionStatus) -> dict[str, Any]:
    return {
        "version": str(status.version),
        "state": status.state,
        "status": {"error_code": status.code, "error_message": status.message},
    }


def _metadata(plane: DataPlane, target: Target) -> JSONResponse:
    version, by_name = signatures(plane, target)
    spec = {"name": target.servable, "signature_name": "", "version": str(version)}
    return JSONResponse({"model_spec": spec, "metadata": {FIELD: {FIELD: by_name}}})
