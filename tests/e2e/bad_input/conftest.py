"""One server for all tables; whatever was sent to it, it ends well."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import models
from tests.server import ServerProcess, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("repository")
    models.multi(folder / "multi.onnx")
    models.string_lookup(folder / "words.onnx")
    models.identity(folder / "truth.onnx", "BOOL")
    scratch = tmp_path_factory.mktemp("scratch")
    with serving(folder, scratch, "--max-request-mb", "4") as running:
        yield running
        assert running.stop() == 0
        assert "Traceback" not in running.log(), running.log()
