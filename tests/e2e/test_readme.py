"""What the README tells a newcomer to type, typed: calls, Python, a model of one's own."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server import ServerProcess, call, serving

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


CALLS = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("curl")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving(ROOT / "servables", tmp_path_factory.mktemp("server")) as running:
        yield running


def typed(server: ServerProcess, command: str) -> tuple[int, Any]:
    """Carry out ``curl URL [-d BODY]``; a body ``@file`` lies in the repository."""
    _, address, *rest = shlex.split(command)
    url = address.replace("localhost:1500", f"127.0.0.1:{server.rest_port}", 1)
    assert url != address
    if not rest:
        return call("GET", f"http://{url}")
    option, body = rest
    assert option == "-d"
    text = (ROOT / body[1:]).read_text() if body.startswith("@") else body
    return call("POST", f"http://{url}", json.loads(text))


def matches(given: Any, shown: Any) -> bool:
    """Return whether an answer is the one shown, in which ``[...]`` and ``"..."`` stand for any."""
    if shown in ([], "..."):
        return bool(given)
    if isinstance(shown, dict):
        return given.keys() == shown.keys() and all(matches(given[k], shown[k]) for k in shown)
    if isinstance(shown, list):
        return len(given) == len(shown) and all(map(matches, given, shown))
    return bool(given == shown)


def test_readme_answers_are_those_of_the_calls_above_them(server: ServerProcess) -> None:
    shown = [json.loads(block.replace("[...]", "[]")) for block in blocks("json")]
    first, wrong = shown
    assert CALLS[0].endswith("sample.json")
    status, answer = typed(server, CALLS[0])
    assert (status, matches(answer, first)) == (200, True), answer
    status, answer = typed(server, CALLS[-1])
    assert (status, matches(answer, wrong)) == (404, True), answer


@pytest.mark.parametrize("command", CALLS[:-1])
def test_readme_calls_are_answered(server: ServerProcess, command: str) -> None:
    status, answer = typed(server, command)
    assert status == 200, answer


@pytest.mark.parametrize("example", blocks("python"), ids=["own client", "triton's client"])
def test_readme_python_prints_what_it_says(server: ServerProcess, example: str) -> None:
    program = example.replace("localhost:5500", server.grpc)
    assert program != example
    said = re.findall(r"^print\(.*\)  # (.*)$", example, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == said


def test_readme_own_model_is_listed_and_served(tmp_path: Path) -> None:
    """Put a model into the folder that the README makes, look at it, and serve it."""
    home = tmp_path / "models" / "mine" / "1"
    home.mkdir(parents=True)
    shutil.copy(ROOT / "servables" / "language" / "1" / "model.onnx", home / "model.onnx")
    settings = next(block for block in blocks("toml") if "max_batch_size" in block)
    (home.parent / "servable.toml").write_text(settings)
    listed = subprocess.run(
        [sys.executable, "-m", "serving", "list", "--model-dir", "models", "-v"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "mine      1        onnx    onnxruntime  up to 16" in listed.stdout
    (command,) = re.findall(r"try: (.*)", listed.stdout)
    with serving(tmp_path / "models", tmp_path / "scratch") as server:
        status, answer = typed(server, command.replace("http://", ""))
        assert status == 200, answer
        assert answer["servable"] == "mine"


def test_readme_shows_the_list_as_it_is() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "serving", "list", "--model-dir", "servables"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    shown = next(block for block in blocks("text") if block.startswith("SERVABLE"))
    assert shown in listed.stdout
