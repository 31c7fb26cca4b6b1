"""The manager's own steps, with loads that the test ends as it likes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from serving.errors import LoadError
from serving.lifecycle.manager import Manager
from serving.lifecycle.state import State
from serving.lifecycle.version import Version
from serving.repository.labels import Labels
from serving.repository.observation import Offer, Source
from serving.repository.scanner import ServableScan, VersionScan
from serving.repository.settings import ServableSettings
from serving.repository.snapshot import Print


class Doubles:
    """Loader and publisher in one; loads wait until ``end`` or ``fail``."""

    def __init__(self) -> None:
        self.loads: dict[tuple[int, int], asyncio.Future[None]] = {}
        self.events: list[str] = []
        self.holds: dict[int, asyncio.Event] = {}
        self.breaks: set[str] = set()
        self.labels: dict[str, Labels] = {}

    async def inspect(self, versions: Iterable[Version], found: Callable[[Version], None]) -> None:
        if "inspect" in self.breaks:
            raise RuntimeError("inspection broke")
        for version in versions:
            found(version)

    async def load(self, version: Version, numbers: Iterator[int]) -> None:
        version.become(State.LOADING)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.loads[version.number, content_of(version)] = answer
        await answer
        version.become(State.WARMING)

    def end(self, number: int, content: int) -> None:
        self.loads.pop((number, content)).set_result(None)

    def fail(self, number: int, content: int, why: str) -> None:
        self.loads.pop((number, content)).set_exception(LoadError(why))

    async def unload(self, version: Version) -> None:
        self.events.append(f"unload {version.generation}")

    def publish(self, version: Version) -> None:
        if "publish" in self.breaks:
            raise RuntimeError("publishing broke")
        self.events.append(f"publish {version.number}:{content_of(version)}")

    def label(self, servable: str, labels: Labels) -> None:
        self.labels[servable] = labels

    async def retire(self, version: Version, deadline_s: float) -> None:
        self.events.append(f"retire {version.number}:{content_of(version)}")
        if version.number in self.holds:
            await self.holds[version.number].wait()


def content_of(version: Version) -> int:
    assert version.source is not None
    return version.source.files.files[0][1][0]


def offer(contents: dict[int, int], reason: str = "") -> Offer:
    """Offer versions by number, each with some content; all are wanted that are the newest."""
    versions, sources = [], {}
    for number, content in contents.items():
        path = Path(f"/r/m/{number}/model.onnx")
        versions.append(VersionScan(number, f"m/{number}/model.onnx", path))
        files = Print((("model.onnx", (content, 1, 1)),))
        sources[number] = Source(path, path.parent, files, ServableSettings())
    scan = ServableScan("m", ServableSettings(), () if reason else tuple(versions), reason)
    there = frozenset(contents)
    return Offer(scan, sources, there, there)


@pytest.fixture
def doubles() -> Doubles:
    return Doubles()


@pytest.fixture
def manager(doubles: Doubles) -> Manager:
    return Manager(doubles, doubles)  # type: ignore[arg-type]


async def turns() -> None:
    """Let everything happen that can without waiting for a load."""
    for _ in range(20):
        await asyncio.sleep(0)


async def serve(manager: Manager, doubles: Doubles, number: int, content: int) -> None:
    manager.offer_all({"m": offer({number: content})})
    await turns()
    doubles.end(number, content)
    await manager.quiet()


def states(manager: Manager) -> dict[int, str]:
    return {number: version.state.value for (_, number), version in manager.versions.items()}


async def test_manager_switches_before_it_retires(manager: Manager, doubles: Doubles) -> None:
    await serve(manager, doubles, 1, 1)
    manager.offer_all({"m": offer({1: 1, 2: 1})})
    await turns()
    assert states(manager) == {1: "READY", 2: "LOADING"}
    doubles.end(2, 1)
    await manager.quiet()
    assert doubles.events == ["publish 1:1", "publish 2:1", "retire 1:1", "unload 1"]
    assert states(manager) == {2: "READY"}


async def test_manager_replaces_a_number_by_its_next_generation(
    manager: Manager, doubles: Doubles
) -> None:
    await serve(manager, doubles, 1, 1)
    doubles.holds[1] = asyncio.Event()  # requests of the old one take their time
    manager.offer_all({"m": offer({1: 2})})
    await turns()
    assert states(manager) == {1: "READY"}
    doubles.end(1, 2)
    await turns()
    assert doubles.events == ["publish 1:1", "publish 1:2", "retire 1:1"]
    assert manager.versions["m", 1].generation == 2
    doubles.holds[1].set()
    await turns()
    assert doubles.events[-1] == "unload 1"
    assert states(manager) == {1: "READY"}


async def test_manager_keeps_a_number_whose_next_generation_fails(
    manager: Manager, doubles: Doubles
) -> None:
    await serve(manager, doubles, 1, 1)
    manager.offer_all({"m": offer({1: 2})})
    await turns()
    doubles.fail(1, 2, "it is broken")
    await manager.quiet()
    version = manager.versions["m", 1]
    assert (version.state, version.generation) == (State.READY, 1)
    assert "it is broken" in version.said
    # The same files are not tried again; others are, and clear the trouble.
    manager.offer_all({"m": offer({1: 2})})
    await turns()
    assert doubles.loads == {}
    manager.offer_all({"m": offer({1: 3})})
    await turns()
    doubles.end(1, 3)
    await manager.quiet()
    assert manager.versions["m", 1].said == ""


async def test_manager_takes_up_what_changed_during_a_load(
    manager: Manager, doubles: Doubles
) -> None:
    manager.offer_all({"m": offer({1: 1})})
    await turns()
    manager.offer_all({"m": offer({1: 2})})
    await turns()
    assert list(doubles.loads) == [(1, 1)]
    doubles.fail(1, 1, "its files changed")
    await turns()
    assert list(doubles.loads) == [(1, 2)]
    doubles.end(1, 2)
    await manager.quiet()
    assert states(manager) == {1: "READY"}


async def test_manager_forgets_what_was_deleted_during_its_load(
    manager: Manager, doubles: Doubles
) -> None:
    manager.offer_all({"m": offer({1: 1})})
    await turns()
    manager.offer_all({})
    await turns()
    doubles.end(1, 1)
    await manager.quiet()
    assert doubles.events == ["publish 1:1", "retire 1:1", "unload 1"]
    assert manager.versions == {}


async def test_manager_loads_again_what_came_back_while_it_drained(
    manager: Manager, doubles: Doubles
) -> None:
    await serve(manager, doubles, 1, 1)
    doubles.holds[1] = asyncio.Event()
    manager.offer_all({})
    await turns()
    assert states(manager) == {1: "DRAINING"}
    manager.offer_all({"m": offer({1: 1})})
    await turns()
    assert doubles.loads == {}
    doubles.holds[1].set()
    await turns()
    doubles.end(1, 1)
    await manager.quiet()
    assert states(manager) == {1: "READY"}


async def test_manager_lists_a_servable_that_cannot_be_read_and_its_recovery(
    manager: Manager, doubles: Doubles
) -> None:
    manager.offer_all({"m": offer({}, reason="servable.toml is not valid TOML")})
    assert manager.unservable == {"m": "servable.toml is not valid TOML"}
    await serve(manager, doubles, 1, 1)
    assert manager.unservable == {}
    manager.offer_all({"m": offer({}, reason="servable.toml is not valid TOML")})
    await turns()
    assert manager.unservable == {}
    assert "not valid TOML" in manager.versions["m", 1].said
    manager.offer_all({"m": offer({1: 1})})
    assert manager.versions["m", 1].said == ""
    assert doubles.events == ["publish 1:1"]


async def test_manager_keeps_an_unloaded_servable_listed_until_it_is_loaded(
    manager: Manager, doubles: Doubles
) -> None:
    manager.offer("m", offer({1: 1}))
    await turns()
    doubles.end(1, 1)
    await manager.quiet("m")
    manager.withdraw("m")
    await manager.quiet("m")
    assert states(manager) == {1: "UNLOADED"}
    manager.offer("m", offer({1: 1}))
    await turns()
    doubles.end(1, 1)
    await manager.quiet("m")
    assert states(manager) == {1: "READY"}
    assert manager.failures("m") == []


async def test_manager_tries_again_when_asked_to_load_what_failed(
    manager: Manager, doubles: Doubles
) -> None:
    for why in ("no memory", "still no memory"):
        manager.offer("m", offer({1: 1}))
        await turns()
        doubles.fail(1, 1, why)
        await manager.quiet("m")
        assert manager.failures("m") == [f"version 1: {why}"]


async def test_manager_takes_down_what_is_condemned_and_waits_for_other_files(
    manager: Manager, doubles: Doubles
) -> None:
    await serve(manager, doubles, 1, 1)
    manager.condemn(99, "nobody has this number")
    assert states(manager) == {1: "READY"}
    (member,) = manager.versions["m", 1].members
    manager.condemn(member.model, "it only crashes")
    assert states(manager) == {1: "FAILED"}
    await manager.quiet()
    assert doubles.events == ["publish 1:1", "retire 1:1", f"unload {member.model}"]
    assert manager.versions["m", 1].reason == "it only crashes"
    manager.offer_all({"m": offer({1: 1})})
    await turns()
    assert doubles.loads == {}, "the same files are not tried again"
    await serve(manager, doubles, 1, 2)
    assert states(manager) == {1: "READY"}


async def test_manager_loads_what_was_condemned_when_asked_to(
    manager: Manager, doubles: Doubles
) -> None:
    await serve(manager, doubles, 1, 1)
    manager.condemn(manager.versions["m", 1].members[0].model, "it only crashes")
    await manager.quiet()
    manager.offer("m", offer({1: 1}))
    await turns()
    doubles.end(1, 1)
    await manager.quiet()
    assert states(manager) == {1: "READY"}


@pytest.mark.parametrize("breaks", ["publish", "inspect"])
async def test_manager_survives_a_fault_of_the_server(
    manager: Manager, doubles: Doubles, breaks: str
) -> None:
    doubles.breaks.add(breaks)
    manager.offer_all({"m": offer({1: 1})})
    await turns()
    if breaks == "publish":
        doubles.end(1, 1)
    await manager.quiet()
    assert states(manager) == {1: "FAILED"}
    assert doubles.events == (["unload 1"] if breaks == "publish" else [])
    doubles.breaks.clear()
    await serve(manager, doubles, 1, 2)
    assert states(manager) == {1: "READY"}
