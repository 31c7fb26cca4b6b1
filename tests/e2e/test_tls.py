"""TLS on both ports of a real server: whom it lets in, what it is renewed with, how it stops."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from serving.client import AsyncClient, Client, Tls
from serving.errors import ConfigError, Unavailable
from tests import models
from tests.certificates import Authority, Pair
from tests.server import ServerProcess, serving, until

INPUTS = {"x": np.float32([1, 2]), "y": np.float32([3, 4])}


class Secured:
    """A server that asks its clients for certificates, and who is who."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        (folder / "theirs").mkdir()
        self.others = Authority(folder / "theirs", "others")
        self.own = self.authority.sign("own")
        self.friend = self.authority.sign("friend")
        self.stranger = self.others.sign("stranger")
        self.server: ServerProcess

    def options(self) -> list[str]:
        return [
            "--tls-cert", str(self.own.certificate), "--tls-key", str(self.own.key),
            "--tls-client-ca", str(self.authority.certificate),
        ]  # fmt: skip

    def tls(self, shown: Pair | None = None, ca: Path | None = None) -> Tls:
        trusted = ca or self.authority.certificate
        return Tls(trusted) if shown is None else Tls(trusted, *shown)

    def context(self, shown: Pair | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        if shown is not None:
            context.load_cert_chain(shown.certificate, shown.key)
        return context

    def peer(self, port: int) -> str:
        """Return the name on the certificate that a new connection is shown."""
        context = self.context(self.friend)
        context.set_alpn_protocols(["h2", "http/1.1"])
        with (
            socket.create_connection(("127.0.0.1", port), 10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            found: dict[str, Any] = dict(secured.getpeercert() or {})
            return str(found["subject"][0][0][1])


@pytest.fixture(scope="module", params=["grpcio", "lane"])
def secured(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    found = Secured(folder)
    models.add(folder / "models" / "sums" / "1" / "model.onnx")
    options = (*found.options(), "--grpc-engine", request.param)
    with serving(folder / "models", folder / "run", *options) as server:
        found.server = server
        yield found


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "serving", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "GRPC_VERBOSITY": "NONE"},
    )


def get(secured: Secured, shown: Pair | None) -> bytes:
    """Ask for health over REST, byte for byte."""
    with (
        socket.create_connection(("127.0.0.1", secured.server.rest_port), 10) as plain,
        secured.context(shown).wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"GET /v2/health/ready HTTP/1.1\r\nhost: x\r\n\r\n")
        return connection.recv(65536)


def test_tls_rest_answers_whom_it_knows(secured: Secured) -> None:
    assert get(secured, secured.friend).startswith(b"HTTP/1.1 200")


def test_tls_rest_takes_large_bodies_one_after_the_other(secured: Secured) -> None:
    rows = np.arange(200_000, dtype=np.float32)
    address = f"https://localhost:{secured.server.rest_port}/v2/models/sums/infer"
    given = {"shape": [200_000], "datatype": "FP32", "parameters": {"binary_data_size": 800_000}}
    head = json.dumps({"inputs": [{"name": name, **given} for name in "xy"]}).encode()
    with httpx.Client(verify=secured.context(secured.friend), timeout=30) as client:
        for _ in range(2):
            answer = client.post(
                address,
                content=head + rows.tobytes() * 2,
                headers={"inference-header-content-length": str(len(head))},
            )
            assert answer.status_code == 200
            assert answer.json()["outputs"][0]["data"] == (rows * 2).tolist()


@pytest.mark.parametrize("who", ["nobody", "stranger"])
def test_tls_rest_answers_nobody_else(secured: Secured, who: str) -> None:
    shown = secured.stranger if who == "stranger" else None
    try:
        answer = get(secured, shown)
    except OSError:
        answer = b""
    assert answer == b""


def test_tls_grpc_answers_whom_it_knows(secured: Secured) -> None:
    address = f"localhost:{secured.server.grpc_port}"
    with Client(address, tls=secured.tls(secured.friend)) as client:
        assert client.predict("sums", INPUTS)["z"].tolist() == [4, 6]


async def test_tls_async_client_connects_as_well(secured: Secured) -> None:
    address = f"localhost:{secured.server.grpc_port}"
    async with AsyncClient(address, tls=secured.tls(secured.friend)) as client:
        answer = await client.predict("sums", INPUTS)
    assert answer["z"].tolist() == [4, 6]


@pytest.mark.parametrize("who", ["nobody", "stranger"])
def test_tls_grpc_answers_nobody_else(secured: Secured, who: str) -> None:
    tls = secured.tls(secured.stranger if who == "stranger" else None)
    with (
        Client(f"localhost:{secured.server.grpc_port}", tls=tls, retries=0) as client,
        pytest.raises(Unavailable, match="ended the connection at once"),
    ):
        client.servables()


def test_tls_client_says_that_it_does_not_trust_the_server(secured: Secured) -> None:
    tls = secured.tls(secured.friend, secured.others.certificate)
    with (
        Client(f"localhost:{secured.server.grpc_port}", tls=tls, retries=0) as client,
        pytest.raises(Unavailable, match="its certificate is not trusted") as caught,
    ):
        client.servables()
    assert caught.value.code == "no_trust"


def test_tls_client_names_the_file_that_it_cannot_use(secured: Secured) -> None:
    with pytest.raises(ConfigError, match="holds no certificate"):
        Client("localhost:1", tls=Tls(secured.own.key))
    with pytest.raises(ConfigError, match="go together"):
        Client("localhost:1", tls=Tls(certificate=secured.own.certificate))


def test_tls_ports_answer_nothing_in_plain_text(secured: Secured) -> None:
    for port in (secured.server.rest_port, secured.server.grpc_port):
        with socket.create_connection(("127.0.0.1", port), 10) as plain:
            plain.sendall(b"GET /v2/health/ready HTTP/1.1\r\nhost: x\r\n\r\n")
            try:
                got = plain.recv(4096)
            except ConnectionError:
                got = b""
        assert b"HTTP" not in got


def test_tls_ready_file_and_log_say_so(secured: Secured) -> None:
    told = json.loads(secured.server._ready.read_text())
    assert told["tls"] is True
    assert f"REST https://127.0.0.1:{secured.server.rest_port}" in secured.server.log()


def test_tls_commands_connect(secured: Secured, tmp_path: Path) -> None:
    known = [
        "--tls-ca", str(secured.authority.certificate),
        "--tls-client-cert", str(secured.friend.certificate),
        "--tls-client-key", str(secured.friend.key),
    ]  # fmt: skip
    url = f"https://localhost:{secured.server.rest_port}"
    told = command("status", "--url", url, "--json", *known)
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["ready"] is True
    asked = command(
        "predict", "sums", "-i", "x=[1]", "-i", "y=[2]", "-o", "json",
        "--url", f"localhost:{secured.server.grpc_port}", *known,
    )  # fmt: skip
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout)["outputs"] == {"z": [3.0]}


def test_tls_commands_say_what_is_missing(secured: Secured) -> None:
    url = f"https://localhost:{secured.server.rest_port}"
    told = command("status", "--url", url)
    assert told.returncode != 0
    assert "--tls-ca names the file" in told.stderr
    told = command("status", "--url", url, "--tls-ca", str(secured.authority.certificate))
    assert told.returncode != 0
    assert "--tls-client-cert" in told.stderr
    plain = command("status", "--url", "http://localhost:1", "--tls-ca", "x.pem")
    assert "https://localhost:1" in plain.stderr


@pytest.mark.parametrize("engine", ["grpcio", "lane"])
def test_tls_certificate_is_renewed_on_both_ports_without_a_restart(
    tmp_path: Path, engine: str
) -> None:
    found = Secured(tmp_path)
    newer = found.authority.sign("newer")
    models.add(tmp_path / "models" / "sums" / "1" / "model.onnx")
    options = (*found.options(), "--grpc-engine", engine)
    with serving(tmp_path / "models", tmp_path / "run", *options) as server:
        ports = (server.rest_port, server.grpc_port)
        assert [found.peer(port) for port in ports] == ["own", "own"]
        for old, new in zip(found.own, newer, strict=True):
            draft = tmp_path / "draft"
            shutil.copy(new, draft)
            os.replace(draft, old)
        until(lambda: {found.peer(p) for p in ports} == {"newer"}, 20, "the new certificate")


def test_tls_stop_does_not_wait_for_idle_connections(tmp_path: Path) -> None:
    found = Secured(tmp_path)
    models.add(tmp_path / "models" / "sums" / "1" / "model.onnx")
    with serving(tmp_path / "models", tmp_path / "run", *found.options()) as server:
        plain = socket.create_connection(("127.0.0.1", server.rest_port), 10)
        with plain, found.context(found.friend).wrap_socket(plain, server_hostname="localhost"):
            began = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - began < 20, "it waited for a client that says nothing"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (("cert",), "--tls-key is missing"),
        (("cert", "key", "other"), "--tls-key cannot be used: it is not the key"),
    ],
)
def test_tls_start_refuses_what_does_not_fit_before_it_starts(
    tmp_path: Path, given: tuple[str, ...], text: str
) -> None:
    authority = Authority(tmp_path)
    own, other = authority.sign("own"), authority.sign("other")
    key = other.key if "other" in given else own.key
    options = ["--tls-cert", str(own.certificate)]
    options += ["--tls-key", str(key)] if "key" in given else []
    (tmp_path / "models").mkdir()
    told = command("start", "--model-dir", str(tmp_path / "models"), *options)
    assert told.returncode != 0
    assert text in told.stderr
