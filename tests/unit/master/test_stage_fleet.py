"""Stage workers are started, refused with a reason, replaced, and ended without a trace."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from pathlib import Path

import psutil
import pytest

from serving.errors import LoadError, ServingError, Unavailable
from serving.master import stage_fleet, stage_worker
from tests.doubles.stages import GENERATION, describe, stages, until, write_servable

GOOD = """
import os, signal, time
from serving import register

def f(x):
    return x

@register.register_method(output_names=["y"])
def predict(x):
    return register.add_stage(f, x, outputs_count=1)
"""


_OTHERS: set[psutil.Process] = set()


def servable(folder: Path, text: str = GOOD) -> Path:
    return write_servable(folder / "models" / "s", text)


@pytest.fixture(autouse=True)
def others() -> None:
    """Servers that other tests keep for the whole session are no business of these."""
    _OTHERS.clear()
    _OTHERS.update(psutil.Process().children(recursive=True))


def children() -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [process for process in found if process not in _OTHERS]


async def test_fleet_starts_as_many_workers_as_were_asked_for(tmp_path: Path) -> None:
    async with stages(servable(tmp_path), workers=2) as s:
        places = s.fleet.statistics()
        assert [p.name for p in places] == ["stage-s-7", "stage-s-7.1"]
        assert all(p.usage is not None and p.usage.rss_bytes > 0 for p in places)
        assert s.scheduler.has_worker(GENERATION)
        assert len(s.workers) == 2
        assert len(children()) == 2
    assert children() == []


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        ("raise ValueError('no such file: weights')", r"ValueError: no such file: weights"),
        ("import nothing_of_that_name", "nothing_of_that_name"),
        ("def broken(:", "SyntaxError|invalid syntax"),
        ("raise SystemExit(4)", "sys.exit"),
        ("os._exit(3)", "died while importing servable_config.py: ended with status 3"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "died while importing .* ended by SIGSEGV"),
        ("os.write(2, b'out of luck\\n'); os._exit(3)", "died while importing .* out of luck"),
    ],
)
async def test_fleet_says_why_a_servable_cannot_be_imported(
    tmp_path: Path, ending: str, reason: str
) -> None:
    marker = tmp_path / "looked_at"
    if "def " in ending:
        text = GOOD
    else:
        text = GOOD + f"\nif os.path.exists({str(marker)!r}):\n    {ending}\n"
    folder = servable(tmp_path, text)
    describe(folder)
    marker.touch()
    if "def " in ending:
        (folder / "servable_config.py").write_text(GOOD + ending)
    await _starts_in_vain(folder, reason)


async def test_fleet_ends_an_import_that_takes_too_long(tmp_path: Path) -> None:
    marker = tmp_path / "looked_at"
    text = GOOD + f"\nif os.path.exists({str(marker)!r}):\n    time.sleep(60)\n"
    folder = servable(tmp_path, text)
    describe(folder)
    marker.touch()
    await _starts_in_vain(folder, "took longer than 1 s", load_timeout_s=1.0)


async def test_fleet_refuses_a_worker_that_registers_something_else(tmp_path: Path) -> None:
    await _starts_in_vain(servable(tmp_path), "registered something else", digest="0" * 64)


async def test_fleet_refuses_a_worker_that_imported_other_files(tmp_path: Path) -> None:
    await _starts_in_vain(servable(tmp_path), "changed since", unchanged=lambda: False)


async def test_fleet_says_that_an_interpreter_cannot_be_started(tmp_path: Path) -> None:
    await _starts_in_vain(
        servable(tmp_path), "could not be started with '/no/python'", interpreter="/no/python"
    )


async def test_fleet_ends_all_workers_when_one_cannot_be_started(tmp_path: Path) -> None:
    lock = tmp_path / "first"
    text = GOOD + (
        f"\nif os.path.exists({str(tmp_path / 'looked_at')!r}):\n    os.mkdir({str(lock)!r})\n"
    )
    folder = servable(tmp_path, text)
    describe(folder)
    (tmp_path / "looked_at").touch()
    await _starts_in_vain(folder, "FileExistsError", workers=2)


async def test_fleet_that_is_cancelled_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "looked_at"
    text = GOOD + f"\nif os.path.exists({str(marker)!r}):\n    time.sleep(60)\n"
    folder = servable(tmp_path, text)
    describe(folder)
    marker.touch()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0), stages(folder, workers=2):
            raise AssertionError("it was started")
    assert children() == []


async def test_fleet_replaces_a_worker_that_was_killed(tmp_path: Path) -> None:
    async with stages(servable(tmp_path)) as s:
        [first] = s.workers
        os.kill(first.pid, 9)
        await until(lambda: s.workers not in ([], [first]), "another worker")
        assert await s.ask("f", 1) == [1]
        assert s.fleet.statistics()[0].restarts == 1


async def test_fleet_replaces_a_worker_once_there_are_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = stage_worker.pair, [1]

    def exhausted() -> tuple[socket.socket, socket.socket]:
        if failures[0]:
            failures[0] -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real()

    async with stages(servable(tmp_path)) as s:
        [first] = s.workers
        monkeypatch.setattr(stage_worker, "pair", exhausted)
        os.kill(first.pid, 9)
        await until(lambda: s.workers not in ([], [first]), "another worker")
        assert await s.ask("f", 1) == [1]


async def test_fleet_does_not_replace_a_worker_whose_files_have_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    same = True
    async with stages(servable(tmp_path), unchanged=lambda: same) as s:
        same = False
        s.workers[0].kill()
        waiting = s.claim("f", 1)
        with pytest.raises(Unavailable) as error:
            async with asyncio.timeout(20):
                await waiting.answer
        assert error.value.code == "no_worker"
        assert error.value.given == "the servable's Python code cannot be imported any more"
        assert "have been changed since" in caplog.text
        with pytest.raises(Unavailable):
            s.claim("f", 2)
        same = True
        await until(lambda: bool(s.workers), "a worker again")
        assert await s.ask("f", 3) == [3]


async def test_fleet_gives_up_for_now_on_workers_that_keep_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_fleet, "_LONG_PAUSE_S", 0.2)
    async with stages(servable(tmp_path)) as s:
        for restarts in (1, 2):
            s.workers[0].kill()
            await until(lambda n=restarts: s.fleet.statistics()[0].restarts == n, "another")
        s.workers[0].kill()
        waiting = s.claim("f", 1)
        with pytest.raises(Unavailable) as error:
            await waiting.answer
        assert error.value.given == "the servable's stage workers keep ending"
        await until(lambda: bool(s.workers), "a worker again")
        assert await s.ask("f", 3) == [3]


async def test_fleet_stops_a_generation_while_its_worker_is_being_replaced(tmp_path: Path) -> None:
    async with stages(servable(tmp_path)) as s:
        s.workers[0].kill()
        await until(lambda: not s.scheduler.has_worker(GENERATION), "the loss")
        await s.fleet.stop(GENERATION)
        assert children() == []


async def test_fleet_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    folder = servable(tmp_path)
    counts = []
    for _ in range(3):
        async with stages(folder) as s:
            assert await s.ask("f", 1) == [1]
            s.workers[0].kill()
            await until(lambda: bool(s.workers), "another worker")
        with pytest.raises(LoadError):
            async with stages(folder, digest="0"):
                raise AssertionError("it was started")
        counts.append(len(os.listdir("/proc/self/fd")))
    assert counts[1] == counts[2]


async def test_fleet_that_was_never_used_stops(tmp_path: Path) -> None:
    async with stages(servable(tmp_path)) as s:
        await s.fleet.stop(GENERATION + 1)


async def test_fleet_kills_every_worker_at_once(tmp_path: Path) -> None:
    async with stages(servable(tmp_path), workers=2) as s:
        s.fleet.kill()
        await until(lambda: children() == [], "the end of all")


async def test_fleet_stops_workers_that_do_not_listen(tmp_path: Path) -> None:
    async with stages(servable(tmp_path)) as s:
        os.kill(s.workers[0].pid, 19)
        await s.fleet.stop_all(0.2)
        assert children() == []


async def _starts_in_vain(folder: Path, reason: str, **spec: object) -> None:
    with pytest.raises(LoadError, match=reason) as refusal:
        async with stages(folder, **spec):  # type: ignore[arg-type]
            raise AssertionError("it was started")
    assert isinstance(refusal.value, ServingError)
    assert children() == []
