"""A real NVIDIA GPU as the contract suite sees it: engines built here, by the real TensorRT.

``SERVING_TENSORRT_MODULE`` chooses ``tensorrt`` (the default) or ``tensorrt_rtx``.
"""

from __future__ import annotations

import contextlib
import importlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.backends.base import BackendError, Device
from serving.backends.registry import open_backend
from serving.building.tensorrt import answer
from serving.formats.onnx_model import describe
from serving.formats.progress import SILENT
from tests import models
from tests.contract.engines import Engine

GPU = Device("gpu", 0)


def why_not() -> str:
    """Return why the suite cannot run here, or nothing."""
    for module in ("cuda.bindings.runtime", "onnx"):
        try:
            importlib.import_module(module)
        except ImportError as error:
            return f"no NVIDIA GPU can be tried: {error}"
    try:
        open_backend("tensorrt", GPU).close()
    except BackendError as error:
        return f"no NVIDIA GPU can be tried: {error}"
    return ""


def build(source: Path, path: Path, *, largest: int = 8, **options: str) -> list[str]:
    """Build an engine of an ONNX file and put it at ``path``; returns the builder's notes.

    Skips the test where this TensorRT lacks an operator.
    """
    artifact = describe(source)
    assert artifact.signature is not None
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "draft"
        draft.mkdir()
        question: dict[str, Any] = {
            "source": str(source),
            "format": "onnx",
            "signature": artifact.signature.to_json(),
            "batch": artifact.batch.to_json(),
            "max_batch_size": largest,
            "batch_sizes": None,
            "folder": str(draft),
            "options": options,
        }
        told = answer(question, SILENT)
        if told.get("error", {}).get("code") == "unsupported_operator":
            pytest.skip(told["error"]["message"])
        assert "built" in told, told
        shutil.move(draft / told["built"]["file"], path)
        notes: list[str] = told["built"]["notes"]
        return notes


def _built(model: Callable[[Path], Path], **options: Any) -> Callable[[Path], object]:
    return lambda path: build(model(path.with_suffix(".onnx")), path, **options)


REAL = Engine(
    "tensorrt",
    GPU,
    echo=_built(lambda path: models.identity(path, "FP32", ("batch",))),
    fails=_built(lambda path: models.identity(path, "INT64", ("batch",)), largest=1),
    long=None,
    sizes=_built(models.non_zero, **{"profile.x": "1,4,8"}),
    stops=False,
    present=contextlib.nullcontext,
)
