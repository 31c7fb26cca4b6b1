"""Engines built by the real TensorRT-RTX, for a kind of GPU that need not be here.

What comes out is not run: that takes a GPU (``tests/hardware``). The second build of the same
content must come from the cache. Times are printed, and mean little on a shared machine. The
packages are large, so it runs where SERVING_TEST_TENSORRT_RTX asks for it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.resnet import resnet50
from serving.artifact import Artifact, Format
from serving.config import BackendSettings
from serving.errors import LoadError
from serving.formats.inspect import Helper
from serving.formats.onnx_model import describe
from serving.formats.tensorrt_engine import read_header
from serving.inspection import Question
from serving.repository.backend_choice import ROUTES
from serving.repository.engines import Built, Engines, Order
from tests import models
from tests.real import tensorrt_rtx

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not os.environ.get("SERVING_TEST_TENSORRT_RTX"),
        reason="SERVING_TEST_TENSORRT_RTX does not ask for it",
    ),
]

MINDIR = Path(__file__).parents[1] / "data" / "mindir" / "2.10.0"
GPU = {"compute_capability": "8.6"}


@dataclass(frozen=True)
class Source:
    """An ONNX file to build from, and what was found out about it."""

    path: Path
    artifact: Artifact


@pytest.fixture(scope="module")
def package() -> Path:
    return tensorrt_rtx.fetch()


@pytest.fixture
def engines(package: Path, tmp_path: Path) -> Iterator[Engines]:
    settings = BackendSettings(env={"PYTHONPATH": str(package)}, module="tensorrt_rtx")
    engines = Engines(tmp_path / "cache", 8192, {"tensorrt": settings})
    yield engines
    engines.close()


def onnx(path: Path) -> Source:
    return Source(path, describe(path))


def mindir(name: str, folder: Path) -> Source:
    """Convert one of MindSpore's own files as the server does."""
    output = folder / f"{name}.onnx"
    artifact = Helper().inspect(Question(MINDIR / f"{name}.mindir", output=str(output)))
    assert artifact.conversion is not None, artifact.reason
    return Source(Path(artifact.conversion.path), artifact)


def order(source: Source, **options: str) -> Order:
    assert source.artifact.signature is not None
    return Order(
        source.path, "onnx", source.artifact.signature, source.artifact.batch, 8, None,
        {**GPU, **options},
    )  # fmt: skip


async def build(engines: Engines, asked: Order) -> tuple[Built, list[str]]:
    told: list[str] = []
    began = time.monotonic()
    built = await engines.build(ROUTES[Format.ONNX, "gpu"], asked, told.append)
    os.close(built.held)
    size_mb = built.path.stat().st_size / 1e6
    how = "from the cache" if built.cached else f"built in {built.took_s:.2f} s"
    print(f"{asked.source.name}: {size_mb:.1f} MB {how}, {time.monotonic() - began:.2f} s in all")
    return built, told


@pytest.mark.parametrize("name", ["resnet50", "bert", "mobile", "encoder", "moods_lstm"])
async def test_engine_is_built_once_and_then_found(
    name: str, engines: Engines, tmp_path: Path
) -> None:
    if name == "resnet50":
        source = onnx(resnet50(tmp_path / f"{name}.onnx"))
    elif name == "bert":
        source = onnx(models.transformer(tmp_path / f"{name}.onnx", 12, 768, 12, 128))
    else:
        source = mindir(name, tmp_path)
    first, told = await build(engines, order(source))
    head = read_header(first.path)
    assert (head.module, head.version, head.problem) == ("tensorrt_rtx", tensorrt_rtx.VERSION, "")
    assert not first.cached
    assert any("building engine" in text for text in told)
    second, told = await build(engines, order(source))
    assert second.cached
    assert second.path == first.path
    assert not any("building" in text for text in told)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("name", ["resnet50", "transformer"])
async def test_engine_is_built_in_lower_precision_and_is_smaller(
    name: str, precision: str, engines: Engines, tmp_path: Path
) -> None:
    path = tmp_path / f"{name}.onnx"
    source = onnx(resnet50(path) if name == "resnet50" else models.transformer(path, hidden=384))
    wide, _ = await build(engines, order(source))
    low, _ = await build(engines, order(source, precision=precision))
    assert low.identity != wide.identity
    assert any(f"operators run in {precision}" in note for note in low.notes)
    assert low.path.stat().st_size < 0.75 * wide.path.stat().st_size


async def test_operator_that_tensorrt_lacks_is_named(engines: Engines, tmp_path: Path) -> None:
    source = onnx(models.string_lookup(tmp_path / "m.onnx"))
    with pytest.raises(LoadError, match="node 0 LabelEncoder") as told:
        await build(engines, order(source))
    assert told.value.code == "unsupported_operator"


async def test_capability_that_tensorrt_lacks_is_told_with_those_it_has(
    engines: Engines, tmp_path: Path
) -> None:
    source = onnx(models.mlp(tmp_path / "m.onnx"))
    with pytest.raises(LoadError, match="SM80, SM86") as told:
        await build(engines, order(source, compute_capability="3.5"))
    assert told.value.code == "bad_option"


def test_event_loop_is_left_to_others_during_a_build(engines: Engines, tmp_path: Path) -> None:
    source = onnx(models.lenet(tmp_path / "m.onnx"))

    async def ticks() -> int:
        task = asyncio.create_task(build(engines, order(source)))
        count = 0
        while not task.done():
            await asyncio.sleep(0.01)
            count += 1
        await task
        return count

    assert asyncio.run(ticks()) > 20
