"""Arguments are refused in MindSpore Serving's words, as recorded."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from serving.api import distributed, server
from serving.api.start_config import ServableStartConfig

ROOT = Path(__file__).parents[3]
ROWS = json.loads((ROOT / "tests" / "data" / "mindspore_serving" / "api.json").read_text())


def value(recorded: Any) -> Any:
    return recorded["bytes"].encode() if isinstance(recorded, dict) else recorded


def call(row: dict[str, Any]) -> Any:
    arguments = [value(item) for item in row["args"]]
    keywords = {name: value(item) for name, item in row["kwargs"].items()}
    return getattr(server, row["call"])(*arguments, **keywords)


@pytest.mark.parametrize(
    "row",
    [r for r in ROWS if "raises" in r],
    ids=lambda r: f"{r['call']}-{r['args']}-{r['kwargs']}",
)
def test_arguments_are_refused_as_recorded(row: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError) as caught:
        call(row)
    assert (type(caught.value).__name__, str(caught.value)) == (row["raises"], row["text"])
    assert server._process.life is None, "nothing was started for it"


@pytest.mark.parametrize("row", [r for r in ROWS if "gives" in r], ids=lambda r: str(r["args"]))
def test_start_config_holds_what_was_recorded(row: dict[str, Any]) -> None:
    found = call(row)
    got = {name: getattr(found, name) for name in row["gives"]}
    assert got == {n: tuple(v) if isinstance(v, list) else v for n, v in row["gives"].items()}


def test_recordings_cover_every_call() -> None:
    assert {row["call"] for row in ROWS} == {
        "ServableStartConfig", "SSLConfig", "start_servables", "start_grpc_server",
        "start_restful_server", "set_max_enqueued_requests",
    }  # fmt: skip


def test_start_config_directory_is_relative_to_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "servables").mkdir()
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "scripts" / "start.py")])
    monkeypatch.chdir("/")
    found = ServableStartConfig("../servables", "x").servable_directory
    assert found == str(tmp_path / "servables")


@pytest.mark.parametrize("kind", ["gpu", "Ascend"])
def test_start_refuses_a_device_that_is_not_here(kind: str, tmp_path: Path) -> None:
    config = ServableStartConfig(str(tmp_path), "x", device_type=kind)
    with pytest.raises(RuntimeError, match="inconsistent with current running environment"):
        server.start_servables(config)


def test_distributed_is_declared_and_refused() -> None:
    with pytest.raises(RuntimeError, match="spread over several devices"):
        distributed.start_servable("dir", "matmul", "hccl_8p.json")
    with pytest.raises(RuntimeError, match="runs no agents"):
        distributed.startup_agents("0.0.0.0:6200", ["a.mindir"])
    with pytest.raises(RuntimeError, match="several devices"):
        distributed.declare_servable(8, 1)
    with pytest.raises(RuntimeError, match="Parameter 'servable_name' should be str"):
        distributed.start_servable("dir", 1, "hccl_8p.json")
