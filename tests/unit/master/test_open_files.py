"""The limit on open files is raised as far as it goes; a start that cannot do is refused."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from serving.config import ServerSettings
from serving.errors import ConfigError
from serving.exit_codes import ExitCode
from serving.master import open_files

Limits = tuple[int, int]


def take(limits: Limits, monkeypatch: pytest.MonkeyPatch, workers: int = 1) -> list[Limits]:
    made: list[Limits] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: made.append(wanted))
    open_files.take_all(ServerSettings(Path("m"), workers=workers))
    return made


def test_limit_is_raised_to_what_the_system_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert take((1024, 4096), monkeypatch) == [(4096, 4096)]
    assert take((4096, 4096), monkeypatch) == []


def test_limit_that_is_none_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    assert take((resource.RLIM_INFINITY, resource.RLIM_INFINITY), monkeypatch) == []


def test_more_workers_need_more_files(monkeypatch: pytest.MonkeyPatch) -> None:
    take((100, 100), monkeypatch)
    with pytest.raises(ConfigError) as refused:
        take((100, 100), monkeypatch, workers=16)
    assert refused.value.given == "100"


def test_start_under_a_low_limit_says_so_in_one_line(tmp_path: Path) -> None:
    command = f"ulimit -n 24; exec {sys.executable} -m serving start --model-dir {tmp_path}"
    told = subprocess.run(
        ["/bin/sh", "-c", f"{command} --rest-port 0 --grpc-port 0"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert told.returncode == ExitCode.START_FAILED
    (line,) = told.stderr.splitlines()
    assert "open files is too low" in line
    assert "given 24 (" in line
    assert "ulimit -n 65536" in line
