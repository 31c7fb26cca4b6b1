"""How an interpreter that does not have this package installed is made to find it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from serving.repository.interpreter import command, environment

NAKED = [sys.executable, "-I", "-S"]


def test_interpreter_of_our_own_runs_modules_as_they_are() -> None:
    assert command(sys.executable, "serving.x") == (sys.executable, "-m", "serving.x")


def test_interpreter_of_another_environment_finds_this_package_alone() -> None:
    words = command("/elsewhere/python", "serving.definition")
    # -I -S: neither site-packages nor PYTHONPATH, as in an environment without us.
    told = subprocess.run([*NAKED, *words[1:]], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr) == (0, "")
    words = command("/elsewhere/python", "serving.tensor")
    told = subprocess.run([*NAKED, *words[1:]], capture_output=True, text=True, check=False)
    assert "No module named 'numpy'" in told.stderr, "what lies beside this package is not its own"


def test_modules_report_to_nobody_unless_somebody_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    assert environment()["ORT_DISABLE_TELEMETRY"] == "1"
    assert environment({"ORT_DISABLE_TELEMETRY": "0"})["ORT_DISABLE_TELEMETRY"] == "0"
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    assert environment()["ORT_DISABLE_TELEMETRY"] == "0"
