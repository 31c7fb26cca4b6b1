"""The data plane of a front end over a real stream to the master's desk: as good as in process."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import numpy as np
import pytest

from serving.channel.arena import Arena
from serving.errors import (
    ControlOff,
    InternalError,
    InvalidRequest,
    Overloaded,
    ServingError,
    Unavailable,
)
from serving.gateway import pipe
from serving.gateway.looks import Writer
from serving.gateway.messages import Gather, Place, Table
from serving.gateway.plane import GatewayPlane
from serving.gateway.words import description_to_json
from serving.request import Description, InferRequest, InferResponse
from serving.tensor import BYTES, FP32, BatchAxes, Signature, Tensor, TensorSpec
from tests.doubles.plane import StubPlane
from tests.doubles.stream import BothEnds

KNOWN = Description(
    "m", 1,
    Signature((TensorSpec("x", FP32, ("n",)),), (TensorSpec("x", FP32, ("n",)),)),
    BatchAxes.refused("a test"), 0, "stub", versions=(1,), generation=5,
)  # fmt: skip
LARGE = 50_000


class Judge(StubPlane):
    """A stub that can do what a desk asks for beside the data plane; ``arena`` holds answers."""

    def __init__(self, arena: Arena) -> None:
        super().__init__(KNOWN, model=self._run)
        self.arena = arena
        self.refuse: ServingError | None = None
        self.wait = False
        self.in_arena = False
        self.counts: Counter[tuple[str, str]] = Counter()
        self._waiting: list[Any] = []

    def claim(self, request: InferRequest) -> Any:
        if self.refuse is not None:
            raise self.refuse
        return super().claim(request)

    def commit(self, claim: Any) -> None:
        if self.wait:
            self._waiting.append(claim)
        else:
            super().commit(claim)

    def go_on(self) -> None:
        self.wait = False
        for claim in self._waiting:
            if not claim.answer.done():
                self.commit(claim)

    def counted(self, front_end: str, code: str) -> None:
        self.counts[front_end, code] += 1

    def _run(self, request: InferRequest) -> tuple[Tensor, ...]:
        outputs = []
        for tensor in request.inputs:
            array = tensor.array
            if self.in_arena and array is not None:
                segment = self.arena.take(array.nbytes, writable_elsewhere=True)
                lent = segment.bytes[: array.nbytes].view(array.dtype).reshape(array.shape)
                lent[...] = array
                array = lent
            elif array is not None:
                array = array.copy()  # as rows would be: the inputs are read before the end
            outputs.append(Tensor(tensor.name, tensor.dtype, tensor.shape, array, tensor.items))
        return tuple(outputs)


class Both(BothEnds):
    def __init__(self, budget: int = 1 << 26) -> None:
        arena = Arena(budget)
        self.judge = Judge(arena)
        super().__init__(self.judge, arena)


@pytest.fixture
async def both() -> AsyncIterator[Both]:
    found = Both()
    yield found
    found.close()
    gc.collect()


def request(values: Any, id: str = "") -> InferRequest:
    array = np.asarray(values, np.float32)
    return InferRequest("m", (Tensor("x", FP32, array.shape, array),), 1, id=id, generation=5)


async def ask(plane: GatewayPlane, asked: InferRequest) -> InferResponse:
    claim = plane.claim(asked)
    plane.commit(claim)
    return await asyncio.wait_for(claim.answer, 10)


async def until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not there():
            await asyncio.sleep(0.001)


async def test_request_and_answer_pass_whole(both: Both) -> None:
    words = Tensor("s", BYTES, (2,), items=[b"a", b"\xff\x00"])
    asked = request([1.5, 2.5], "id-1")
    asked = asked._replace(
        inputs=(*asked.inputs, words), outputs=("x", "s"), deadline=1e9, priority=3,
        method=None, parameters={"k": 1},
    )  # fmt: skip
    response = await ask(both.plane, asked)
    (seen,) = both.judge.requests
    assert seen._replace(inputs=()) == asked._replace(inputs=())
    assert [t.name for t in seen.inputs] == ["x", "s"]
    x, s = response.outputs
    assert x.array is not None
    assert (x.array.tolist(), list(s.items or ())) == ([1.5, 2.5], [b"a", b"\xff\x00"])
    assert (response.servable, response.version, response.id) == ("m", 1, "id-1")
    assert both.judge.released == 1


@pytest.mark.parametrize("in_arena", [True, False])
async def test_large_tensors_pass_through_shared_memory(both: Both, in_arena: bool) -> None:
    both.judge.in_arena = in_arena
    for turn in range(3):
        response = await ask(both.plane, request(np.arange(LARGE) + turn))
        (x,) = response.outputs
        assert x.array is not None
        np.testing.assert_array_equal(x.array, np.arange(LARGE, dtype=np.float32) + turn)
        if in_arena:
            assert both.judge.released == turn, "held until it has been read"
        response.release()
        response.release()  # later calls do nothing
        await until(lambda t=turn: both.judge.released == t + 1)  # type: ignore[misc]
    assert both.trays.total_bytes == 256 * 1024, "one segment, used again"


async def test_body_received_into_lent_memory_is_not_copied(both: Both) -> None:
    trays = both.plane.trays
    first = trays.receive(4 * LARGE)  # none is there yet: the next gets one
    del first

    def lent() -> bool:
        """Whether it has come here; that the master has sent it is too early."""
        segment = trays.take(4 * LARGE)
        if segment is not None:
            trays.give(segment)
        return segment is not None

    await until(lent)
    assert both.trays.used_bytes > 0
    room = trays.receive(4 * LARGE)
    room[:] = np.arange(LARGE, dtype=np.float32).tobytes()
    array = np.frombuffer(room, np.float32)
    assert trays.locate(array.__array_interface__["data"][0], array.nbytes) is not None
    before = both.trays.total_bytes
    response = await ask(both.plane, request(array))
    assert response.outputs[0].array is not None
    np.testing.assert_array_equal(response.outputs[0].array, np.arange(LARGE, dtype=np.float32))
    assert both.trays.total_bytes == before
    del array, room, response
    both.judge.requests.clear()
    assert trays.receive(4 * LARGE) is not None
    assert both.trays.total_bytes == before, "the same memory again"


@pytest.mark.parametrize("free", [0, 1], ids=["for the request", "for the answer"])
async def test_request_fails_alone_when_no_descriptor_can_be_passed(
    both: Both, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    dup, left = os.dup, [free]

    def exhausted(fd: int) -> int:
        if not left[0]:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        left[0] -= 1
        return dup(fd)

    both.judge.in_arena = True
    with monkeypatch.context() as patch:
        patch.setattr(pipe.os, "dup", exhausted)
        with pytest.raises(InternalError):
            await ask(both.plane, request(np.ones(LARGE)))
    assert both.desk.unanswered == 0
    response = await ask(both.plane, request(np.ones(LARGE)))
    assert response.outputs[0].array is not None
    assert response.outputs[0].array.sum() == LARGE
    response.release()


async def test_refusal_comes_as_the_outcome(both: Both) -> None:
    both.judge.refuse = Overloaded("full", code="queue_full", retry_after_s=2.0, limit=3)
    with pytest.raises(Overloaded) as caught:
        await ask(both.plane, request([1]))
    assert (caught.value.code, caught.value.retry_after_s, caught.value.limit) == (
        "queue_full", 2.0, 3,
    )  # fmt: skip
    assert caught.value.refused
    both.judge.refuse = None
    assert (await ask(both.plane, request([1]))).servable == "m"


async def test_fault_of_the_master_is_an_internal_error(both: Both) -> None:
    both.judge.refuse = cast(Any, RuntimeError("boom"))
    with pytest.raises(ServingError) as caught:
        await ask(both.plane, request([1]))
    assert caught.value.code == "internal"
    assert "boom" not in str(caught.value)


async def test_listener_hears_the_outcome_once(both: Both) -> None:
    heard: list[Any] = []
    claim = both.plane.claim(request([1]))
    both.plane.commit(claim)
    claim.tell(heard.append)
    assert not heard
    await until(lambda: bool(heard))
    assert isinstance(heard[0], InferResponse)


@pytest.mark.parametrize("size", [2, LARGE])
async def test_abandoned_request_is_withdrawn_and_its_memory_comes_back(
    both: Both, size: int
) -> None:
    both.judge.wait = True
    heard: list[Any] = []
    claim = both.plane.claim(request(np.ones(size)))
    both.plane.commit(claim)
    claim.tell(heard.append)
    await until(lambda: bool(both.judge.requests))
    both.plane.abandon(claim)
    await until(lambda: both.plane.unanswered == 0)
    assert both.judge.abandoned == 1
    assert both.desk.unanswered == 0
    assert not heard


async def test_answer_that_crosses_a_withdrawal_is_released(both: Both) -> None:
    both.judge.in_arena = True
    claim = both.plane.claim(request(np.ones(LARGE)))
    both.plane.commit(claim)
    await until(lambda: both.judge.requests != [])
    both.plane.abandon(claim)  # the answer is on its way, or read, or not even made
    await until(lambda: both.plane.unanswered == 0)
    await until(lambda: both.judge.released + both.judge.abandoned == 1)


async def test_request_that_is_abandoned_before_it_is_told_of_leaves_nothing(both: Both) -> None:
    claim = both.plane.claim(request(np.ones(LARGE)))
    both.plane.abandon(claim)
    other = both.plane.claim(request(np.ones(LARGE)))
    both.plane.commit(other)  # waits for memory to be lent
    both.plane.abandon(other)
    response = await ask(both.plane, request([1]))
    response.release()
    assert len(both.judge.requests) == 1


async def test_full_memory_refuses_the_request(both: Both) -> None:
    small = Both(budget=1 << 16)
    try:
        with pytest.raises(Overloaded) as caught:
            await ask(small.plane, request(np.ones(LARGE)))
        assert caught.value.code == "memory_budget_full"
    finally:
        small.close()


async def test_idle_memory_is_given_back(both: Both) -> None:
    (await ask(both.plane, request(np.ones(LARGE)))).release()
    assert both.trays.used_bytes > 0
    both.plane.sweep(1e12)
    await until(lambda: both.trays.used_bytes == 0)


async def test_what_a_lost_front_end_had_is_given_up(both: Both) -> None:
    both.judge.in_arena = True
    held = await ask(both.plane, request(np.ones(LARGE)))
    assert held.outputs[0].array is not None
    both.judge.wait = True
    waiting = both.plane.claim(request(np.ones(LARGE)))
    both.plane.commit(waiting)
    await until(lambda: len(both.judge.requests) == 2)
    both.desk.abandon_all()
    both.desk.take_back()
    assert (both.judge.released, both.judge.abandoned) == (1, 1)
    assert both.trays.used_bytes == 0


async def test_master_that_is_gone_leaves_nobody_waiting(both: Both) -> None:
    both.judge.wait = True
    claim = both.plane.claim(request([1]))
    both.plane.commit(claim)
    asked = asyncio.create_task(both.plane.servables())
    await until(lambda: bool(both.judge.requests))
    both.plane.cut_off()
    with pytest.raises(Unavailable):
        await claim.answer
    with contextlib.suppress(Unavailable):
        await asked
    with pytest.raises(Unavailable):
        both.plane.claim(request([1]))
    assert not both.plane.live()


async def test_questions_are_answered_by_the_master(both: Both) -> None:
    assert await both.plane.servables() == await both.judge.servables()
    assert await both.plane.index() == await both.judge.index()
    assert await both.plane.statistics() == await both.judge.statistics()
    both.plane.answered_with(InvalidRequest("x", code="odd"), "rest")
    await both.plane.index()
    assert both.judge.counts == {("rest", "odd"): 1}
    with pytest.raises(ControlOff):
        both.plane.control(None)


async def test_memory_that_was_never_lent_is_not_read(both: Both) -> None:
    await ask(both.plane, request(np.ones(LARGE)))  # its segment is kept for the next
    both.desk.take_back()  # from now on it is not the front end's
    again = both.plane.claim(request(np.ones(LARGE)))
    both.plane.commit(again)
    await until(lambda: "master" in both.closed)


async def test_table_tells_what_is_served(both: Both) -> None:
    door = {"model": description_to_json(KNOWN), "names": [], "methods": {}}
    entry: dict[str, Any] = {
        "doors": {"1": door}, "offered": {"stable": 1}, "wanted": {"stable": 1, "next": 2},
        "versions": {"1": ["READY", ""], "2": ["LOADING", ""]},
        "unservable": None, "available": True,
    }  # fmt: skip
    both.pipe.send(Table(1, {"m": entry, "gone": None}))
    await until(both.plane.informed.is_set)
    known = both.plane.describe("m")
    assert known == KNOWN
    assert both.plane.describe(None) is both.plane.describe("m", "stable") is known
    assert both.plane.methods("m") == ()
    both.pipe.send(Table(2, {"m": {**entry, "versions": {"1": ["READY", ""]}}}))
    await both.plane.index()
    assert both.plane.describe("m") is known, "codecs keep what they know of it"
    for wrong in (("n", None), ("m", 9), ("m", "best")):
        with pytest.raises(ServingError) as caught:
            both.plane.describe(*wrong)
        assert caught.value.status.value == "NOT_FOUND"
    both.pipe.send(Table(3, {"m": None}))
    await both.plane.index()
    with pytest.raises(ServingError):
        both.plane.describe("m")


class Rows:
    """A plane that takes rows together, tells of them when asked, and records withdrawals."""

    def __init__(self, judge: Judge, together: bool) -> None:
        self.listener: Any = None
        self.withdrawn: list[int] = []
        self.request: InferRequest | None = None
        self.unit = 0
        self._together = together
        judge.take_rows = self.take_rows  # type: ignore[attr-defined]
        judge.abandon_row = lambda _claim, row: self.withdrawn.append(row)  # type: ignore[attr-defined]

    def take_rows(self, request: InferRequest, unit: int, listener: Any) -> object | None:
        self.request, self.unit, self.listener = request, unit, listener
        return self if self._together else None

    def answer(self, first: int, values: list[list[float]]) -> None:
        array = np.asarray(values, np.float32)
        outputs = (Tensor("y", FP32, array.shape, array),)
        callers = len(values) // self.unit
        self.listener(first, callers, InferResponse("m", 1, "", outputs))


def heard_by(found: list[tuple[int, int, Any]]) -> Callable[[int, int, Any], None]:
    def listener(first: int, count: int, outcome: Any) -> None:
        if isinstance(outcome, InferResponse):
            array = outcome.outputs[0].array
            assert array is not None
            outcome = array.tolist()
        found.append((first, count, outcome))

    return listener


async def test_gathered_rows_go_together_and_are_told_of_as_they_come(both: Both) -> None:
    rows, found = Rows(both.judge, together=True), list[tuple[int, int, Any]]()
    asked = request([[1, 2], [3, 4], [5, 6]])
    claim = both.plane.take_rows(asked, 1, heard_by(found))
    assert claim is not None
    await until(lambda: rows.request is not None)
    assert rows.request is not None
    taken = rows.request.inputs[0].array
    assert taken is not None
    assert taken.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert rows.request.generation == asked.generation
    rows.answer(1, [[30], [50]])
    rows.listener(0, 1, Overloaded("full", code="queue_full"))
    await until(lambda: len(found) == 2)
    assert found[0] == (1, 2, [[30], [50]])
    assert (found[1][:2], found[1][2].code) == ((0, 1), "queue_full")
    assert both.plane.unanswered == both.desk.unanswered == 0


async def test_gathered_callers_of_several_rows_have_their_own(both: Both) -> None:
    rows, found = Rows(both.judge, together=True), list[tuple[int, int, Any]]()
    asked = request([[1], [2], [3], [4], [5], [6]])
    claim = both.plane.take_rows(asked, 2, heard_by(found))
    assert claim is not None
    await until(lambda: rows.request is not None)
    assert rows.unit == 2
    rows.answer(0, [[10], [20], [30], [40]])
    await until(lambda: found == [(0, 2, [[10], [20], [30], [40]])])
    both.plane.abandon_row(claim, 2)
    await until(lambda: rows.withdrawn == [2])
    assert both.plane.unanswered == both.desk.unanswered == 0


@pytest.mark.parametrize(("unit", "rows"), [(0, 2), (2, 3)])
async def test_rows_that_callers_cannot_share_end_the_front_end(
    both: Both, unit: int, rows: int
) -> None:
    look = Writer().request(request(np.ones((rows, 1))))
    with pytest.raises(ValueError, match="divided"):
        both.desk.heard(Gather(1, 1, unit, look, Place(0, 0, 4 * rows), bytes(4 * rows)))


async def test_gathered_row_is_withdrawn_alone(both: Both) -> None:
    rows, found = Rows(both.judge, together=True), list[tuple[int, int, Any]]()
    claim = both.plane.take_rows(request([[1], [2]]), 1, heard_by(found))
    assert claim is not None
    await until(lambda: rows.request is not None)
    both.plane.abandon_row(claim, 0)
    both.plane.abandon_row(claim, 0)
    await until(lambda: rows.withdrawn == [0])
    rows.answer(1, [[20]])
    await until(lambda: found == [(1, 1, [[20]])])
    assert both.plane.unanswered == both.desk.unanswered == 0


async def test_rows_that_cannot_go_together_are_claimed_one_by_one(both: Both) -> None:
    Rows(both.judge, together=False)
    found: list[tuple[int, int, Any]] = []
    assert both.plane.take_rows(request([[1, 2], [3, 4]]), 1, heard_by(found)) is not None
    await until(lambda: len(found) == 2)
    assert sorted(found) == [(0, 1, [[1, 2]]), (1, 1, [[3, 4]])]
    four = request([[1], [2], [3], [4]])
    assert both.plane.take_rows(four, 2, heard_by(found)) is not None
    await until(lambda: len(found) == 4)
    assert sorted(found[2:]) == [(0, 1, [[1], [2]]), (1, 1, [[3], [4]])]
    both.judge.refuse = Overloaded("full", code="queue_full")
    assert both.plane.take_rows(request([[1, 2], [3, 4]]), 1, heard_by(found)) is not None
    await until(lambda: len(found) == 6)
    assert [(first, count, error.code) for first, count, error in found[4:]] == [
        (0, 1, "queue_full"), (1, 1, "queue_full"),
    ]  # fmt: skip
    assert both.plane.unanswered == both.desk.unanswered == 0


@pytest.mark.parametrize("together", [True, False])
async def test_rows_of_a_lost_front_end_are_withdrawn(both: Both, together: bool) -> None:
    rows = Rows(both.judge, together)
    both.judge.wait = True
    assert both.plane.take_rows(request([[1], [2], [3]]), 1, heard_by([])) is not None
    await until(lambda: rows.request is not None)
    rows.listener(1, 1, Overloaded("full"))
    both.desk.abandon_all()
    assert (sorted(rows.withdrawn), both.judge.abandoned) in (([0, 2], 0), ([], 2))


async def test_rows_that_wait_for_a_master_that_is_gone_are_told_so(both: Both) -> None:
    rows, found = Rows(both.judge, together=True), list[tuple[int, int, Any]]()
    both.plane.take_rows(request([[1], [2]]), 1, heard_by(found))
    await until(lambda: rows.request is not None)
    rows.answer(0, [[10]])
    await until(lambda: len(found) == 1)
    both.plane.cut_off()
    assert (found[1][:2], found[1][2].code) == ((1, 1), "draining")
    assert both.plane.take_rows(request([[1]]), 1, heard_by(found)) is None


async def test_rows_that_are_large_go_one_by_one(both: Both) -> None:
    assert both.plane.take_rows(request(np.ones((2, LARGE))), 1, heard_by([])) is None
