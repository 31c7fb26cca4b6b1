"""Regions of clients over a real stream: one list, in the master and in a front-end process."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

import numpy as np
import pytest

from serving.channel.arena import Arena
from serving.errors import InvalidRequest, NotFound, Overloaded, ServingError
from serving.frontends.shared_memory.region import Region
from serving.frontends.shared_memory.regions import Registry
from serving.gateway import afar
from serving.gateway.looks import Writer
from serving.gateway.messages import Claim, Place, Unused
from serving.gateway.regions import SharedRegions
from serving.request import Description, Elsewhere, InferRequest, InferResponse
from serving.tensor import FP32, BatchAxes, Signature, Tensor, TensorSpec
from tests.doubles.plane import StubPlane
from tests.doubles.stream import BothEnds
from tests.shared_objects import Objects, shared_objects

KNOWN = Description(
    "m", 1,
    Signature((TensorSpec("x", FP32, ("n",)),), (TensorSpec("y", FP32, ("n",)),)),
    BatchAxes.refused("a test"), 0, "stub", versions=(1,), generation=5,
)  # fmt: skip
ROW = np.arange(8, dtype=np.float32)


class Worker(StubPlane):
    """Doubles what it reads where it is told to, and writes it there as well."""

    def __init__(self) -> None:
        super().__init__(KNOWN, model=self._run)

    def commit(self, claim: Any) -> None:
        super().commit(claim)
        claim.answer.result().stored = ("y",)

    def _run(self, request: InferRequest) -> tuple[Tensor, ...]:
        assert request.elsewhere is not None
        source, target = request.elsewhere.sources["x"], request.elsewhere.targets["y"]
        assert request.inputs[0].array is None
        values = np.frombuffer(os.pread(source.fd, source.size, source.at), np.float32) * 2
        os.pwrite(target.fd, values.tobytes(), target.at)
        return (Tensor("y", FP32, values.shape, values),)


class Both(BothEnds):
    """With the list of the master."""

    def __init__(self) -> None:
        self.registry = Registry(most_bytes=10_000, request_bytes=1000)
        self.worker = Worker()
        super().__init__(self.worker, Arena(1 << 24), self.registry, 1000)
        for changed in (self.registry.on_register, self.registry.on_unregister):
            changed.append(self.desk.tell_regions)

    @property
    def regions(self) -> SharedRegions:
        assert self.plane.regions is not None
        return self.plane.regions


@pytest.fixture
def objects() -> Iterator[Objects]:
    with shared_objects() as made:
        yield made


@pytest.fixture
async def both() -> AsyncIterator[Both]:
    found = Both()
    yield found
    found.close()
    gc.collect()


async def until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not there():
            await asyncio.sleep(0.001)


def descriptors_of(objects: Objects, name: str) -> int:
    found = 0
    for entry in os.listdir("/proc/self/fd"):
        try:
            found += objects.path(name).name in os.readlink(f"/proc/self/fd/{entry}")
        except FileNotFoundError:
            continue  # of the listing itself
    return found


def claim_of(given: Region, taken: Region) -> InferRequest:
    elsewhere = Elsewhere({"x": given.span(0, 32)}, {"y": taken.span(4, 32)})
    return InferRequest(
        "m", (Tensor("x", FP32, ROW.shape),), 1, generation=5, elsewhere=elsewhere
    )  # fmt: skip


async def test_region_is_that_of_the_master(both: Both, objects: Objects) -> None:
    key = objects.make("a", b"0123456789")
    await both.regions.register("r", key, 2, 6)
    (mine,), (its,) = both.regions.status().items(), both.registry.status().items()
    assert mine[0] == its[0] == "r"
    for name in ("key", "offset", "size", "name", "number"):
        assert getattr(mine[1], name) == getattr(its[1], name)
    assert bytes(mine[1].read(1, 3, "")) == b"345"
    objects.make("b", bytes(4))
    os.replace(objects.path("b"), objects.path("a"))
    assert bytes(mine[1].read(1, 3, "")) == b"345", "the same object, whatever the key means now"


async def test_refusals_are_those_of_the_master(both: Both, objects: Objects) -> None:
    key = objects.make("a", bytes(10))
    await both.regions.register("r", key, 0, 10)
    alone = Registry(most_bytes=10_000, request_bytes=1000)
    await alone.register("r", key, 0, 10)
    for given, kind in (
        (("r", key, 0, 10), InvalidRequest),
        (("", key, 0, 10), InvalidRequest),
        (("s", key, 4, 10), InvalidRequest),
        (("s", "/../x", 0, 10), InvalidRequest),
        (("s", "/nothing-there", 0, 10), NotFound),
        (("s", key, 0, 10_001), Overloaded),
    ):
        words = []
        for regions in (both.regions, alone):
            with pytest.raises(kind) as refused:
                await regions.register(*given)
            error = cast(ServingError, refused.value)
            words.append((str(error), error.code, error.where, error.expected, error.given))
        assert words[0] == words[1]
    assert list(both.regions.status()) == ["r"]
    with pytest.raises(NotFound):
        both.regions.find("s", "")


async def test_worker_reads_and_writes_where_the_front_end_says(
    both: Both, objects: Objects
) -> None:
    await both.regions.register("in", objects.make("in", ROW.tobytes()), 0, 32)
    await both.regions.register("out", objects.make("out", bytes(40)), 0, 40)
    claim = both.plane.claim(claim_of(*(both.regions.find(n, "") for n in ("in", "out"))))
    both.plane.commit(claim)
    response = await asyncio.wait_for(claim.answer, 10)
    assert response.stored == ("y",)
    assert response.outputs[0].shape == ROW.shape
    assert objects.path("out").read_bytes() == bytes(4) + (2 * ROW).tobytes() + bytes(4)


async def test_request_that_found_its_region_outlives_the_end_of_it(
    both: Both, objects: Objects
) -> None:
    await both.regions.register("in", objects.make("in", ROW.tobytes()), 0, 32)
    await both.regions.register("out", objects.make("out", bytes(40)), 0, 40)
    request = claim_of(*(both.regions.find(n, "") for n in ("in", "out")))
    forgotten: list[bool] = []
    both.regions.on_unregister.append(lambda: forgotten.append(True))
    await both.registry.unregister()
    await until(lambda: len(forgotten) == 2)
    assert not both.regions.status()
    claim = both.plane.claim(request)
    both.plane.commit(claim)
    response: InferResponse = await asyncio.wait_for(claim.answer, 10)
    assert response.stored == ("y",)
    assert descriptors_of(objects, "in") == 2
    both.worker.requests.clear()
    del request, claim, response
    gc.collect()
    both.plane.sweep(0.0)
    await until(lambda: descriptors_of(objects, "in") == 0)


async def test_process_that_is_gone_holds_no_region(both: Both, objects: Objects) -> None:
    await both.regions.register("in", objects.make("in", ROW.tobytes()), 0, 32)
    both.far.close()
    await until(lambda: "master" in both.closed)
    both.desk.abandon_all()
    await both.registry.unregister()
    del both.regions._known["in"]
    await until(lambda: descriptors_of(objects, "in") == 0)


@pytest.mark.parametrize("lies", ["names no region", "lets go of one that is shared"])
async def test_process_that_lies_about_regions_is_broken(
    both: Both, objects: Objects, lies: str, caplog: pytest.LogCaptureFixture
) -> None:
    await both.regions.register("in", objects.make("in", ROW.tobytes()), 0, 32)
    if lies == "names no region":
        region = Region("region 'in'", "/in", 0, 32, os.open(os.devnull, os.O_RDWR), 99)
        asked = claim_of(region, region)
        assert asked.elsewhere is not None
        look, far = Writer().request(asked), afar.encode(asked.elsewhere)
        both.far.send(Claim(1, 5, None, 0, look, "", (Place(0, 0, 0),), b"", far))
    else:
        both.far.send(Unused(both.regions.find("in", "").number))
    await until(lambda: "master" in both.closed)
    assert "the other side is broken: region" in caplog.text
