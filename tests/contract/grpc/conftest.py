"""Tests that ask for ``serving`` run twice: with grpcio, and with this project's own server."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from serving.frontends.grpc.server import GrpcFrontEnd
from tests.unit.frontends.grpc.running import front_end

Serving = Callable[..., contextlib.AbstractAsyncContextManager[GrpcFrontEnd]]


@pytest.fixture(params=["grpcio", "lane"])
def serving(request: pytest.FixtureRequest) -> Serving:
    def run(plane: Any, **settings: Any) -> contextlib.AbstractAsyncContextManager[GrpcFrontEnd]:
        return front_end(plane, grpc_engine=request.param, **settings)

    return run
