"""Methods behind the data plane: found, described, claimed, counted, taken down."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.artifact import Artifact, Format
from serving.channel.arena import Arena
from serving.definition import INPUTS, DeclaredModel, Definition, Function, Kind, Method, Node, Ref
from serving.errors import NotFound, Unavailable
from serving.lifecycle.gate import Gate
from serving.lifecycle.state import State
from serving.lifecycle.version import Version
from serving.master.plane import MasterPlane
from serving.repository.example import Example
from serving.repository.observation import Source
from serving.repository.settings import parse_settings
from serving.repository.snapshot import Print
from serving.request import InferRequest
from serving.scheduling.pipeline.call import MethodCall
from serving.scheduling.scheduler import Scheduler
from serving.scheduling.stages.scheduler import StageScheduler
from serving.tensor import FP32, Signature, Tensor, TensorSpec
from tests.unit.master.test_plane import Known

X = Ref(INPUTS, 0)
ECHO = Method("echo", ("x",), ("y",), (), (X,))
NET = Method("net", ("x",), ("y",), (Node(Kind.MODEL, "n.onnx", (X,), 1),), (Ref(0, 0),))
CALL = Method("call", ("x",), ("y",), (Node(Kind.FUNCTION, "f", (X,), 1),), (Ref(0, 0),))
ROWS = Signature((TensorSpec("in", FP32, ("n", 2)),), (TensorSpec("out", FP32, ("n",)),))


@pytest.fixture
def known() -> Known:
    return Known()


@pytest.fixture
def plane(known: Known, monkeypatch: pytest.MonkeyPatch) -> MasterPlane:
    monkeypatch.setattr(Scheduler, "has_slot", lambda self, model: True)
    arena = Arena(1 << 24)
    plane = MasterPlane(
        Scheduler(arena), arena, lambda: (), Gate("poll"), strict_readiness=False,
        stages=StageScheduler(arena),
    )  # fmt: skip
    plane.attach(known, None)  # type: ignore[arg-type]
    return plane


def version(
    generation: int, *methods: Method, number: int = 1, settings: str = "", models: bool = True
) -> Version:
    home = Path("/r/m")
    known = parse_settings(settings.encode(), "m/servable.toml")
    source = Source(home / str(number), home, Print(), known, code=home)
    made = Version(generation, "m", number, source, known)
    declared = (DeclaredModel(("n.onnx",), "onnx"),) if models else ()
    made.define(Definition(declared, (Function("f", 1, 1),), methods), iter([generation + 100]))
    for member in made.members:
        member.artifact = Artifact(Format.ONNX, "onnxruntime", signature=ROWS)
    return made


def request(plane: MasterPlane, method: str, value: float = 1.0) -> InferRequest:
    known = plane.describe("m", None, method)
    tensor = Tensor.of("x", np.full((1, 2), value, np.float32))
    return InferRequest("m", (tensor,), method=method, generation=known.generation)


async def test_plane_tells_methods_and_describes_each(plane: MasterPlane) -> None:
    plane.publish(version(1, ECHO, NET))
    assert plane.methods("m") == ("echo", "net")
    known = plane.describe("m", 1, "net")
    assert (known.method, known.versions, known.generation) == ("net", (1,), 1)
    assert known.signature.inputs == (TensorSpec("x", FP32, ("", 2)),)
    assert known.details["config"]["max_batch_size"] == 32
    with pytest.raises(NotFound, match="did you mean 'echo'"):
        plane.describe("m", 1, "ecko")
    with pytest.raises(NotFound, match="several methods"):
        plane.describe("m")


async def test_plane_runs_a_method_that_passes_its_input_through(plane: MasterPlane) -> None:
    plane.publish(version(1, ECHO))
    claim = plane.claim(request(plane, "echo", 3.5))
    assert not claim.answer.done()
    plane.commit(claim)
    (y,) = (await claim.answer).outputs
    assert y.array is not None
    assert y.array.tolist() == [[3.5, 3.5]]
    counted = {seen.servable: seen.successes for seen in (await plane.statistics()).versions}
    assert counted == {"m:echo": 1, "m:n.onnx": 0}
    assert plane.tallies() == ["m:echo version 1: 1 requests, 0 failed"]


async def test_plane_sends_a_method_s_model_to_its_own_line(plane: MasterPlane) -> None:
    plane.publish(version(1, NET))
    claim = plane.claim(request(plane, "net"))
    plane.commit(claim)
    waiting = {seen.servable: seen.waiting for seen in (await plane.statistics()).versions}
    assert waiting == {"m:net": 0, "m:n.onnx": 1}
    plane.abandon(claim)
    assert (await plane.statistics()).memory.lent_bytes == 0


async def test_plane_pins_a_request_to_the_code_it_was_decoded_for(plane: MasterPlane) -> None:
    plane.publish(version(1, ECHO))
    before = request(plane, "echo")
    swap = Method("echo", ("x", "z"), ("y",), (), (Ref(INPUTS, 1),))
    plane.publish(version(2, swap))
    old = plane.claim(before)
    assert isinstance(old, MethodCall)
    retiring = asyncio.create_task(plane.retire(version(1, ECHO), 20.0))
    await asyncio.sleep(0.2)
    assert not retiring.done(), "it has a request under way"
    plane.commit(old)
    assert (await old.answer).version == 1
    await retiring
    assert plane.describe("m").generation == 2
    with pytest.raises(Exception, match="needs input 'z'"):
        plane.claim(before)  # its code is gone: what serves now has the last word


async def test_plane_fails_what_a_version_cannot_answer_in_time(plane: MasterPlane) -> None:
    plane.publish(version(1, NET))
    claim = plane.claim(request(plane, "net"))
    plane.commit(claim)
    await plane.retire(version(1, NET), 0.0)
    with pytest.raises(Unavailable, match="unloaded"):
        await claim.answer
    assert (await plane.statistics()).memory.lent_bytes == 0


async def test_plane_is_not_ready_while_functions_have_no_worker(
    plane: MasterPlane, known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: dict[str, Any] = {"worker": True}
    monkeypatch.setattr(StageScheduler, "has_worker", lambda self, generation: there["worker"])
    plane.publish(version(1, CALL, models=False))
    known.put("m", 1, State.READY)
    assert plane.ready()
    there["worker"] = False
    assert not plane.ready()


async def test_plane_lists_what_a_version_consists_of(plane: MasterPlane, known: Known) -> None:
    made = version(1, ECHO, CALL)
    known.versions["m", 1] = made
    plane.publish(made)
    (row,) = await plane.servables()
    assert (row["methods"], row["functions"]) == (["echo", "call"], ["f"])
    assert row["models"] == [{"file": "n.onnx", "batched": False, "batching": "not examined yet"}]


async def test_plane_offers_hidden_methods_only_where_settings_say_so(plane: MasterPlane) -> None:
    plane.publish(version(1, ECHO))
    with pytest.raises(NotFound):
        plane.describe("m", 1, "@call_n.onnx_0")
    plane.publish(version(2, ECHO, number=2, settings="[methods]\nhidden = true"))
    assert plane.describe("m", 2, "@call_n.onnx_0").signature.inputs[0].name == "x0"
    assert plane.methods("m") == ("echo",)


@pytest.mark.parametrize(
    ("said", "shown"), [({"method": "net"}, "net"), ({}, "predict"), ({"method": "gone"}, None)]
)
async def test_plane_shows_an_example_with_the_method_that_it_is_for(
    plane: MasterPlane, said: dict[str, str], shown: str | None
) -> None:
    predict = replace(ECHO, name="predict")
    made = version(1, ECHO, NET, predict)
    assert made.source is not None
    example = Example({"servable": "m", "instances": [], **said})
    made.source = replace(made.source, example=example)
    plane.publish(made)
    with_one = [
        name for name in plane.methods("m") if "example" in plane.describe("m", 1, name).details
    ]
    assert with_one == ([] if shown is None else [shown])
