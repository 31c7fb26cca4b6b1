"""Tests that run a front end do so twice: with grpcio, and with this project's own server."""

from __future__ import annotations

import pytest

from . import running

ENGINE = "grpc_engine"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    chosen = [m for m in metafunc.definition.iter_markers("parametrize") if m.args[0] == ENGINE]
    if hasattr(metafunc.module, "front_end") and not chosen:
        metafunc.parametrize(ENGINE, ["grpcio", "lane"], indirect=True)


@pytest.fixture(autouse=True)
def grpc_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if hasattr(request, "param"):
        monkeypatch.setattr(running, "ENGINE", request.param)
