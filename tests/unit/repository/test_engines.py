"""Engines are built once by a helper, kept whole, and found again; its failures become reasons."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from serving.config import BackendSettings
from serving.errors import LoadError
from serving.repository import engines as module
from serving.repository.backend_choice import Route
from serving.repository.engines import Built, Engines, Order
from serving.tensor import FP32, BatchAxes, Signature, TensorSpec

ROOT = Path(__file__).parents[3]
ROUTE = Route("tensorrt", "tests.doubles.builder")
AXES = BatchAxes(True, "walked", (0,), (0,))
SIGNATURE = Signature((TensorSpec("x", FP32, ("n",)),), (TensorSpec("y", FP32, ("n",)),))
SETTINGS = BackendSettings(env={"PYTHONPATH": str(ROOT)}, options={"how": "build"})


@asynccontextmanager
async def engines(folder: Path) -> AsyncIterator[Engines]:
    made = Engines(folder, 64, {"tensorrt": SETTINGS})
    try:
        yield made
    finally:
        made.close()


def order(folder: Path, **options: str) -> Order:
    source = folder / "model.onnx"
    source.write_text("onnx")
    return Order(source, "onnx", SIGNATURE, AXES, 8, (1, 8), options)


async def build(folder: Path, what: Order) -> tuple[Built, list[str]]:
    said: list[str] = []
    async with engines(folder) as made:
        built = await made.build(ROUTE, what, said.append)
    os.close(built.held)
    return built, said


async def test_engine_is_built_and_found_again_by_the_next_server(tmp_path: Path) -> None:
    what = order(tmp_path, content="whole", asked=str(tmp_path / "asked"))
    first, said = await build(tmp_path / "cache", what)
    assert not first.cached
    assert (first.took_s, first.notes) == (1.5, ("as small as can be",))
    assert first.path.read_text() == "whole"
    assert (first.path.parent / "engine.json").exists()
    assert "at it" in said
    again, _ = await build(tmp_path / "cache", what)
    assert again.cached
    assert again.path == first.path
    asked = [json.loads(line) for line in (tmp_path / "asked").read_text().splitlines()]
    assert [set(q) & {"identity", "folder"} for q in asked] == [
        {"identity"},
        {"folder"},
        {"identity"},
    ]
    assert asked[1]["source"] == str(what.source)
    assert asked[1]["batch_sizes"] == [1, 8]
    assert asked[1]["max_batch_size"] == 8
    assert asked[1]["batch"] == AXES.to_json()
    assert asked[1]["signature"] == SIGNATURE.to_json()


async def test_other_content_is_another_engine(tmp_path: Path) -> None:
    what = order(tmp_path)
    one, _ = await build(tmp_path / "cache", what)
    other, _ = await build(tmp_path / "cache", replace(what, batch_sizes=(2,)))
    assert one.identity != other.identity
    assert not other.cached


async def test_engine_that_lost_its_file_is_built_again(tmp_path: Path) -> None:
    what = order(tmp_path)
    first, _ = await build(tmp_path / "cache", what)
    first.path.unlink()
    again, _ = await build(tmp_path / "cache", what)
    assert not again.cached
    assert again.path.exists()


async def test_folder_that_cannot_be_written_costs_a_build_at_each_start(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    async with engines(tmp_path / "cache") as made:
        built = await made.build(ROUTE, order(tmp_path), lambda _: None)
        os.close(built.held)
        assert built.path.exists()
    assert not built.path.exists()


@pytest.mark.parametrize(
    ("how", "code", "says"),
    [
        ("error", "build_failed", "operator Foo (remove it)"),
        ("identity error", "no_atc", "no compiler (install it)"),
        (
            "crash",
            "build_failed",
            "was killed by SIGSEGV; its last words: the last words of lib.so",
        ),
        ("no file", "build_failed", "its file is not there"),
        ("nonsense", "build_failed", "its file is not there"),
        ("bad identity", "build_failed", "gave an identity that is none"),
    ],
)
async def test_builder_that_fails_is_the_reason_and_leaves_nothing(
    tmp_path: Path, how: str, code: str, says: str
) -> None:
    with pytest.raises(LoadError) as error:
        await build(tmp_path / "cache", order(tmp_path, how=how))
    assert says in str(error.value)
    assert error.value.code == code
    folder = tmp_path / "cache" / "engines"
    assert not folder.exists() or list(folder.iterdir()) == []


async def test_builder_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SILENCE_S", 1.0)
    with pytest.raises(LoadError, match="gave no sign of life for 1 s"):
        await build(tmp_path / "cache", order(tmp_path, how="hang"))


def test_options_of_a_servable_go_before_those_of_the_server(tmp_path: Path) -> None:
    made = Engines(tmp_path, 1, {"tensorrt": BackendSettings(options={"a": "1", "b": "1"})})
    assert made.options("tensorrt", {"b": "2"}) == {"a": "1", "b": "2"}
    assert made.options("ascend", {"b": "2"}) == {"b": "2"}
