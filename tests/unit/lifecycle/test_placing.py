"""One model on several kinds of devices: each prepared for itself, what fails named, all alike."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from serving.artifact import Artifact, Format
from serving.channel.messages import Load, Loaded
from serving.devices import Where
from serving.errors import LoadError
from serving.lifecycle.fleet import CPU
from serving.lifecycle.member import Member, Placed
from serving.lifecycle.placing import CHANGED, Placer, Terms
from serving.lifecycle.proofs import Proofs
from serving.lifecycle.version import Version
from serving.repository.backend_choice import Route
from serving.repository.engines import Built, Order
from serving.repository.observation import Source
from serving.repository.settings import ServableSettings
from serving.repository.snapshot import Print
from serving.repository.verdict import Verdict, judge
from serving.tensor import FP32, INT64, BatchAxes, DType, Signature, TensorSpec

KINDS = ("cpu", "gpu", "ascend")
ROWS = BatchAxes(True, "walked", (0,), (0,))
GEARS = (1, 8)


def signature(dtype: DType = FP32) -> Signature:
    return Signature((TensorSpec("x", dtype, ("n",)),), (TensorSpec("y", dtype, ("n",)),))


@dataclass
class Workers:
    """A fleet in which steps such as ``try gpu`` fail, or see another model than there is."""

    refuses: Mapping[str, str] = field(default_factory=dict)
    alone: tuple[str, ...] = ()
    sees: Mapping[str, Signature] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    orders: list[Load] = field(default_factory=list)

    async def try_out(self, order: Load, timeout_s: float, where: Where = CPU) -> Loaded:
        return self._did("try", order, where)

    async def load(
        self, order: Load, timeout_s: float, on_phase: Callable[[str], None], where: Where = CPU
    ) -> Loaded:
        return self._did("load", order, where)

    async def unload(self, model: int, where: Where | None = None) -> None:
        self.events.append(f"unload {where.kind if where else 'all'}")

    def _did(self, step: str, order: Load, where: Where) -> Loaded:
        self.orders.append(order)
        self.events.append(f"{step} {where.kind}")
        if f"{step} {where.kind}" in self.refuses:
            raise LoadError(self.refuses[f"{step} {where.kind}"])
        refused = BatchAxes.refused("rows differ").to_json()
        batch = refused if where.kind in self.alone and order.prove else order.batch
        seen = self.sees.get(where.kind, signature())
        gears = GEARS if where.kind == "ascend" else None
        return Loaded(order.model, seen.to_json(), batch, 0.0, 0.0, gears=gears)


@dataclass
class Builders:
    """Engines that are at hand at once; those of ``fails`` cannot be built."""

    folder: Path
    fails: tuple[str, ...] = ()
    code: str = "load_failed"
    asked: list[Order] = field(default_factory=list)

    def options(self, backend: str, own: Mapping[str, str]) -> dict[str, str]:
        return {"of": backend, **own}

    async def build(self, route: Route, order: Order, tell: Callable[[str], None]) -> Built:
        self.asked.append(order)
        if route.backend in self.fails:
            raise LoadError("operator Foo is not covered", code=self.code)
        path = self.folder / f"model.{route.backend}"
        return Built(path, route.backend, 1.0, False, os.open("/dev/null", os.O_RDONLY))


@dataclass
class Case:
    """A version with one model, placed by the fleet and the builders of a test."""

    folder: Path
    workers: Workers
    builders: Builders
    artifact: Artifact = field(
        default_factory=lambda: Artifact(
            Format.ONNX, "onnxruntime", "", signature(), ROWS, digest="ab"
        )
    )
    settings: ServableSettings = field(default_factory=ServableSettings)
    kinds: tuple[str, ...] = KINDS
    unchanged: bool = True

    def __post_init__(self) -> None:
        path = self.folder / "model"
        source = Source(path, self.folder, Print(), self.settings)
        self.version = Version(1, "m", 1, source, self.settings)
        (self.member,) = self.version.members
        self.member.artifact = self.artifact
        self.placer = Placer(self.workers, Proofs(self.folder), self.builders)  # type: ignore[arg-type]

    @property
    def verdict(self) -> Verdict:
        assert self.member.artifact is not None
        return judge(self.member.artifact, self.settings, None, self.kinds)

    def place(self) -> Member:
        terms = Terms(1, 5.0, lambda _: None, lambda: self.unchanged, lambda: None)

        async def run() -> None:
            if self.verdict.signature is None:
                await self.placer.read(self.version, self.member, self.verdict, terms)
            await self.placer.place(self.version, self.member, self.verdict, terms)

        try:
            asyncio.run(run())
        finally:
            self.member.let_go()
        return self.member


@pytest.fixture
def workers() -> Workers:
    return Workers()


@pytest.fixture
def builders(tmp_path: Path) -> Builders:
    return Builders(tmp_path)


@pytest.fixture
def case(tmp_path: Path, workers: Workers, builders: Builders) -> Case:
    return Case(tmp_path, workers, builders)


def kinds(member: Member) -> list[str]:
    return [placed.kind for placed in member.placed]


def test_model_is_built_tried_and_loaded_for_each_kind(case: Case) -> None:
    member = case.place()
    assert case.workers.events == [
        "try cpu", "try gpu", "try ascend", "load cpu", "load gpu", "load ascend",
    ]  # fmt: skip
    assert member.placed == (
        Placed("cpu", "onnxruntime"), Placed("gpu", "tensorrt"), Placed("ascend", "ascend", GEARS),
    )  # fmt: skip
    assert [Path(order.path).name for order in case.workers.orders[:3]] == [
        "model", "model.tensorrt", "model.ascend",
    ]  # fmt: skip
    assert [order.backend for order in case.workers.orders[3:]] == [
        "onnxruntime", "tensorrt", "ascend",
    ]  # fmt: skip
    assert [order.options["of"] for order in case.builders.asked] == ["tensorrt", "ascend"]
    assert (member.batch, member.note) == (ROWS, "")
    assert not case.workers.orders[5].prove


def test_what_was_proved_before_is_not_tried_again(case: Case, tmp_path: Path) -> None:
    case.place()
    again = Case(tmp_path, Workers(), case.builders)
    again.place()
    assert again.workers.events == ["load cpu", "load gpu", "load ascend"]


def test_server_with_a_cpu_alone_builds_nothing(
    tmp_path: Path, workers: Workers, builders: Builders
) -> None:
    Case(tmp_path, workers, builders, kinds=("cpu",)).place()
    assert (workers.events, builders.asked) == (["try cpu", "load cpu"], [])


@pytest.mark.parametrize("step", ["build", "try ascend", "load ascend"])
def test_kind_that_fails_is_left_out_and_said_to_be(
    tmp_path: Path, workers: Workers, builders: Builders, step: str
) -> None:
    if step == "build":
        builders.fails = ("ascend",)
    workers.refuses = {step: "operator Foo is not covered"}
    member = Case(tmp_path, workers, builders).place()
    assert kinds(member) == ["cpu", "gpu"]
    assert member.note == "not on ascend: operator Foo is not covered"


def test_model_that_no_kind_can_have_fails_with_every_reason(
    tmp_path: Path, workers: Workers, builders: Builders
) -> None:
    builders.fails = ("tensorrt", "ascend")
    workers.refuses = {"try cpu": "it is broken"}
    with pytest.raises(LoadError) as error:
        Case(tmp_path, workers, builders).place()
    reason = "operator Foo is not covered"
    assert str(error.value) == f"on cpu: it is broken; on gpu: {reason}; on ascend: {reason}"


def test_pinned_backend_that_fails_fails_the_version(
    tmp_path: Path, workers: Workers, builders: Builders
) -> None:
    builders.fails = ("tensorrt",)
    with pytest.raises(LoadError, match="^operator Foo is not covered$"):
        Case(tmp_path, workers, builders, settings=ServableSettings(backend="tensorrt")).place()
    assert workers.events == []


def test_files_that_change_meanwhile_fail_the_version_and_not_a_kind(
    tmp_path: Path, workers: Workers, builders: Builders
) -> None:
    with pytest.raises(LoadError, match=f"^{CHANGED}$"):
        Case(tmp_path, workers, builders, unchanged=False).place()


def test_kind_on_which_rows_touch_is_left_out_where_the_others_batch(
    tmp_path: Path, workers: Workers, builders: Builders
) -> None:
    workers.alone = ("gpu",)
    member = Case(tmp_path, workers, builders).place()
    assert kinds(member) == ["cpu", "ascend"]
    assert member.batch == ROWS
    assert member.note == "not on gpu: it does not batch there: rows differ"


def test_model_that_batches_nowhere_runs_everywhere_alone(
    tmp_path: Path, workers: Workers, builders: Builders
) -> None:
    workers.alone = KINDS
    member = Case(tmp_path, workers, builders).place()
    assert kinds(member) == list(KINDS)
    assert not member.batch.batched


def test_engine_that_sees_another_model_is_left_out(
    tmp_path: Path, workers: Workers, builders: Builders
) -> None:
    workers.sees = {"gpu": signature(INT64)}
    member = Case(tmp_path, workers, builders).place()
    assert kinds(member) == ["cpu", "ascend"]
    assert "sees other inputs than the model has; expected x FP32, given x INT64" in member.note


def test_engine_that_was_proved_and_sees_another_model_is_unloaded(
    tmp_path: Path, case: Case
) -> None:
    case.place()
    workers = Workers(sees={"ascend": signature(INT64)})
    member = Case(tmp_path, workers, case.builders).place()
    assert kinds(member) == ["cpu", "gpu"]
    assert workers.events[-1] == "unload ascend"


def test_file_that_only_its_device_can_read_is_read_there_first(
    tmp_path: Path, workers: Workers, builders: Builders
) -> None:
    om = Artifact(Format.OM, reason="an OM model needs an Ascend device", digest="cd")
    member = Case(tmp_path, workers, builders, om).place()
    assert workers.events == ["try ascend", "try ascend", "load ascend"]
    assert [order.prove for order in workers.orders] == [False, True, False]
    assert builders.asked == []
    assert member.artifact is not None
    assert member.artifact.signature == signature()
    assert member.artifact.backend == "ascend"
    assert member.batch.batched
    assert "compiled for several batch sizes" in member.batch.reason
    assert member.note == ""  # that no CPU runs it is no news


def test_file_without_gears_runs_alone_unless_settings_say_otherwise(
    tmp_path: Path, workers: Workers, builders: Builders
) -> None:
    plan = Artifact(Format.TENSORRT, reason="an engine needs a GPU", digest="ef")
    member = Case(tmp_path, workers, builders, plan).place()
    assert kinds(member) == ["gpu"]
    assert not member.batch.batched
    assert "batch_axes in servable.toml" in member.batch.reason


def test_gears_of_another_axis_than_the_first_are_no_rows(
    tmp_path: Path, builders: Builders
) -> None:
    sentence = TensorSpec("x", FP32, (1, "length"))
    workers = Workers(sees={"ascend": Signature((sentence,), (TensorSpec("y", FP32, (1, 4)),))})
    om = Artifact(Format.OM, reason="an OM model needs an Ascend device", digest="cd")
    member = Case(tmp_path, workers, builders, om).place()
    assert not member.batch.batched
    assert "not the first axis of each input" in member.batch.reason


def test_what_is_built_for_a_model_is_built_once_even_if_it_is_read_first(
    tmp_path: Path, workers: Workers, builders: Builders
) -> None:
    air = Artifact(Format.AIR, reason="an AIR model is compiled by atc", digest="gh")
    member = Case(tmp_path, workers, builders, air).place()
    assert kinds(member) == ["ascend"]
    assert [order.signature for order in builders.asked] == [None]


def test_model_that_the_builder_of_a_gpu_refuses_runs_by_the_second_choice_and_is_said_to(
    tmp_path: Path, workers: Workers, builders: Builders
) -> None:
    builders.fails, builders.code = ("tensorrt",), "unsupported_operator"
    member = Case(tmp_path, workers, builders).place()
    assert member.placed == (
        Placed("cpu", "onnxruntime"), Placed("gpu", "onnxruntime"),
        Placed("ascend", "ascend", GEARS),
    )  # fmt: skip
    assert member.note == (
        "on gpu by onnxruntime (CUDA): tensorrt cannot take it: operator Foo is not covered"
    )
    tried = dict(zip(workers.events, workers.orders, strict=True))["try gpu"]
    assert (tried.backend, tried.options["of"]) == ("onnxruntime", "onnxruntime")
    assert Path(tried.path).name == "model"


def test_second_choice_is_tried_out_though_the_cpu_has_shown_the_same_file_well(
    tmp_path: Path, builders: Builders
) -> None:
    builders.fails, builders.code = ("tensorrt",), "build_failed"
    for _ in range(2):
        again = Case(tmp_path, Workers(), builders)
        again.place()
    assert again.workers.events == ["try gpu", "load cpu", "load gpu", "load ascend"]


def test_second_choice_that_fails_too_is_told_beside_the_refusal(
    tmp_path: Path, workers: Workers, builders: Builders
) -> None:
    builders.fails, builders.code = ("tensorrt",), "package_missing"
    workers.refuses = {"try gpu": "it needs libcudnn.so.9"}
    member = Case(tmp_path, workers, builders).place()
    assert kinds(member) == ["cpu", "ascend"]
    assert member.note == (
        "not on gpu: operator Foo is not covered; nor is onnxruntime (CUDA) of use: it needs "
        "libcudnn.so.9"
    )


def test_pin_of_the_first_backend_forbids_the_second(
    tmp_path: Path, workers: Workers, builders: Builders
) -> None:
    builders.fails, builders.code = ("tensorrt",), "unsupported_operator"
    with pytest.raises(LoadError, match="^operator Foo is not covered$"):
        Case(tmp_path, workers, builders, settings=ServableSettings(backend="tensorrt")).place()
    assert workers.events == []
