"""What becomes of instances: batches, losses, damaged answers, deadlines, memory."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import numpy as np
import pytest

from serving.channel import packet
from serving.channel.arena import Arena
from serving.channel.link import BlockingLink, pair
from serving.channel.messages import (
    Call,
    CallDone,
    CallFailed,
    Deny,
    Failed,
    Forget,
    Grant,
    Lend,
    Message,
    More,
    StageDone,
    StageRun,
)
from serving.channel.segment import Segment
from serving.definition import Function
from serving.errors import (
    Cancelled,
    DeadlineExceeded,
    ExecutionFailed,
    InternalError,
    Overloaded,
    ServingError,
    Unavailable,
)
from serving.scheduling.stages.scheduler import StageScheduler
from serving.scheduling.stages.slot import StageSlot
from serving.scheduling.stages.ticket import StagePlace, StageTicket
from serving.scheduling.suspicion import Cause, Loss, RunTerms
from serving.tensor import TEXT, Tensor
from tests.doubles.stages import StubModels, answer_of

KILLED = Loss(Cause.ENDED, "ended by SIGKILL")
CRASHED = Loss(Cause.CRASHED, "ended by SIGSEGV")
HUNG = Loss(Cause.HUNG, "a run took longer than 1 s")
FUNCTIONS = (Function("one", 1, 1), Function("many", 1, 1, 4), Function("all", 1, 1, 0))


class Puppet:
    """A stage worker whose every word the test says."""

    def __init__(self, scheduler: StageScheduler) -> None:
        ours, theirs = pair()
        self.link = BlockingLink(theirs)
        self._end = theirs
        self.segments: dict[int, Segment] = {}
        self.output = 0
        self.broke = ""
        self.cancelled: list[int] = []
        self.name = "puppet"
        self.slot = StageSlot(ours, scheduler, self, lambda: None)
        self.slot.start()

    def heard_of(self) -> None:
        pass

    def cancel(self, run: int) -> None:
        self.cancelled.append(run)

    def broken(self, what: str) -> None:
        self.broke = what

    async def hear(self) -> Message:
        while True:
            message, fds = await asyncio.to_thread(self.link.receive)
            assert message is not None
            if isinstance(message, Lend):
                self.segments[message.segment] = Segment.attach(
                    message.segment, message.size, fds[0], writable=message.writable
                )
            elif isinstance(message, Forget):
                self.segments.pop(message.segment).close()
            else:
                return message

    async def run(self) -> tuple[StageRun, list[object]]:
        """Return the next run and the numbers in it."""
        message = await self.hear()
        assert isinstance(message, StageRun)
        self.output = message.output
        found = packet.read(self.segments[message.input].bytes)
        return message, [o if isinstance(o, str) else number(o) for o in found]

    def answers(self, run: int, *outcomes: float | str) -> None:
        """Say what the function gave."""
        values: list[packet.Outcome] = [o if isinstance(o, str) else of(o) for o in outcomes]
        packet.write(self.segments[self.output].bytes, values)
        self.link.send(StageDone(run, self.output, 100, 1000))

    def close(self) -> None:
        self.slot.close()
        self._end.close()
        for segment in self.segments.values():
            segment.close()


def of(value: float) -> tuple[Tensor, ...]:
    return (Tensor.of("", np.float64(value)),)


def number(values: tuple[Tensor, ...]) -> object:
    assert values[0].array is not None
    return values[0].array.tolist()


class Bench:
    """A scheduler with puppets, and how to claim on it."""

    def __init__(self, memory_bytes: int, max_waiting: int, terms: RunTerms | None) -> None:
        self.arena = Arena(memory_bytes, lambda segment: self.scheduler.forget_segment(segment))
        self.scheduler = StageScheduler(self.arena)
        self.models = StubModels()
        self.scheduler.calls = self.models
        self.scheduler.open(1, "s", FUNCTIONS, max_waiting, terms)
        self.puppets: list[Puppet] = []

    def puppet(self) -> Puppet:
        puppet = Puppet(self.scheduler)
        self.puppets.append(puppet)
        self.scheduler.add_slot(1, puppet.slot)
        return puppet

    def claim(
        self, value: float, function: str = "many", *, method: str = "predict", index: int = 1,
        tag: str = "", deadline: float | None = None, priority: int = 0,
    ) -> StageTicket:  # fmt: skip
        return self.scheduler.claim(
            1, function, of(value), deadline=deadline, priority=priority, id="",
            where=StagePlace(method, index, tag),
        )  # fmt: skip

    def lose(self, puppet: Puppet, loss: Loss) -> None:
        self.puppets.remove(puppet)
        puppet.close()
        self.scheduler.slot_lost(puppet.slot, None)
        self.scheduler.slot_reaped(puppet.slot, loss)


@contextlib.asynccontextmanager
async def bench(
    memory_bytes: int = 1 << 26, max_waiting: int = 100, terms: RunTerms | None = None
) -> AsyncIterator[Bench]:
    """At the end nothing may be held."""
    made = Bench(memory_bytes, max_waiting, terms)
    yield made
    await made.scheduler.close(1, 0.0)
    for puppet in list(made.puppets):
        made.lose(puppet, KILLED)
    await asyncio.sleep(0)
    assert not made.scheduler.flights
    assert made.arena.used_bytes == 0
    made.arena.close()


async def error_of(ticket: StageTicket) -> ServingError:
    with pytest.raises(ServingError) as caught:
        async with asyncio.timeout(5):
            await ticket.answer
    return caught.value


async def test_answer_that_a_worker_gave_before_it_was_lost_is_one() -> None:
    async with bench(terms=RunTerms(idempotent=False)) as b:
        puppet = b.puppet()
        ticket = b.claim(1)
        run, _ = await puppet.run()
        puppet.answers(run.run, 5)
        b.scheduler.slot_lost(puppet.slot, KILLED)
        assert await answer_of(ticket) == [5]


async def test_instances_that_wait_together_run_together_up_to_the_batch_size() -> None:
    async with bench() as b:
        tickets = [b.claim(n) for n in range(6)]
        puppet = b.puppet()
        run, values = await puppet.run()
        assert values == [0, 1, 2, 3]
        puppet.answers(run.run, 10, 11, 12, 13)
        run, values = await puppet.run()
        assert values == [4, 5]
        puppet.answers(run.run, 14, 15)
        assert [await answer_of(t) for t in tickets] == [[n] for n in range(10, 16)]


async def test_instances_that_wait_are_divided_over_free_workers() -> None:
    async with bench() as b:
        tickets = [b.claim(n, "all") for n in range(5)]
        first, second = b.puppet(), b.puppet()
        runs = [await first.run(), await second.run()]
        assert sorted(len(values) for _, values in runs) == [2, 3]
        for puppet, (run, values) in zip((first, second), runs, strict=True):
            puppet.answers(run.run, *[float(v) * 2 for v in values])  # type: ignore[arg-type]
        assert [await answer_of(t) for t in tickets] == [[n * 2] for n in range(5)]


async def test_methods_keep_to_the_workers_that_were_at_them_last() -> None:
    async with bench() as b:
        workers = [b.puppet(), b.puppet()]
        at: dict[str, Puppet] = {}
        first = [b.claim(1, method="slow"), b.claim(2, method="fast")]
        for puppet in workers:
            run, [value] = await puppet.run()
            at["slow" if value == 1 else "fast"] = puppet
            puppet.answers(run.run, 0.0)
        await asyncio.gather(*[answer_of(ticket) for ticket in first])
        for method in ("fast", "fast", "slow", "fast", "slow", "slow"):
            ticket = b.claim(3, method=method)
            run, _ = await at[method].run()
            at[method].answers(run.run, 0.0)
            assert await answer_of(ticket) == [0.0]


async def test_error_of_an_instance_is_its_own() -> None:
    async with bench() as b:
        good, bad = b.claim(1), b.claim(2)
        puppet = b.puppet()
        run, _ = await puppet.run()
        puppet.answers(run.run, 5.0, "odd value 2")
        assert await answer_of(good) == [5.0]
        error = await error_of(bad)
        assert isinstance(error, ExecutionFailed)
        assert error.code == "stage_failed"
        assert error.message == (
            "Call Function 's.many' Failed, method: 'predict', stage index(begin with 1): 1, "
            "error msg: odd value 2"
        )
        [counted] = b.scheduler.statistics(1)
        assert (counted.runs, counted.instances, counted.failures) == (1, 2, 1)


async def test_error_calls_a_stage_by_its_tag() -> None:
    async with bench() as b:
        ticket = b.claim(1, index=2, tag="Preprocess")
        puppet = b.puppet()
        run, _ = await puppet.run()
        puppet.answers(run.run, "odd value 1")
        assert (await error_of(ticket)).message == (
            "Call Preprocess Failed, method: 'predict', stage index(begin with 1): 2, "
            "error msg: odd value 1"
        )


async def test_instances_of_a_lost_worker_run_once_more_each_alone() -> None:
    async with bench() as b:
        tickets = [b.claim(n) for n in range(3)]
        first = b.puppet()
        assert (await first.run())[1] == [0, 1, 2]
        second = b.puppet()
        b.lose(first, KILLED)
        for n in range(3):
            run, values = await second.run()
            assert values == [n]
            second.answers(run.run, n + 100.0)
        assert [await answer_of(t) for t in tickets] == [[100.0], [101.0], [102.0]]
        assert b.scheduler.statistics(1)[0].failed_runs == 1


@pytest.mark.parametrize(
    ("loss", "kind", "code"),
    [(KILLED, Unavailable, "worker_lost"), (CRASHED, InternalError, "crashed_the_worker")],
)
async def test_instance_that_loses_two_workers_is_refused_and_its_neighbours_are_not(
    loss: Loss, kind: type[ServingError], code: str
) -> None:
    async with bench() as b:
        bad, good = b.claim(0), b.claim(1)
        first, second = b.puppet(), None
        await first.run()
        b.lose(first, loss)
        second = b.puppet()
        assert (await second.run())[1] == [0]
        b.lose(second, loss)
        third = b.puppet()
        run, values = await third.run()
        assert values == [1]
        third.answers(run.run, 7.0)
        assert await answer_of(good) == [7.0]
        error = await error_of(bad)
        assert isinstance(error, kind)
        assert error.code == code


async def test_lost_instance_of_a_servable_that_is_not_idempotent_is_not_run_again() -> None:
    async with bench(terms=RunTerms(idempotent=False)) as b:
        ticket = b.claim(0)
        first, second = b.puppet(), b.puppet()
        await eventually(lambda: bool(first.slot.busy or second.slot.busy))
        lost = first if first.slot.busy else second
        b.lose(lost, KILLED)
        error = await error_of(ticket)
        assert error.code == "worker_lost"
        assert "idempotent" in error.message
        assert not b.scheduler.flights


async def test_instance_whose_run_hangs_alone_is_not_run_again() -> None:
    async with bench(terms=RunTerms(timeout_s=1.0)) as b:
        hung, waiting = b.claim(0, "one"), b.claim(1, "one")
        first = b.puppet()
        run, values = await first.run()
        assert values == [0]
        assert b.scheduler.flights.limit_s(run.run) == 1.0
        b.scheduler.flights.overdue(run.run)
        b.lose(first, HUNG)
        error = await error_of(hung)
        assert isinstance(error, DeadlineExceeded)
        assert error.code == "run_timeout"
        second = b.puppet()
        run, _ = await second.run()
        second.answers(run.run, 3.0)
        assert await answer_of(waiting) == [3.0]


async def test_worker_that_asks_for_memory_gets_it_or_is_refused() -> None:
    async with bench(memory_bytes=1 << 20) as b:
        puppet = b.puppet()
        ticket = b.claim(1)
        run, _ = await puppet.run()
        puppet.link.send(More(run.run, 200_000))
        granted = await puppet.hear()
        assert isinstance(granted, Grant)
        assert puppet.segments[granted.segment].size >= 200_000
        puppet.output = granted.segment
        puppet.answers(run.run, 2.0)
        assert await answer_of(ticket) == [2.0]
        ticket = b.claim(1)
        run, _ = await puppet.run()
        puppet.link.send(More(run.run, 2 << 20))
        denied = await puppet.hear()
        assert isinstance(denied, Deny)
        puppet.link.send(Failed(run.run, denied.code, denied.message))
        assert isinstance(await error_of(ticket), Overloaded)


async def test_run_that_cannot_be_carried_out_is_tried_again_one_by_one() -> None:
    async with bench() as b:
        bad, good = b.claim(0), b.claim(1)
        puppet = b.puppet()
        run, _ = await puppet.run()
        puppet.link.send(Failed(run.run, "execution_failed", "too much"))
        run, values = await puppet.run()
        assert values == [0]
        puppet.link.send(Failed(run.run, "execution_failed", "too much"))
        run, values = await puppet.run()
        assert values == [1]
        puppet.answers(run.run, 4.0)
        assert await answer_of(good) == [4.0]
        assert (await error_of(bad)).message == "too much"


async def test_answers_share_their_memory_until_the_last_is_released() -> None:
    async with bench() as b:
        tickets = [b.claim(n) for n in range(2)]
        puppet = b.puppet()
        run, _ = await puppet.run()
        puppet.answers(run.run, 1.0, 2.0)
        first, second = [await t.answer for t in tickets]
        used = b.arena.used_bytes
        assert used > 0
        first.release()
        first.release()
        assert b.arena.used_bytes == used
        assert number(second.values) == 2.0
        second.release()
        assert b.arena.used_bytes == 0


@pytest.mark.parametrize(
    "damage",
    [
        "no packet",
        "too few",
        "another segment",
        "during a call",
        "an unknown message",
        "a wrong type",
        "an error of a wrong type",
    ],
)
async def test_worker_that_answers_nonsense_is_broken_and_its_instance_survives(
    damage: str,
) -> None:
    async with bench() as b:
        ticket = b.claim(1)
        puppet = b.puppet()
        run, _ = await puppet.run()
        memory = puppet.segments[run.output].bytes
        if damage == "no packet":
            memory[:64] = 255
            puppet.link.send(StageDone(run.run, run.output, 5, 5))
        elif damage == "too few":
            puppet.answers(run.run)
        elif damage == "another segment":
            puppet.link.send(StageDone(run.run, run.input, 5, 5))
        elif damage == "during a call":
            b.models.hold.clear()
            packet.write(memory, [of(1)])
            puppet.link.send(Call(run.run, "m", 0, run.output))
            puppet.answers(run.run, 1.0)
        elif damage == "a wrong type":
            puppet.link.send(More(run.run, "much"))  # type: ignore[arg-type]
        elif damage == "an error of a wrong type":
            puppet.link.send(Failed(run.run, [], 7))  # type: ignore[arg-type]
        else:
            puppet.link.send(Grant(run.run, 1))
        await eventually(lambda: bool(puppet.broke))
        b.lose(puppet, CRASHED)
        other = b.puppet()
        run, values = await other.run()
        assert values == [1]
        other.answers(run.run, 9.0)
        assert await answer_of(ticket) == [9.0]


async def test_answer_that_comes_too_late_is_counted_and_dropped() -> None:
    async with bench() as b:
        puppet = b.puppet()
        puppet.link.send(StageDone(99, 1, 5, 5))
        await eventually(lambda: b.scheduler.late_answers == 1)
        assert not puppet.broke


async def test_instance_with_another_number_of_outputs_is_an_error_of_its_own() -> None:
    async with bench() as b:
        ticket = b.claim(1)
        puppet = b.puppet()
        run, _ = await puppet.run()
        packet.write(puppet.segments[run.output].bytes, [of(1) + of(2)])
        puppet.link.send(StageDone(run.run, run.output, 5, 5))
        assert isinstance(await error_of(ticket), InternalError)
        assert not puppet.broke


async def test_abandoned_instance_is_never_sent() -> None:
    async with bench() as b:
        gone, stays = b.claim(0), b.claim(1)
        b.scheduler.abandon(gone)
        puppet = b.puppet()
        run, values = await puppet.run()
        assert values == [1]
        puppet.answers(run.run, 1.0)
        assert await answer_of(stays) == [1.0]


async def test_abandoned_instance_that_runs_costs_nothing_but_its_run() -> None:
    async with bench() as b:
        gone = b.claim(0)
        puppet = b.puppet()
        run, _ = await puppet.run()
        b.scheduler.abandon(gone)
        assert puppet.cancelled == [run.run]
        puppet.answers(run.run, 1.0)
        await eventually(lambda: b.arena.used_bytes == 0)


async def test_abandoning_an_answered_instance_releases_its_answer() -> None:
    async with bench() as b:
        ticket = b.claim(0)
        puppet = b.puppet()
        run, _ = await puppet.run()
        puppet.answers(run.run, 1.0)
        await eventually(ticket.answer.done)
        b.scheduler.abandon(ticket)
        assert b.arena.used_bytes == 0


async def test_deadline_passes_in_the_queue() -> None:
    async with bench() as b:
        ticket = b.claim(0, deadline=time.monotonic() + 0.02)
        assert isinstance(await error_of(ticket), DeadlineExceeded)
        with pytest.raises(DeadlineExceeded):
            b.claim(0, deadline=time.monotonic() - 1)


async def test_deadline_passes_while_it_runs() -> None:
    async with bench() as b:
        puppet = b.puppet()
        ticket = b.claim(0, deadline=time.monotonic() + 0.1)
        run, _ = await puppet.run()
        assert isinstance(await error_of(ticket), DeadlineExceeded)
        assert puppet.cancelled == [run.run]
        puppet.answers(run.run, 1.0)
        await eventually(lambda: b.arena.used_bytes == 0)


async def test_full_room_refuses() -> None:
    async with bench(max_waiting=1) as b:
        b.claim(0)
        with pytest.raises(Overloaded):
            b.claim(1)
        other = b.claim(1, "all")
        assert not other.answer.done()


async def test_generation_without_a_worker_to_be_had_refuses_until_there_is_one() -> None:
    async with bench() as b:
        waiting = b.claim(0)
        b.scheduler.give_up(1, "it cannot be imported")
        error = await error_of(waiting)
        assert error.code == "no_worker"
        assert error.given == "it cannot be imported"
        with pytest.raises(Unavailable):
            b.claim(1)
        assert not b.scheduler.has_worker(1)
        puppet = b.puppet()
        assert b.scheduler.has_worker(1)
        ticket = b.claim(2)
        run, _ = await puppet.run()
        puppet.answers(run.run, 2.0)
        assert await answer_of(ticket) == [2.0]


async def test_close_answers_what_is_late_and_takes_nothing_in() -> None:
    async with bench() as b:
        puppet = b.puppet()
        running = b.claim(0, "one")
        run, _ = await puppet.run()
        waiting = b.claim(1, "one")
        await b.scheduler.close(1, 0.01)
        for ticket in (running, waiting):
            assert (await error_of(ticket)).code == "unloaded"
        with pytest.raises(Unavailable):
            b.claim(2)
        puppet.answers(run.run, 1.0)
        await eventually(lambda: b.arena.used_bytes == 0)


async def test_close_waits_for_what_was_taken_in() -> None:
    async with bench() as b:
        puppet = b.puppet()
        ticket = b.claim(0)
        closing = asyncio.create_task(b.scheduler.close(1, 5.0))
        run, _ = await puppet.run()
        assert not closing.done()
        puppet.answers(run.run, 8.0)
        await closing
        assert await answer_of(ticket) == [8.0]


async def test_call_of_a_model_is_answered_in_the_memory_of_the_run() -> None:
    async with bench() as b:
        ticket = b.claim(1, deadline=time.monotonic() + 60, priority=3)
        puppet = b.puppet()
        run, _ = await puppet.run()
        big = (Tensor.of("", np.ones(100_000)),)
        puppet.link.send(More(run.run, packet.size_of([big])))
        granted = await puppet.hear()
        assert isinstance(granted, Grant)
        packet.write(puppet.segments[granted.segment].bytes, [big])
        puppet.link.send(Call(run.run, "m.onnx", 2, granted.segment))
        done = await puppet.hear()
        assert isinstance(done, CallDone)
        [doubled] = packet.read(puppet.segments[done.segment].bytes)
        assert not isinstance(doubled, str)
        assert doubled[0].array is not None
        assert (doubled[0].array == 2).all()
        puppet.output = done.segment
        puppet.answers(run.run, 1.0)
        assert await answer_of(ticket) == [1.0]
        [(generation, model, subgraph, count, terms)] = b.models.seen
        assert (generation, model, subgraph, count) == (1, "m.onnx", 2, 1)
        assert terms.deadline == ticket.claim.deadline
        assert terms.priority == 3
        assert b.models.released == 1


async def test_call_of_a_model_that_fails_tells_the_function() -> None:
    async with bench() as b:
        b.models.refuse = Overloaded("full")
        ticket = b.claim(1)
        puppet = b.puppet()
        run, _ = await puppet.run()
        packet.write(puppet.segments[run.output].bytes, [of(1)])
        puppet.link.send(Call(run.run, "m", 0, run.output))
        failed = await puppet.hear()
        assert failed == CallFailed(run.run, "overloaded", "full")
        puppet.answers(run.run, 1.0)
        assert await answer_of(ticket) == [1.0]


async def test_call_of_a_model_ends_when_nobody_waits_for_its_run() -> None:
    async with bench() as b:
        b.models.hold.clear()
        ticket = b.claim(1)
        puppet = b.puppet()
        run, _ = await puppet.run()
        packet.write(puppet.segments[run.output].bytes, [of(1)])
        puppet.link.send(Call(run.run, "m", 0, run.output))
        await eventually(lambda: len(b.models.seen) == 1)
        b.scheduler.abandon(ticket)
        failed = await puppet.hear()
        assert isinstance(failed, CallFailed)
        assert failed.code == Cancelled.code
        assert b.models.cancelled == 1
        puppet.link.send(Failed(run.run, "cancelled", ""))
        await eventually(lambda: b.arena.used_bytes == 0)


async def test_call_of_a_model_by_a_run_that_nobody_waits_for_is_refused() -> None:
    async with bench() as b:
        ticket = b.claim(1)
        puppet = b.puppet()
        run, _ = await puppet.run()
        b.scheduler.abandon(ticket)
        packet.write(puppet.segments[run.output].bytes, [of(1)])
        puppet.link.send(Call(run.run, "m", 0, run.output))
        failed = await puppet.hear()
        assert isinstance(failed, CallFailed)
        assert failed.code == Cancelled.code
        assert b.models.seen == []
        puppet.answers(run.run, 1.0)
        await eventually(lambda: b.arena.used_bytes == 0)


async def test_call_of_a_model_ends_at_the_deadline() -> None:
    async with bench() as b:
        b.models.hold.clear()
        puppet = b.puppet()
        ticket = b.claim(1, deadline=time.monotonic() + 0.2)
        run, _ = await puppet.run()
        packet.write(puppet.segments[run.output].bytes, [of(1)])
        puppet.link.send(Call(run.run, "m", 0, run.output))
        assert isinstance(await puppet.hear(), CallFailed)
        assert isinstance(await error_of(ticket), DeadlineExceeded)
        assert b.models.cancelled == 1
        puppet.answers(run.run, 1.0)
        await eventually(lambda: b.arena.used_bytes == 0)


async def test_call_of_a_model_ends_with_the_worker_that_made_it() -> None:
    async with bench() as b:
        b.models.hold.clear()
        ticket = b.claim(1)
        puppet = b.puppet()
        run, _ = await puppet.run()
        packet.write(puppet.segments[run.output].bytes, [of(1)])
        puppet.link.send(Call(run.run, "m", 0, run.output))
        await eventually(lambda: len(b.models.seen) == 1)
        b.lose(puppet, KILLED)
        await eventually(lambda: b.models.cancelled == 1)
        await eventually(lambda: b.arena.used_bytes == 0)
        other = b.puppet()
        run, _ = await other.run()
        other.answers(run.run, 6.0)
        assert await answer_of(ticket) == [6.0]


async def test_worker_that_is_kept_free_for_a_method_is_used_once_that_is_used_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serving.scheduling.stages.room._IN_USE_S", 1.0)
    monkeypatch.setattr("serving.scheduling.stages.scheduler._KEPT_FREE_S", 0.05)
    async with bench() as b:
        first = b.puppet()
        used = b.claim(0, "one", method="fast")
        run, _ = await first.run()
        first.answers(run.run, 1.0)
        await answer_of(used)
        slow = [b.claim(n, "one", method="slow") for n in (1, 2)]
        run, _ = await first.run()
        await asyncio.sleep(0.02)  # by now it has been under way for longer than short runs are
        began = time.monotonic()
        second = b.puppet()
        other, _ = await second.run()
        assert time.monotonic() - began > 0.3, "the last worker was not kept free"
        first.answers(run.run, 1.0)
        second.answers(other.run, 2.0)
        assert [await answer_of(t) for t in slow] == [[1.0], [2.0]]


async def test_value_that_cannot_be_written_is_an_error_and_leaks_nothing() -> None:
    async with bench() as b:
        broken = (Tensor("", TEXT, (2,), items=["no bytes", None]),)  # type: ignore[list-item]
        where = StagePlace("predict", 1)
        ticket = b.scheduler.claim(1, "many", broken, deadline=None, priority=0, id="", where=where)
        b.puppet()
        assert isinstance(await error_of(ticket), InternalError)


async def test_memory_for_outputs_follows_what_the_last_run_needed() -> None:
    async with bench() as b:
        puppet = b.puppet()
        sizes = []
        for needed in (1_000_000, 10, 10):
            ticket = b.claim(1)
            run, _ = await puppet.run()
            sizes.append(puppet.segments[run.output].size)
            if needed > sizes[-1]:
                puppet.link.send(More(run.run, needed))
                granted = await puppet.hear()
                assert isinstance(granted, Grant)
                puppet.output = granted.segment
            packet.write(puppet.segments[puppet.output].bytes, [of(1)])
            puppet.link.send(StageDone(run.run, puppet.output, needed, 5))
            await answer_of(ticket)
        assert sizes[1] >= 1_000_000
        assert sizes[2] == sizes[0]


async def test_instances_that_do_not_fit_the_memory_are_refused() -> None:
    async with bench(memory_bytes=1 << 20) as b:
        values = (Tensor.of("", np.zeros(1 << 20, np.uint8)),)
        where = StagePlace("predict", 1)
        ticket = b.scheduler.claim(1, "many", values, deadline=None, priority=0, id="", where=where)
        b.puppet()
        assert (await error_of(ticket)).code == "memory_budget_full"


async def eventually(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)
