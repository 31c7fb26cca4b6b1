"""How ``serving start`` ends: when it cannot begin, and when it is asked to."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from tests.server import call, serving, until

SERVABLES = Path(__file__).parents[2] / "servables"


@pytest.mark.parametrize("flag", ["--rest-port", "--grpc-port"])
def test_taken_port_ends_with_its_exit_code_and_names_the_flag(tmp_path: Path, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with serving(SERVABLES, tmp_path, flag, port, wait=False) as server:
            assert server.process.wait(30) == 3
            assert port in server.log()
            assert flag in server.log()


def test_missing_model_dir_ends_with_its_exit_code(tmp_path: Path) -> None:
    with serving(tmp_path / "nowhere", tmp_path / "scratch", wait=False) as server:
        assert server.process.wait(30) == 4
        assert "does not exist" in server.log()


def test_folder_where_nothing_loads_is_not_ready_and_says_why(tmp_path: Path) -> None:
    model = tmp_path / "models" / "broken" / "1" / "model.onnx"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"not a model")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with serving(
        tmp_path / "models", tmp_path / "scratch", "--rest-port", str(port), wait=False
    ) as server:
        until(lambda: "ready file is not written" in server.log(), 30, "the end of the scan")
        base = f"http://127.0.0.1:{port}"
        assert call("GET", f"{base}/v2/health/live")[0] == 200
        assert call("GET", f"{base}/v2/health/ready")[0] == 503
        status, answer = call("GET", f"{base}/v2/models/broken")
        assert status == 503
        assert "no format that is known" in answer["error"]
        assert server.stop() == 0
    assert not (tmp_path / "scratch" / "ready.json").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stopped_server_ends_with_0_and_takes_its_ready_file_away(
    tmp_path: Path, number: signal.Signals
) -> None:
    with serving(SERVABLES, tmp_path) as server:
        assert (tmp_path / "ready.json").exists()
        assert server.get("/v2/health/ready")[0] == 200
        server.process.send_signal(number)
        assert server.process.wait(30) == 0
        assert f"{number.name}: finishing what was accepted" in server.log()
    assert not (tmp_path / "ready.json").exists()


def test_ready_file_of_a_server_that_was_killed_does_not_outlive_the_next_start(
    tmp_path: Path,
) -> None:
    model, stale = tmp_path / "models" / "broken.onnx", tmp_path / "stale.json"
    model.parent.mkdir()
    model.write_bytes(b"no model")
    stale.write_text('{"pid": 1}')
    with serving(model.parent, tmp_path / "run", "--ready-file", str(stale), wait=False) as server:
        until(lambda: "ready file is not written" in server.log(), 30, "the end of the scan")
        assert not stale.exists()
        assert server.stop() == 0
