"""The inspection helper: answers, crashes, hangs; nothing left behind."""

import asyncio
import contextlib
import os
import sys
import time
from pathlib import Path

import pytest
import uvloop

from serving.artifact import Artifact, Format
from serving.inspection import Question
from serving.repository import helper as helper_process
from serving.repository import inspector

HELPER = """
import json, os, signal, subprocess, sys, time
here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "pids"), "a") as log:
    print(os.getpid(), file=log)
for line in sys.stdin:
    request = json.loads(line)
    name = os.path.basename(request["path"])
    if name == "crash":
        print("about to fall over", request["path"], file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "exit":
        sys.exit(3)
    if name in ("hang", "child"):
        if name == "child":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            with open(os.path.join(here, "pids"), "a") as log:
                print(child.pid, file=log)
        time.sleep(600)
    if name == "closed":
        os.close(1)
        time.sleep(600)
    if name == "garbage":
        print("not json", flush=True)
        continue
    if name == "stale":
        request["id"] -= 1
    if name in ("patient", "tiring"):
        for step in range(4):
            print(json.dumps({"id": request["id"], "progress": f"step {step}"}), flush=True)
            time.sleep(1.0)
        if name == "tiring":
            time.sleep(600)
    if name == "noisy":
        sys.stderr.write("x" * (1 << 20))
    detail = "y" * (1 << 20) if name == "large" else name
    artifact = {
        "format": "onnx", "backend": "onnxruntime", "reason": "", "signature": None,
        "batch": {"batched": False, "reason": "", "inputs": [], "outputs": []},
        "static_outputs": False, "digest": "", "size_bytes": 1, "producer": str(os.getpid()),
        "detail": detail, "notes": [],
    }
    print(json.dumps({"id": request["id"], "artifact": artifact}), flush=True)
"""


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "fake_helper.py").write_text(HELPER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "fake_helper"


def started(tmp_path: Path) -> list[int]:
    return [int(line) for line in (tmp_path / "pids").read_text().split()]


def assert_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 5
    for pid in pids:
        while alive(pid):
            assert time.monotonic() < deadline, f"process {pid} was left behind"
            time.sleep(0.01)


def alive(pid: int) -> bool:
    """A killed grandchild may stay a zombie until its new parent reaps it: that is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def look(helper: str, *names: str, timeout_s: float = 20) -> dict[str, Artifact]:
    questions = [Question(Path("/models") / name) for name in names]
    found = await inspector.inspect(questions, timeout_s=timeout_s, module=helper)
    return {path.name: artifact for path, artifact in found.items()}


async def test_inspector_asks_one_helper_about_all_files(helper: str, tmp_path: Path) -> None:
    found = await look(helper, "a", "b", "c")
    assert [a.detail for a in found.values()] == ["a", "b", "c"]
    assert len({a.producer for a in found.values()}) == 1
    assert_gone(started(tmp_path))


async def test_inspector_starts_nothing_for_no_files(helper: str, tmp_path: Path) -> None:
    assert await look(helper) == {}
    assert not (tmp_path / "pids").exists()


async def test_inspector_crash_and_hang_cost_their_own_files(helper: str, tmp_path: Path) -> None:
    found = await look(helper, "a", "crash", "hang", "d", "e", timeout_s=3)
    assert [name for name, a in found.items() if a.runnable] == ["a", "d", "e"]
    assert "was killed by SIGSEGV" in found["crash"].reason
    assert "gave no sign of life for 3 s" in found["hang"].reason
    assert found["crash"].format is Format.UNKNOWN
    pids = started(tmp_path)
    assert len(pids) == 3
    assert_gone(pids)


async def test_inspector_reason_has_the_last_words_without_folders(helper: str) -> None:
    reason = (await look(helper, "crash"))["crash"].reason
    assert "its last words: about to fall over crash" in reason
    assert "/models" not in reason


async def test_inspector_logs_what_the_helper_wrote(
    helper: str, caplog: pytest.LogCaptureFixture
) -> None:
    await look(helper, "crash")
    assert "about to fall over /models/crash" in caplog.text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("exit", "ended with status 3"),
        ("garbage", "gave an answer that cannot be read"),
        ("stale", "gave an answer that cannot be read"),
        ("closed", "closed its output without an answer"),
    ],
)
async def test_inspector_bad_helper_is_replaced_for_the_next_file(
    helper: str, tmp_path: Path, name: str, said: str
) -> None:
    found = await look(helper, name, "after")
    assert said in found[name].reason
    assert found["after"].runnable
    pids = started(tmp_path)
    assert len(pids) == 2
    assert_gone(pids)


async def test_inspector_reads_large_answers(helper: str) -> None:
    assert len((await look(helper, "large"))["large"].detail) == 1 << 20


async def test_inspector_answer_over_the_limit_is_refused(
    helper: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper_process, "_MAX_ANSWER_BYTES", 1 << 16)
    found = await look(helper, "large", "after")
    assert "answered with more than" in found["large"].reason
    assert found["after"].runnable


async def test_inspector_drains_a_noisy_helper(helper: str) -> None:
    assert (await look(helper, "noisy"))["noisy"].runnable


async def test_inspector_kills_what_the_helper_started(helper: str, tmp_path: Path) -> None:
    await look(helper, "child", timeout_s=3)
    pids = started(tmp_path)
    assert len(pids) == 2
    assert_gone(pids)


async def test_inspector_yields_each_artifact_before_the_next(helper: str, tmp_path: Path) -> None:
    questions = [Question(Path("/models/a")), Question(Path("/models/hang"))]
    each = inspector.inspect_each(questions, timeout_s=60, module=helper)
    async with contextlib.aclosing(each):
        path, artifact = await anext(each)
        assert (path.name, artifact.detail) == ("a", "a")
    assert_gone(started(tmp_path))


async def test_inspector_cancelled_leaves_no_helper(helper: str, tmp_path: Path) -> None:
    task = asyncio.create_task(look(helper, "hang", timeout_s=60))
    deadline = time.monotonic() + 10
    while not (tmp_path / "pids").exists() or not started(tmp_path):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_gone(started(tmp_path))


async def test_inspector_cancelled_over_one_file_can_be_asked_about_the_next(
    helper: str, tmp_path: Path
) -> None:
    async with inspector.Inspector(timeout_s=20, module=helper) as asked:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asked.inspect(Question(Path("/models/hang")))
        assert_gone(started(tmp_path))
        assert (await asked.inspect(Question(Path("/models/after")))).detail == "after"


async def test_inspector_waits_for_a_helper_that_makes_progress(helper: str) -> None:
    steps: list[str] = []
    async with inspector.Inspector(timeout_s=3.5, module=helper) as asked:
        found = await asked.inspect(Question(Path("/models/patient")), steps.append)
    assert found.detail == "patient"
    assert steps == ["step 0", "step 1", "step 2", "step 3"]


async def test_inspector_ends_a_helper_that_makes_no_more_progress(
    helper: str, tmp_path: Path
) -> None:
    found = await look(helper, "tiring", "after", timeout_s=3.5)
    assert "gave no sign of life for 3.5 s" in found["tiring"].reason
    assert found["after"].runnable
    assert_gone(started(tmp_path))


async def test_inspector_without_interpreter_gives_the_reason_and_blames_no_file(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = await inspector.inspect(
        [Question(Path("/models/a"))], timeout_s=5, interpreter="/no/such/python"
    )
    (artifact,) = found.values()
    assert "could not be started: No such file" in artifact.reason
    assert "able to run the Python interpreter" in artifact.reason
    assert "whole" not in artifact.reason
    assert "/no/such/python cannot be run" in caplog.text
    assert "/no/such/python" not in artifact.reason, "clients may read it"


async def test_inspector_helper_that_cannot_be_imported_gives_the_reason() -> None:
    found = await look("no_such_module", "a")
    reason = found["a"].reason
    assert "No module named no_such_module" in reason
    assert os.path.dirname(sys.executable) not in reason


async def test_inspector_does_not_import_from_the_working_directory(
    helper: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = tmp_path / "servables"
    hostile.mkdir()
    (hostile / "json.py").write_text("raise SystemExit('imported a file of the repository')")
    monkeypatch.chdir(hostile)
    assert (await look(helper, "a"))["a"].runnable


def test_inspector_works_on_the_servers_event_loop(helper: str, tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(look(helper, "a", "crash", "hang", "d", timeout_s=3))
    assert [name for name, a in found.items() if a.runnable] == ["a", "d"]
    assert "was killed by SIGSEGV" in found["crash"].reason
    assert_gone(started(tmp_path))
