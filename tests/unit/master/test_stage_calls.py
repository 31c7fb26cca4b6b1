"""``Model.call`` in a real stage worker: through the master and back, or an error in there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving.errors import DeadlineExceeded, ExecutionFailed, Overloaded
from tests.doubles.stages import GENERATION, Stages, answer_of, stages, until, write_servable

SERVABLE = """
import os, threading, time
import numpy as np
from serving import register

model = register.declare_model(model_file="m.onnx", model_format="onnx", with_batch_dim=False)

def one(x):
    return model.call(x) + 1

def many(x):
    rows = model.call([[row] for row in x])
    return np.array([row[0] for row in rows])

def often(x):
    return np.array([model.call(np.full(int(n) + 1, n)).sum() for n in x])

def threads(x):
    results = {}
    def ask(n):
        results[n] = model.call(np.float64(n))
    crowd = [threading.Thread(target=ask, args=(n,)) for n in range(int(x))]
    for thread in crowd: thread.start()
    for thread in crowd: thread.join()
    return np.array([results[n] for n in range(int(x))])

def careful(x):
    try:
        return model.call(x)
    except RuntimeError as error:
        return str(error)

left = []

def leaves_a_thread(x):
    def later():
        time.sleep(0.3)
        try:
            model.call(x)
            left.append("answered")
        except RuntimeError as error:
            left.append(str(error))
    threading.Thread(target=later).start()
    return x

def what_was_left(x):
    for _ in range(200):
        if left:
            return left[0]
        time.sleep(0.01)

def batch(instances):
    answers = model.call([[x] for (x,) in instances])
    return [answer[0] for answer in answers]

def stage(function, **more):
    @register.register_method(output_names=["y"])
    def method(x):
        return register.add_stage(function, x, outputs_count=1, **more)
"""
METHOD = """
@register.register_method(output_names=["y"])
def use_{name}(x):
    return register.add_stage({name}, x, outputs_count=1{more})
"""
ALONE = ("one", "many", "often", "threads", "careful", "leaves_a_thread", "what_was_left")


def servable(folder: Path) -> Path:
    text = SERVABLE[: SERVABLE.index("def stage(")]
    text += "".join(METHOD.format(name=name, more="") for name in ALONE)
    text += METHOD.format(name="batch", more=", batch_size=8")
    return write_servable(folder / "models" / "s", text)


async def test_call_of_a_model_gives_its_output(tmp_path: Path) -> None:
    async with stages(servable(tmp_path)) as s:
        assert await s.ask("one", 4.0, id="r-1") == [9.0]
        assert await s.ask("many", [1.0, 2.0, 3.0]) == [[2.0, 4.0, 6.0]]
        [(generation, model, subgraph, count, terms), (*_, three, _)] = s.models.seen
        assert (generation, model, subgraph, count) == (GENERATION, "m.onnx", 0, 1)
        assert three == 3
        assert terms.id == "r-1"
        assert s.models.released == 2


async def test_call_of_a_model_may_grow_and_be_made_often(tmp_path: Path) -> None:
    async with stages(servable(tmp_path)) as s:
        sizes = [0, 10, 50_000, 3, 200_000, 1]
        assert await s.ask("often", sizes) == [[n * 2 * (n + 1) for n in sizes]]


async def test_call_of_a_model_may_be_made_by_threads_of_a_function(tmp_path: Path) -> None:
    async with stages(servable(tmp_path)) as s:
        assert await s.ask("threads", 12) == [[n * 2 for n in range(12)]]


async def test_call_of_a_model_by_a_batch_is_one_call(tmp_path: Path) -> None:
    async with stages(servable(tmp_path)) as s:
        tickets = [s.claim("batch", float(n)) for n in range(6)]
        assert [await answer_of(t) for t in tickets] == [[n * 2.0] for n in range(6)]
        assert sorted(count for *_, count, _ in s.models.seen) == [6]


async def test_call_of_a_model_that_fails_raises_in_the_function(tmp_path: Path) -> None:
    async with stages(servable(tmp_path)) as s:
        s.models.refuse = Overloaded("the queue is full")
        [told] = await s.ask("careful", 1.0)
        assert isinstance(told, str)
        assert told.endswith("failed: the queue is full")
        with pytest.raises(ExecutionFailed, match="the queue is full"):
            await s.claim("one", 1.0).answer


async def test_call_of_a_model_after_the_run_is_refused(tmp_path: Path) -> None:
    async with stages(servable(tmp_path)) as s:
        assert await s.ask("leaves_a_thread", 1.0) == [1.0]
        [told] = await s.ask("what_was_left", 1.0)
        assert told == "answered" or "only by a stage that is running" in str(told)
        assert len(s.workers) == 1


async def test_call_of_a_model_ends_with_the_deadline_of_its_request(tmp_path: Path) -> None:
    async with stages(servable(tmp_path)) as s:
        s.models.hold.clear()
        ticket = s.claim("one", 1.0, deadline_s=0.3)
        with pytest.raises(DeadlineExceeded):
            await ticket.answer
        s.models.hold.set()
        assert await s.ask("one", 1.0) == [3.0]
        assert [w.restarts for w in s.fleet.statistics()] == [0]


async def test_call_of_a_model_keeps_no_other_worker_busy(tmp_path: Path) -> None:
    async with stages(servable(tmp_path), workers=2) as s:
        s.models.hold.clear()
        waits = s.claim("one", 1.0, method="a")
        await until(lambda: len(s.models.seen) == 1, "the call")
        assert await s.ask("argmax_cpp", [1, 5], method="b") == [1]
        s.models.hold.set()
        assert await answer_of(waits) == [3.0]


@pytest.mark.parametrize("number", [9, 19])
async def test_worker_that_is_lost_while_it_waits_for_a_model(tmp_path: Path, number: int) -> None:
    async with stages(servable(tmp_path), workers=2, silence_s=1.0) as s:
        s.models.hold.clear()
        ticket = s.claim("one", 5.0)
        await until(lambda: len(s.models.seen) == 1, "the call")
        os.kill(_busy(s), number)
        await until(lambda: len(s.models.seen) == 2, "the second try")
        assert s.models.cancelled == 1
        s.models.hold.set()
        assert await answer_of(ticket) == [11.0]


def _busy(s: Stages) -> int:
    [pid] = [worker.pid for worker in s.workers if worker.slot.busy]
    return pid
