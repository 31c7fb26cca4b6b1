"""A stage worker is killed, held and told to leave in every state: nothing hangs, nothing leaks."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path

import psutil
import pytest

from serving.errors import ServingError
from serving.scheduling.stages.ticket import StageTicket
from tests.doubles.stages import Stages, answer_of, stages, until, write_servable

SERVABLE = """
import os, time
from serving import register

model = register.declare_model(model_file="m.onnx", model_format="onnx", with_batch_dim=False)

def double(x):
    return x * 2

def slow_double(x):
    time.sleep(0.3)
    return x * 2

def ask(x):
    return model.call(x)

def batch(instances):
    time.sleep(0.05)
    for (x,) in instances:
        if x == 666:
            os._exit(1)
        yield x * 2

@register.register_method(output_names=["y"])
def quick(x):
    return register.add_stage(double, x, outputs_count=1)

@register.register_method(output_names=["y"])
def slow(x):
    return register.add_stage(slow_double, x, outputs_count=1)

@register.register_method(output_names=["y"])
def asks(x):
    return register.add_stage(ask, x, outputs_count=1)

@register.register_method(output_names=["y"])
def batches(x):
    return register.add_stage(batch, x, outputs_count=1, batch_size=16)
"""
SILENCE_S = 0.6
SIGNALS = (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM)
STATES = ("idle", "mid-run", "waiting for a model")


def servable(folder: Path) -> Path:
    return write_servable(folder / "models" / "s", SERVABLE)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("number", SIGNALS, ids=lambda n: n.name)
async def test_stage_worker_that_is_hit_costs_no_request_and_is_replaced(
    tmp_path: Path, number: signal.Signals, state: str, workers: int
) -> None:
    others = psutil.Process().children()
    async with stages(servable(tmp_path), workers=workers, silence_s=SILENCE_S) as s:
        victim = s.workers[0]
        tickets = await _reach(s, state)
        hit = next((w for w in s.workers if w.slot.busy), victim)
        os.kill(hit.pid, number)
        tickets += [s.claim("double", float(n)) for n in range(3)]
        if number is not signal.SIGTERM:
            await until(lambda: hit.gone.is_set(), "its end")
        s.models.hold.set()
        for ticket in tickets:
            assert await answer_of(ticket) == [2 * _given(ticket)]
        await until(lambda: len(s.workers) == workers, "a whole fleet")
        survived = hit in s.workers
        assert survived == (number is signal.SIGTERM)
        assert await s.ask("double", 21.0) == [42.0]
    assert psutil.Process().children() == others


async def _reach(s: Stages, state: str) -> list[StageTicket]:
    if state == "idle":
        return []
    if state == "mid-run":
        tickets = [s.claim("slow_double", 5.0)]
    else:
        s.models.hold.clear()
        tickets = [s.claim("ask", 5.0)]
        await until(lambda: bool(s.models.seen), "the call")
    await until(lambda: any(w.slot.busy for w in s.workers), "a run")
    return tickets


def _given(ticket: StageTicket) -> float:
    array = ticket.claim.values[0].array
    assert array is not None
    return float(array)


async def test_poisonous_instance_costs_its_neighbours_nothing(tmp_path: Path) -> None:
    async with stages(servable(tmp_path), workers=2) as s:
        values = [float(n) for n in range(60)]
        values[37] = 666.0
        tickets = [s.claim("batch", v) for v in values]
        for value, ticket in zip(values, tickets, strict=True):
            if value == 666:
                with pytest.raises(ServingError) as error:
                    await answer_of(ticket)
                assert error.value.code == "crashed_the_worker"
            else:
                assert await answer_of(ticket) == [2 * value]
        await until(lambda: len(s.workers) == 2, "a whole fleet")


async def test_stage_workers_under_random_blows_answer_each_request_once(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    outcomes: dict[str, int] = {}
    async with stages(servable(tmp_path), workers=2, silence_s=SILENCE_S) as s:
        done = asyncio.Event()

        async def call(number: int) -> None:
            turn = 0
            while not done.is_set():
                value = float(number * 1000 + turn)
                function = ("double", "ask", "batch")[turn % 3]
                try:
                    assert await s.ask(function, value, method=function) == [2 * value]
                    word = "answered"
                except ServingError as error:
                    word = error.code
                    await asyncio.sleep(0.05)
                outcomes[word] = outcomes.get(word, 0) + 1
                turn += 1

        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(call(number))
            for _ in range(6):
                await asyncio.sleep(chance.uniform(0.05, 0.4))
                await until(lambda: bool(s.workers), "a worker")
                os.kill(chance.choice(s.workers).pid, chance.choice(SIGNALS))
            await asyncio.sleep(SILENCE_S)
            await until(lambda: len(s.workers) == 2, "a whole fleet")
            done.set()
    print(outcomes)
    assert outcomes["answered"] > 8
    assert set(outcomes) <= {"answered", "worker_lost", "no_worker"}
