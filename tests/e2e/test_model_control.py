"""Explicit control: load, unload and index, over both wires and the command line."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from serving.cli import main
from serving.exit_codes import ExitCode
from tests import models
from tests.server import ServerProcess, serving

TOKEN = "s3cret-of-the-test"
SCRIPT = Path(__file__).with_name("triton_control_calls.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository") / "models"
    for name in ("m", "command", "other", "first"):
        models.tagged(folder / name / "1" / "model.onnx", 1)
    models.garbage(folder / "bad" / "1" / "model.onnx")
    (folder.parent / "token").write_text(TOKEN + "\n")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    options = ("--admin-token-file", str(folder.parent / "token"), "--load-servables", "first")
    with serving(
        folder, folder.parent / "scratch", "--model-control", "explicit", *options
    ) as running:
        yield running


def ask(
    server: ServerProcess, path: str, body: bytes = b"", **headers: str
) -> tuple[int, Any, dict[str, str]]:
    headers.setdefault("authorization", f"Bearer {TOKEN}")
    sent = {name: value for name, value in headers.items() if value}
    request = urllib.request.Request(server.base + path, body, sent, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read()), dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read()), dict(error.headers)


def index(server: ServerProcess, **body: bool) -> dict[tuple[str, str], tuple[str, str]]:
    status, rows, _ = ask(
        server, "/v2/repository/index", json.dumps(body).encode(), authorization=""
    )
    assert status == 200
    return {(r["name"], r["version"]): (r["state"], r["reason"]) for r in rows}


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_tritonclient_loads_and_unloads(
    server: ServerProcess, folder: Path, tmp_path: Path, kind: str
) -> None:
    file = models.tagged(tmp_path / "model.onnx", 5)
    address = f"127.0.0.1:{server.rest_port}" if kind == "http" else server.grpc
    run = subprocess.run(
        [sys.executable, "-W", "ignore", str(SCRIPT), kind, address, TOKEN, str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert ["m", "1", "READY"] not in told["before"]
    assert ["m", "1", "READY"] in told["loaded"]
    assert told["tag"] == told["again"] == 1.0
    # The files that came along are served, and nothing else of the servable.
    assert [row for row in told["overridden"] if row[0] == "m"] == [["m", "7", "READY"]]
    assert (told["overridden tag"], told["batch"]) == (5.0, 3)
    # What cannot be served leaves what was loaded before.
    assert "no format that is known here" in told["garbage"]
    assert told["after garbage"] == 5.0
    assert "file:<version>/<file>" in told["escape"]
    assert not (folder / "x").exists()
    assert "did you mean 'm'?" in told["unknown"]
    assert all(row[2] == "UNAVAILABLE" for row in told["unloaded"] if row[0] == "m")
    for refusal in ("no token", "no token to unload"):
        assert "token" in told[refusal]
        assert TOKEN not in told[refusal]


def test_explicit_control_begins_with_what_is_named(server: ServerProcess) -> None:
    listed = index(server)
    assert listed["first", "1"] == ("READY", "")
    assert listed["other", ""] == ("UNAVAILABLE", "not loaded")
    assert set(index(server, ready=True)) == {("first", "1")}
    assert server.get("/v2/health/ready")[0] == 200
    assert server.predict({"servable": "other", "instances": [{"x": 1}]})[0] == 404


def test_explicit_control_follows_no_files(server: ServerProcess, folder: Path) -> None:
    models.tagged(folder / "new" / "1" / "model.onnx", 1)
    assert ask(server, "/v2/repository/models/new/load")[0] == 200
    models.tagged(folder / "new" / "1" / "model.onnx", 2)
    before = server.predict({"servable": "new", "instances": [{"x": 0}]})[1]["instances"]
    assert ask(server, "/v2/repository/models/new/load")[0] == 200  # changed: loaded anew
    after = server.predict({"servable": "new", "instances": [{"x": 0}]})[1]["instances"]
    assert (before[0]["tag"], after[0]["tag"]) == (1.0, 2.0)
    assert ask(server, "/v2/repository/models/new/unload")[0] == 200
    status, told = server.predict({"servable": "new", "instances": [{"x": 0}]})
    assert (status, told["code"]) == (503, "not_ready")


def test_loading_what_cannot_be_served_says_why(server: ServerProcess) -> None:
    status, told, _ = ask(server, "/v2/repository/models/bad/load")
    assert status == 400
    assert "version 1: the content is of no format that is known here" in told["error"]
    state, reason = index(server)["bad", "1"]
    assert state == "UNAVAILABLE"
    assert "no format" in reason
    assert ask(server, "/v2/repository/models/nowhere/unload")[0] == 404


@pytest.mark.parametrize("call", ["load", "unload"])
@pytest.mark.parametrize("given", ["", "Bearer wrong", f"Basic {TOKEN}"])
def test_control_without_the_token_is_refused(server: ServerProcess, call: str, given: str) -> None:
    status, told, headers = ask(server, f"/v2/repository/models/first/{call}", authorization=given)
    assert status == 401
    assert headers["www-authenticate"] == "Bearer"
    assert "token" in told["error"]
    assert index(server)["first", "1"] == ("READY", "")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "must be an object"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"parameters": []}', "must be an object"),
        (b'{"parameters": {"file:1/model.onnx": "???"}}', "not base64"),
        (b'{"parameters": {"file:1/model.onnx": 7}}', "must be a string"),
        (b'{"parameters": {"cofnig": "{}"}}', "no parameter 'cofnig'"),
        (b'{"parameters": {"config": "{\\"max_batch_siz\\": 1}"}}', "cannot be read"),
        (b'{"parameters": {"config": "{\\"name\\": \\"x\\"}"}}', "the folder is called 'other'"),
    ],
)
def test_loading_refuses_a_body_that_is_wrong(
    server: ServerProcess, body: bytes, expected: str
) -> None:
    status, told, _ = ask(server, "/v2/repository/models/other/load", body)
    assert status == 400
    assert expected in told["error"]
    assert "/tmp" not in told["error"]


@pytest.mark.parametrize("name", ["..", "%2e%2e", "..%2f..%2fetc", "a%00b", "x" * 300, "%20"])
def test_loading_refuses_a_name_that_could_lead_elsewhere(server: ServerProcess, name: str) -> None:
    content = base64.b64encode(b"x").decode()
    body = json.dumps({"parameters": {"file:1/model.onnx": content}}).encode()
    assert ask(server, f"/v2/repository/models/{name}/load", body)[0] in (400, 404)


def test_commands_load_show_and_unload(server: ServerProcess, folder: Path, tmp_path: Path) -> None:
    at = ["--url", server.base]
    admin = [*at, "--token-file", str(folder.parent / "token")]

    def run(*args: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, list(args))
        return result.exit_code, result.output

    assert run("load", "command", *admin) == (0, "command is loaded\n")
    code, text = run("status", *at)
    assert code == 0
    assert ["command", "1", "READY"] in [line.split() for line in text.splitlines()]
    file = models.tagged(tmp_path / "model.onnx", 6)
    assert run("load", "command", "--file", f"4/model.onnx={file}", *admin)[0] == 0
    answer = server.predict({"servable": "command", "instances": [{"x": 0}]})[1]
    assert (answer["version"], answer["instances"][0]["tag"]) == (4, 6.0)
    assert run("unload", "command", *admin) == (0, "command is unloaded\n")
    shown = json.loads(run("status", "--json", *at)[1])
    assert shown["ready"] is True
    assert ("command", "4", "UNAVAILABLE") in [
        (r["name"], r["version"], r["state"]) for r in shown["versions"]
    ]
    code, text = run("load", "comand", *admin)
    assert (code, "did you mean 'command'?" in text) == (ExitCode.REFUSED, True)
    code, text = run("unload", "command", *at)
    assert (code, "token" in text) == (ExitCode.REFUSED, True)
    code, text = run("status", "--url", "localhost:1")
    assert (code, "serving start" in text) == (ExitCode.NO_SERVER, True)
    code, text = run("status", "--url", server.grpc)
    assert (code, "not the REST side" in text) == (ExitCode.NO_SERVER, True)


def test_pages_in_a_browser_may_not_load_nor_may_bodies_over_the_limit(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    models.tagged(folder / "m" / "1" / "model.onnx", 1)
    options = ("--model-control", "explicit", "--max-request-mb", "1")
    with serving(folder, tmp_path / "scratch", *options) as server:
        path = "/v2/repository/models/m/load"
        status, told, _ = ask(server, path, authorization="", origin="https://example.org")
        assert status == 401
        assert "browser" in told["error"]
        status, told, _ = ask(server, path, bytes(9 << 20), authorization="")
        assert status == 413
        assert "--max-request-mb" in told["error"]
        assert ask(server, path, authorization="")[0] == 200
        assert index(server)["m", "1"] == ("READY", "")
