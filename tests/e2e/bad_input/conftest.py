"""One server for all tables; whatever was sent to it, it ends well."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import models
from tests.server import ServerProcess, serving


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    models.multi(folder / "multi.onnx")
    models.string_lookup(folder / "words.onnx")
    models.identity(folder / "truth.onnx", "BOOL")
    return folder


@pytest.fixture(scope="session")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with unharmed(repository, tmp_path_factory.mktemp("scratch"), "lane") as running:
        yield running


@contextlib.contextmanager
def unharmed(repository: Path, scratch: Path, engine: str) -> Iterator[ServerProcess]:
    """Run a server that must end well, whatever was sent to it."""
    options = ("--max-request-mb", "4", "--grpc-engine", engine)
    with serving(repository, scratch, *options) as running:
        yield running
        assert running.stop() == 0
        assert "Traceback" not in running.log(), running.log()
