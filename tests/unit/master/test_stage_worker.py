"""A real stage worker: what user code sees there, and that whatever it does costs only itself."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from serving.errors import DeadlineExceeded, ExecutionFailed, InternalError, Overloaded
from serving.scheduling.suspicion import RunTerms
from serving.tensor import BYTES, TEXT, Tensor
from tests.doubles.stages import answer_of, stages, until, write_servable

HEAD = """
import os, sys, threading, time
import numpy as np
from serving import register

"""


def function(body: str, *, batch_size: int | None = None, inputs: int = 1, outputs: int = 1) -> str:
    """Write a servable with one function ``f`` and a method around it."""
    names = ", ".join("xyz"[:inputs])
    results = [f"r{n}" for n in range(outputs)]
    lines = "\n    ".join(body.strip("\n").split("\n"))
    return (
        HEAD + f"def f({'instances' if batch_size is not None else names}):\n    {lines}\n\n"
        f"@register.register_method(output_names={results})\n"
        f"def predict({names}):\n"
        f"    return register.add_stage(f, {names}, outputs_count={outputs}, "
        f"batch_size={batch_size})\n"
    )


def servable(folder: Path, text: str) -> Path:
    return write_servable(folder / "models" / "s", text)


async def test_stage_runs_a_function_on_values_of_every_kind(tmp_path: Path) -> None:
    text = function("return x, y, z.upper()", inputs=3, outputs=3)
    async with stages(servable(tmp_path, text)) as s:
        answer = await s.claim(
            "f", np.arange(6, dtype=np.int16).reshape(2, 3), b"\x00\xff", "grüße"
        ).answer
        numbers, raw, words = answer.values
        assert numbers.array is not None
        assert numbers.array.tolist() == [[0, 1, 2], [3, 4, 5]]
        assert numbers.array.dtype == np.int16
        assert raw.array is not None
        assert raw.array.tolist() == [0, 255]
        assert (words.dtype, words.shape, words.items) == (TEXT, (), ["GRÜSSE".encode()])
        answer.release()


async def test_stage_runs_a_batch_with_an_error_of_its_own_for_an_instance(tmp_path: Path) -> None:
    body = """
for (x,) in instances:
    if x < 0:
        raise ValueError(f"negative: {x}")
    yield x * len(instances)
"""
    async with stages(servable(tmp_path, function(body, batch_size=4))) as s:
        tickets = [s.claim("f", float(n)) for n in (1, 2, 3)]
        assert [await answer_of(t) for t in tickets] == [[3.0], [6.0], [9.0]]
        bad = s.claim("f", -1.0, method="predict", index=2)
        with pytest.raises(ExecutionFailed, match=r"index\(begin with 1\): 2, .* negative: -1.0"):
            await bad.answer


async def test_stage_runs_a_built_in_one(tmp_path: Path) -> None:
    async with stages(servable(tmp_path, function("return x"))) as s:
        assert await s.ask("argmax_cpp", np.array([3.0, 9.0, 1.0])) == [1]


async def test_stage_gives_back_outputs_of_any_size(tmp_path: Path) -> None:
    async with stages(servable(tmp_path, function("return np.full(int(x), 7, np.uint8)"))) as s:
        for size in (0, 1, 5_000_000, 10, 70_000):
            [values] = await s.ask("f", size)
            assert values == [7] * size


async def test_stage_whose_output_is_larger_than_the_memory_fails_alone(tmp_path: Path) -> None:
    text = function("return np.zeros(int(x), np.uint8)")
    async with stages(servable(tmp_path, text), memory_bytes=1 << 21) as s:
        with pytest.raises(Overloaded) as refused:
            await s.claim("f", 1 << 22).answer
        assert refused.value.code == "memory_budget_full"
        assert await s.ask("f", 3) == [[0, 0, 0]]


async def test_stage_user_code_sees_a_plain_main_thread_and_its_device(tmp_path: Path) -> None:
    body = """
main = threading.current_thread() is threading.main_thread()
return "|".join([os.environ["SERVING_DEVICE_ID"], str(main), str(sys.argv[1:]),
                 os.environ.get("PYTHONSAFEPATH", "-")])
"""
    async with stages(servable(tmp_path, function(body)), device_id=3) as s:
        assert await s.ask("f", 0) == ["3|True|[]|-"]


async def test_stage_prints_go_to_the_log_with_the_name_of_the_worker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body = """
print("printed", int(x))
print("complained", file=sys.stderr)
os.write(1, b"raw\\n")
return x
"""
    caplog.set_level(logging.INFO)
    async with stages(servable(tmp_path, function(body))) as s:
        await s.ask("f", 5)
        await until(lambda: "raw" in caplog.messages, "what was printed")
        records = {r.getMessage(): r for r in caplog.records}
        assert records["printed 5"].levelname == "INFO"
        assert records["printed 5"].__dict__["worker"] == "stage-s-7"
        assert records["complained"].levelname == "WARNING"


@pytest.mark.parametrize("leaving", ["sys.exit(3)", "raise KeyboardInterrupt", "raise SystemExit"])
async def test_stage_that_wants_to_leave_fails_its_instance_only(
    tmp_path: Path, leaving: str
) -> None:
    body = f"if x < 0: {leaving}\nreturn x"
    async with stages(servable(tmp_path, function(body))) as s:
        [worker] = s.workers
        with pytest.raises(ExecutionFailed):
            await s.claim("f", -1).answer
        assert await s.ask("f", 1) == [1]
        assert s.workers == [worker]


async def test_stage_that_ends_its_process_costs_its_own_instance_only(tmp_path: Path) -> None:
    body = "if x < 0: os._exit(9)\nreturn x"
    async with stages(servable(tmp_path, function(body, batch_size=None)), workers=2) as s:
        bad, *good = [s.claim("f", n) for n in (-1, 1, 2, 3)]
        assert [await answer_of(t) for t in good] == [[1], [2], [3]]
        with pytest.raises(InternalError) as blamed:
            await bad.answer
        assert blamed.value.code == "crashed_the_worker"
        assert blamed.value.given == "ended with status 9"
        await until(lambda: len(s.workers) == 2, "the workers")
        assert sum(w.restarts for w in s.fleet.statistics()) == 2


async def test_stage_may_change_its_surroundings(tmp_path: Path) -> None:
    body = """
import signal
os.chdir("/")
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.alarm(0)
sys.stdout.close()
threading.Thread(target=time.sleep, args=(60,)).start()
sys.path.clear()
os.environ.clear()
return x
"""
    async with stages(servable(tmp_path, function(body))) as s:
        [worker] = s.workers
        for n in range(3):
            assert await s.ask("f", n) == [n]
        assert s.workers == [worker]


async def test_stage_that_forks_and_comes_back_twice_answers_once(tmp_path: Path) -> None:
    body = "if os.fork() == 0:\n    return x * 1000\nos.wait()\nreturn x"
    async with stages(servable(tmp_path, function(body))) as s:
        for n in range(1, 4):
            assert await s.ask("f", n) == [n]
        assert s.scheduler.late_answers == 0


async def test_stage_may_use_a_pool_of_processes(tmp_path: Path) -> None:
    """A pool ends its processes by SIGTERM, which they must not have inherited as ignored."""
    body = """
import multiprocessing
with multiprocessing.get_context("fork").Pool(2) as pool:
    return np.array(pool.map(abs, [-1, int(x)]))
"""
    async with stages(servable(tmp_path, function(body))) as s:
        assert await s.ask("f", -5) == [[1, 5]]


async def test_stage_takes_what_it_has_started_along_when_it_ends(tmp_path: Path) -> None:
    body = """
import subprocess
return subprocess.Popen(["sleep", "600"]).pid
"""
    async with stages(servable(tmp_path, function(body))) as s:
        [pid] = await s.ask("f", 0)
        assert isinstance(pid, int)
        assert psutil.pid_exists(pid)
        s.workers[0].kill()
        await until(lambda: not _alive(pid), "the end of the grandchild")
        await until(lambda: len(s.workers) == 1, "another worker")


async def test_stage_function_beyond_its_limit_is_ended_and_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    body = "if x < 0: time.sleep(60)\nreturn x"
    terms = RunTerms(timeout_s=0.5)
    async with stages(servable(tmp_path, function(body)), terms=terms) as s:
        hung, good = s.claim("f", -1), s.claim("f", 4)
        with pytest.raises(DeadlineExceeded) as ended:
            async with asyncio.timeout(20):
                await hung.answer
        assert ended.value.code == "run_timeout"
        assert ended.value.expected == "at most 0.5 s"
        assert "time.sleep(60)" in caplog.text, "the log does not say where it was"
        assert await answer_of(good) == [4]


async def test_stage_that_keeps_the_interpreter_to_itself_is_not_taken_for_dead(
    tmp_path: Path,
) -> None:
    """Code that does not let go of the interpreter cannot answer pings; it is no hang."""
    body = """
import ctypes
ctypes.PyDLL(None).sleep(3)
return x
"""
    async with stages(servable(tmp_path, function(body)), silence_s=0.5) as s:
        assert await s.ask("f", 5) == [5]
        assert [w.restarts for w in s.fleet.statistics()] == [0]


async def test_stage_workers_share_what_waits(tmp_path: Path) -> None:
    body = "time.sleep(0.2)\nreturn os.getpid()"
    async with stages(servable(tmp_path, function(body)), workers=3) as s:
        tickets = [s.claim("f", n) for n in range(3)]
        pids = {tuple(await answer_of(t)) for t in tickets}
        assert len(pids) == 3


async def test_stage_gives_values_of_open_shape(tmp_path: Path) -> None:
    text = function("return np.array(['a', 'bc'], object)")
    async with stages(servable(tmp_path, text)) as s:
        answer = await s.claim("f", Tensor("", BYTES, (2, 1), items=[b"x", b"y"])).answer
        assert answer.values[0].items == [b"a", b"bc"]
        answer.release()


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_pid_of_this_process_is_alive() -> None:
    assert _alive(os.getpid())


async def test_slow_method_does_not_delay_a_fast_one_on_two_workers(tmp_path: Path) -> None:
    slow_s = 0.3
    text = (
        HEAD + f"def crawl(x):\n    time.sleep({slow_s})\n    return x\n\n"
        "def dash(x):\n    return x\n"
    )
    for name in ("crawl", "dash"):
        text += (
            "\n@register.register_method(output_names=['y'])\n"
            f"def use_{name}(x):\n    return register.add_stage({name}, x, outputs_count=1)\n"
        )
    async with stages(servable(tmp_path, text), workers=2) as s:
        assert await s.ask("dash", 0, method="fast") == [0]
        crawling = [s.claim("crawl", n, method="slow") for n in range(6)]
        waits = []
        while not all(ticket.answer.done() for ticket in crawling):
            began = time.monotonic()
            assert await s.ask("dash", 1, method="fast") == [1]
            waits.append(time.monotonic() - began)
            await asyncio.sleep(0.02)
        for ticket in crawling:
            await answer_of(ticket)
        # One of them would have met a run that has just begun, were the worker not kept free.
        late = [wait for wait in waits if wait > slow_s / 2]
        assert len(waits) > 20
        assert len(late) <= len(waits) // 20, late
