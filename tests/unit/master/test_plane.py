"""Routes and readiness as versions come and go, without workers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from serving.artifact import Artifact, Format
from serving.channel.arena import Arena
from serving.errors import NotFound, Unavailable
from serving.lifecycle.gate import Gate
from serving.lifecycle.state import State
from serving.lifecycle.version import Version
from serving.master.plane import MasterPlane
from serving.repository.observation import Source
from serving.repository.settings import ServableSettings
from serving.repository.snapshot import Print
from serving.request import InferRequest
from serving.scheduling.scheduler import Scheduler
from serving.scheduling.ticket import Ticket
from serving.tensor import FP32, FP64, DType, Signature, Tensor, TensorSpec


class Known:
    """What the plane asks of the manager."""

    def __init__(self) -> None:
        self.versions: dict[tuple[str, int], Any] = {}
        self.unservable: dict[str, str] = {}
        self.available: frozenset[str] = frozenset()
        self.settled = True

    def put(self, name: str, number: int, state: State, reason: str = "") -> None:
        self.versions[name, number] = SimpleNamespace(
            servable=name, number=number, state=state, reason=reason, said=reason,
            members=(), definition=None,
        )  # fmt: skip


def build(known: Known, *, strict: bool = False) -> MasterPlane:
    arena = Arena(1 << 24)
    plane = MasterPlane(Scheduler(arena), arena, lambda: (), Gate("poll"), strict_readiness=strict)
    plane.attach(known, None)  # type: ignore[arg-type]
    return plane


@pytest.fixture
def known() -> Known:
    return Known()


@pytest.fixture
def plane(known: Known, monkeypatch: pytest.MonkeyPatch) -> MasterPlane:
    monkeypatch.setattr(Scheduler, "has_slot", lambda self, model: True)
    return build(known)


def version(model: int, number: int, name: str = "m", dtype: DType = FP32) -> Version:
    path = Path(f"/r/{name}/{number}/model.onnx")
    settings = ServableSettings()
    source = Source(path, path.parent, Print(), settings)
    made = Version(model, name, number, source, settings)
    spec = (TensorSpec("x", dtype, ("n",)),)
    made.members[0].artifact = Artifact(Format.ONNX, "onnxruntime", signature=Signature(spec, spec))
    return made


def request(plane: MasterPlane, number: int | None = None) -> InferRequest:
    """Decode a request as a front end does: by the description that it is told."""
    description = plane.describe("m", number)
    dtype = description.signature.inputs[0].dtype
    array = np.ones(2, dtype.numpy)
    tensor = Tensor("x", dtype, array.shape, array)
    return InferRequest("m", (tensor,), number, generation=description.generation)


def claim(plane: MasterPlane, asked: InferRequest) -> int:
    """Return the number of the model that a request goes to."""
    ticket = plane.claim(asked)
    assert isinstance(ticket, Ticket)
    plane.abandon(ticket)
    return ticket.line.model


async def test_plane_routes_to_the_highest_version_by_default(plane: MasterPlane) -> None:
    plane.publish(version(1, 3))
    plane.publish(version(2, 1))
    assert claim(plane, request(plane)) == 1
    assert claim(plane, request(plane, 1)) == 2
    assert plane.describe("m").versions == (1, 3)


async def test_plane_answers_a_request_by_what_it_was_decoded_for(plane: MasterPlane) -> None:
    plane.publish(version(1, 1))
    before = request(plane)
    # The next generation takes another data type: the request would not fit it.
    plane.publish(version(2, 1, dtype=FP64))
    assert claim(plane, before) == 1
    assert claim(plane, request(plane)) == 2
    retiring = asyncio.create_task(plane.retire(version(1, 1), 1.0))
    await asyncio.sleep(0)
    assert claim(plane, before) == 1
    await retiring
    assert plane.describe("m").generation == 2


async def test_plane_retires_after_the_last_answer(plane: MasterPlane, known: Known) -> None:
    plane.publish(version(1, 1))
    known.put("m", 1, State.DRAINING)
    ticket = plane.claim(request(plane))
    retiring = asyncio.create_task(plane.retire(version(1, 1), 20.0))
    await asyncio.sleep(0.2)
    assert not retiring.done()
    with pytest.raises(Unavailable, match="DRAINING"):
        plane.describe("m")
    plane.abandon(ticket)
    await retiring
    known.versions.clear()
    with pytest.raises(NotFound):
        plane.describe("m")


async def test_plane_keeps_the_route_of_a_generation_that_took_over(plane: MasterPlane) -> None:
    plane.publish(version(1, 1))
    plane.publish(version(2, 1))
    await plane.retire(version(1, 1), 1.0)
    assert claim(plane, request(plane)) == 2


async def test_readiness_waits_for_the_first_look(plane: MasterPlane, known: Known) -> None:
    known.settled = False
    assert not plane.ready()
    known.settled = True
    assert plane.ready(), "an empty directory is ready"


async def test_readiness_needs_something_that_serves(plane: MasterPlane, known: Known) -> None:
    known.put("bad", 1, State.FAILED)
    assert not plane.ready()
    known.put("m", 1, State.READY)
    plane.publish(version(1, 1))
    assert plane.ready()
    # A version on its way beside it, or failing there, changes nothing.
    known.put("m", 2, State.LOADING)
    assert plane.ready()
    known.put("m", 2, State.FAILED)
    assert plane.ready()


async def test_readiness_ends_with_the_last_worker_of_a_servable(
    known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = {1, 2}
    monkeypatch.setattr(Scheduler, "has_slot", lambda self, model: model in loaded)
    plane = build(known)
    for model, name in ((1, "m"), (2, "n")):
        known.put(name, 1, State.READY)
        plane.publish(version(model, 1, name))
    assert plane.ready()
    loaded.discard(2)
    assert not plane.ready()
    loaded.add(2)
    assert plane.ready()


async def test_readiness_is_not_lost_with_what_was_taken_down(
    plane: MasterPlane, known: Known
) -> None:
    for model, name in ((1, "m"), (2, "n")):
        known.put(name, 1, State.READY)
        plane.publish(version(model, 1, name))
    await plane.retire(version(2, 1, "n"), 1.0)
    known.put("n", 1, State.UNLOADED, "unloaded")
    assert plane.ready()
    await plane.retire(version(1, 1), 1.0)
    known.put("m", 1, State.UNLOADED, "unloaded")
    assert plane.ready(), "all was taken down on purpose"


async def test_readiness_is_lost_with_what_failed_after_it_was_ready(
    plane: MasterPlane, known: Known
) -> None:
    condemned = version(2, 1, "n")
    known.put("m", 1, State.READY)
    plane.publish(version(1, 1))
    plane.publish(condemned)
    condemned.state = State.FAILED
    known.put("n", 1, State.FAILED, "it only crashes")
    await plane.retire(condemned, 0.0)
    assert not plane.ready()
    del known.versions["n", 1]
    assert plane.ready(), "its folder is gone: nobody misses it"


async def test_strict_readiness_asks_for_every_servable(
    known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scheduler, "has_slot", lambda self, model: True)
    plane = build(known, strict=True)
    known.put("m", 1, State.READY)
    plane.publish(version(1, 1))
    assert plane.ready()
    known.put("m", 2, State.LOADING)
    assert plane.ready(), "the version before it serves"
    known.put("n", 1, State.LOADING)
    assert not plane.ready()
    del known.versions["n", 1]
    known.put("m", 2, State.FAILED)
    assert not plane.ready()
    del known.versions["m", 2]
    known.unservable["z"] = "broken"
    assert not plane.ready()


def test_plane_lists_what_could_be_loaded(plane: MasterPlane, known: Known) -> None:
    known.put("m", 1, State.READY)
    known.available = frozenset({"m", "later"})
    rows = {(row["name"], row["version"], row["state"]) for row in plane.listed()}
    assert rows == {("m", 1, "READY"), ("later", None, "UNLOADED")}
