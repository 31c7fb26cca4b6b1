"""``serving --help`` and ``--version``: quick, and they teach."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from serving import __version__
from serving.cli import main
from serving.exit_codes import ExitCode


def run(*args: str) -> str:
    result = CliRunner().invoke(main, list(args))
    assert result.exit_code == 0, result.output
    return result.output


def test_help_shows_an_example_the_layout_and_every_exit_code() -> None:
    text = run("--help")
    assert "serving start --model-dir servables" in text
    assert "servables/digits/1/model.onnx" in text
    for code in ExitCode:
        assert f"{code.value}  {code.meaning}" in text


@pytest.mark.parametrize("name", ["start", "list"])
def test_help_explains_every_option_and_its_variable(name: str) -> None:
    text = " ".join(run(name, "--help").split())
    command = main.commands[name]
    for option in command.params:
        assert isinstance(option, click.Option)
        assert option.help
        assert option.opts[-1] in text
        if isinstance(option.envvar, str):
            assert option.envvar in text


def test_help_shows_defaults() -> None:
    text = " ".join(run("start", "--help").split())
    for default in ("127.0.0.1", "1500", "5500", "2048", "30.0", "300.0", "cpu", "text", "info"):
        assert f"default: {default}" in text


def test_version_is_the_packages() -> None:
    assert run("--version") == f"serving, version {__version__}\n"


def test_module_runs_as_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "serving", "--version"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, f"serving, version {__version__}\n")


@pytest.mark.parametrize("args", [["--help"], ["start", "--help"], ["list", "--help"]])
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    code = (
        "import json, sys\n"
        "from serving.cli import main\n"
        "main(sys.argv[1:], standalone_mode=False)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "click" in loaded
    heavy = {"fastapi", "grpc", "onnx", "onnxruntime", "numpy", "pydantic", "uvicorn", "asyncio"}
    assert loaded & heavy == set()
