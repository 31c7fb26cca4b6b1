"""Versions of several models and of Python functions: all of it loads, or nothing stays."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving.artifact import Artifact, Format
from serving.channel.messages import Load, Loaded
from serving.definition import INPUTS, DeclaredModel, Definition, Function, Kind, Method, Node, Ref
from serving.devices import Where
from serving.errors import LoadError
from serving.lifecycle import loader as module
from serving.lifecycle.fleet import CPU, StageOrder
from serving.lifecycle.loader import Loader, LoadLimits
from serving.lifecycle.proofs import Proofs
from serving.lifecycle.state import State
from serving.lifecycle.version import Version
from serving.repository.conversions import Conversions
from serving.repository.observation import Source
from serving.repository.settings import ServableSettings
from serving.repository.snapshot import Print
from serving.tensor import FP32, BatchAxes, Signature, TensorSpec

FUNCTION = Node(Kind.FUNCTION, "f", (Ref(INPUTS, 0),), 1)
METHOD = Method("m", ("x",), ("y",), (FUNCTION,), (Ref(0, 0),))
DEFINITION = Definition(
    (DeclaredModel(("a.onnx", "b.onnx"), "onnx"), DeclaredModel(("c.onnx",), "onnx")),
    (Function("f", 1, 1),),
    (METHOD,),
)
ROWS = Signature((TensorSpec("x", FP32, ("n",)),), (TensorSpec("y", FP32, ("n",)),))
FOUR = Signature((TensorSpec("x", FP32, (4,)),), (TensorSpec("y", FP32, (4,)),))


class Workers:
    """Fleet and stages in one; ``refuses`` are steps that fail, such as ``load 3``."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.loaded: set[int] = set()
        self.staged: set[int] = set()
        self.refuses = ""
        self.batched = True

    def _do(self, step: str) -> None:
        self.events.append(step)
        if step == self.refuses:
            raise LoadError("it broke")

    async def try_out(self, order: Load, timeout_s: float, where: Where = CPU) -> Loaded:
        self._do(f"try {order.model}")
        batch = order.batch if self.batched else BatchAxes.refused("rows differ").to_json()
        return Loaded(order.model, {}, batch, 0.0, 0.0)

    async def load(
        self, order: Load, timeout_s: float, on_phase: Callable[[str], None], where: Where = CPU
    ) -> Loaded:
        self._do(f"load {order.model}")
        self.loaded.add(order.model)
        on_phase("warming")
        return Loaded(order.model, {}, order.batch, 0.0, 0.0, note=f"note {order.model}")

    async def unload(self, model: int, where: Where | None = None) -> None:
        self.loaded.discard(model)

    async def start(self, order: StageOrder) -> None:
        self._do(f"stages {order.generation}")
        self.staged.add(order.generation)

    async def stop(self, generation: int) -> None:
        self.staged.discard(generation)


class Inspecting:
    """Stands for the inspection helper: all files hold the same model."""

    signature = ROWS

    def __init__(self, **_options: Any) -> None:
        pass

    async def __aenter__(self) -> Inspecting:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def inspect(self, question: Any, _told: object) -> Artifact:
        if question.path.name == "broken.onnx":
            return Artifact(Format.ONNX, reason="it is broken")
        return Artifact(Format.ONNX, "onnxruntime", signature=self.signature)


@pytest.fixture
def workers() -> Workers:
    return Workers()


@pytest.fixture
def loader(workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loader:
    monkeypatch.setattr(module, "Inspector", Inspecting)
    limits = LoadLimits(1, 60.0)
    return Loader(workers, workers, Proofs(tmp_path), Conversions(tmp_path, 1), limits)


def version(
    monkeypatch: pytest.MonkeyPatch, definition: Definition = DEFINITION, files: Print | None = None
) -> Version:
    async def define(*_: object, **__: object) -> Definition:
        return definition

    monkeypatch.setattr(module, "define", define)
    home = Path("/r/m")
    settings = ServableSettings()
    source = Source(home / "1", home, files or Print(), settings, code=home)
    return Version(7, "m", 1, source, settings)


async def bring_up(loader: Loader, version: Version) -> None:
    found: list[Version] = []
    await loader.inspect([version], found.append)
    assert found == [version]
    await loader.load(version, itertools.count(20))


async def test_loader_loads_every_model_and_then_the_functions(
    loader: Loader, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = version(monkeypatch)
    await bring_up(loader, made)
    assert workers.events == [
        "try 20", "load 20", "try 21", "load 21", "try 22", "load 22", "stages 7",
    ]  # fmt: skip
    assert [(m.file, m.subgraph, m.path) for m in made.members] == [
        ("a.onnx", 0, Path("/r/m/1/a.onnx")),
        ("b.onnx", 1, Path("/r/m/1/b.onnx")),
        ("c.onnx", 0, Path("/r/m/1/c.onnx")),
    ]
    assert made.state is State.WARMING
    assert made.note == "a.onnx: note 20; b.onnx: note 21; c.onnx: note 22"
    await loader.unload(made)
    assert (workers.loaded, workers.staged) == (set(), set())


@pytest.mark.parametrize("refuses", ["try 20", "load 21", "try 22", "stages 7"])
async def test_loader_gives_all_back_when_a_part_does_not_load(
    loader: Loader, workers: Workers, monkeypatch: pytest.MonkeyPatch, refuses: str
) -> None:
    workers.refuses = refuses
    with pytest.raises(LoadError, match="it broke") as caught:
        await bring_up(loader, version(monkeypatch))
    assert (workers.loaded, workers.staged) == (set(), set())
    if refuses == "load 21":
        assert str(caught.value) == "b.onnx: it broke"


async def test_loader_gives_all_back_when_it_is_cancelled(
    loader: Loader, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_order: StageOrder) -> None:
        workers.staged.add(7)
        await asyncio.Event().wait()

    monkeypatch.setattr(workers, "start", never)
    loading = asyncio.create_task(bring_up(loader, version(monkeypatch)))
    while not workers.staged:
        await asyncio.sleep(0)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert (workers.loaded, workers.staged) == (set(), set())


async def test_loader_judges_all_models_before_it_loads_one(
    loader: Loader, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = (DeclaredModel(("a.onnx",), "onnx"), DeclaredModel(("broken.onnx",), "onnx"))
    with pytest.raises(LoadError, match=r"^broken.onnx: it is broken"):
        await bring_up(loader, version(monkeypatch, Definition(models, (), (METHOD,))))
    assert workers.events == []


async def test_loader_starts_no_stage_worker_for_models_alone(
    loader: Loader, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(Kind.MODEL, "a.onnx", (Ref(INPUTS, 0),), 1)
    method = Method("m", ("x",), ("y",), (node,), (Ref(0, 0),))
    only = Definition((DeclaredModel(("a.onnx",), "onnx"),), (), (method,))
    await bring_up(loader, version(monkeypatch, only))
    assert workers.events == ["try 20", "load 20"]


async def test_loader_refuses_rows_that_must_be_together_and_cannot(
    loader: Loader, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers.batched = False
    await bring_up(loader, version(monkeypatch))  # one row after the other
    monkeypatch.setattr(Inspecting, "signature", FOUR)
    with pytest.raises(LoadError, match=r"a.onnx: it takes 4 rows at once, .* rows differ"):
        await bring_up(loader, version(monkeypatch))


async def test_loader_refuses_what_changed_while_it_was_loaded(
    loader: Loader, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Print((("servable_config.py", (1, 1, 1)),))
    with pytest.raises(LoadError, match="changed while it was being loaded"):
        await bring_up(loader, version(monkeypatch, files=gone))
    assert (workers.loaded, workers.staged) == (set(), set())


async def test_loader_refuses_methods_that_do_not_fit_their_model(
    loader: Loader, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = Node(Kind.MODEL, "c.onnx", (Ref(INPUTS, 0),), 2)
    misfit = replace(DEFINITION, methods=(replace(METHOD, nodes=(both,)),))
    with pytest.raises(LoadError, match="outputs_count=2 of model 'c.onnx', which gives 1: y FP32"):
        await bring_up(loader, version(monkeypatch, misfit))
    assert workers.events == []


async def test_loader_refuses_models_that_no_method_calls(
    loader: Loader, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LoadError, match="registers no method"):
        await bring_up(loader, version(monkeypatch, replace(DEFINITION, methods=())))
    assert workers.events == []
