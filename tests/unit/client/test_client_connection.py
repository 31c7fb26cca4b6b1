"""Addresses as people write them, what gRPC says when it fails, and what the import costs."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from grpc import StatusCode

from serving import errors
from serving.client import AsyncClient, Client, channel, failure
from serving.errors import ConfigError, ServingError, Unavailable


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("localhost", "localhost:5500"),
        (" localhost:81 ", "localhost:81"),
        ("grpc://10.0.0.1:9/", "10.0.0.1:9"),
        ("[::1]", "[::1]:5500"),
        ("[::1]:7", "[::1]:7"),
        ("unix:/run/serving.sock", "unix:/run/serving.sock"),
    ],
)
def test_address_is_taken_as_people_write_it(address: str, target: str) -> None:
    assert channel.target(address) == target


@pytest.mark.parametrize(
    "address",
    ["", "http://localhost:1500", "localhost:", "localhost:0", "localhost:70000", "a:b", "::1"],
)
def test_wrong_address_is_refused_with_an_example(address: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Client(address)
    assert "localhost:5500" in refused.value.expected


@pytest.mark.parametrize(
    ("code", "details", "cls", "word"),
    [
        (StatusCode.UNAVAILABLE, "Socket closed", errors.Unavailable, "connection_lost"),
        (StatusCode.UNIMPLEMENTED, "Method not found!", errors.Unimplemented, "other_server"),
        (StatusCode.DEADLINE_EXCEEDED, "", errors.DeadlineExceeded, "deadline_exceeded"),
        (
            StatusCode.RESOURCE_EXHAUSTED,
            "SERVER: Received message larger than max (200 vs. 100)",
            errors.TooLarge,
            "request_too_large",
        ),
        (StatusCode.RESOURCE_EXHAUSTED, "Bandwidth", errors.Overloaded, "overloaded"),
        (StatusCode.UNKNOWN, None, errors.InternalError, "internal"),
    ],
)
def test_error_of_grpc_itself_becomes_one_of_ours(
    code: StatusCode, details: str | None, cls: type[ServingError], word: str
) -> None:
    error = failure.from_rpc("here:1", code, details, None, 2.0)
    assert (type(error), error.code) == (cls, word)


@pytest.fixture
def http_port() -> Iterator[int]:
    """A server that answers everything as a web server does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(1000)
                    peer.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_rest_port_is_told_from_the_grpc_port(http_port: int) -> None:
    with Client(f"127.0.0.1:{http_port}", retries=0) as client:
        with pytest.raises(Unavailable, match="does not speak gRPC") as failed:
            client.servables()
        assert not client.ready()
    assert "--grpc-port" in failed.value.fix


REFUSED = "failed to connect to all addresses; last error: UNKNOWN: {}: Connection refused"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_rest_port_is_never_called_a_port_where_nothing_listens(host: str, http_port: int) -> None:
    with Client(f"{host}:{http_port}", retries=0) as client:
        for _ in range(5):  # localhost has two addresses, and gRPC tells of either
            with pytest.raises(Unavailable, match="what listens on") as failed:
                client.servables()
            assert "not the REST port" in failed.value.fix


def test_refusal_of_one_address_of_localhost_does_not_hide_what_listens_on_the_other(
    http_port: int,
) -> None:
    told = REFUSED.format(f"ipv6:%5B::1%5D:{http_port}: Failed to connect to remote host")
    error = failure.from_rpc(f"localhost:{http_port}", StatusCode.UNAVAILABLE, told, None, 2.0)
    assert error.message == f"what listens on localhost:{http_port} takes no gRPC connection"
    assert error.code == failure.NO_SERVER


def test_localhost_without_a_listener_is_said_to_have_none() -> None:
    address = f"localhost:{free_port()}"
    error = failure.from_rpc(address, StatusCode.UNAVAILABLE, REFUSED.format("ipv4"), None, 2.0)
    assert error.message == f"nothing listens on {address}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_nothing_that_listens_is_said_with_the_way_out() -> None:
    address = f"127.0.0.1:{free_port()}"
    with (
        Client(address, retries=1) as client,
        pytest.raises(Unavailable, match=f"nothing listens on {address}") as failed,
    ):
        client.predict("m", [1])
    assert "serving start" in failed.value.fix


async def test_nothing_that_listens_is_said_to_asyncio_too() -> None:
    async with AsyncClient(f"127.0.0.1:{free_port()}", retries=1) as client:
        with pytest.raises(Unavailable, match="nothing listens on"):
            await client.describe("m")
        assert not await client.ready()
    with pytest.raises(ValueError, match="closed"):
        await client.servables()


def test_unknown_host_is_named() -> None:
    with (
        Client("no-such-host.invalid:1", retries=0, timeout_s=20) as client,
        pytest.raises(ServingError, match=r"no-such-host\.invalid"),
    ):
        client.servables()


def test_importing_the_client_imports_nothing_of_the_server() -> None:
    program = "import serving.client, sys; print(*sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(told.stdout.split())
    assert "serving.client.blocking" in loaded
    tops = {name.partition(".")[0] for name in loaded}
    assert not tops & {
        "fastapi", "uvicorn", "uvloop", "starlette", "pydantic", "onnx", "onnxruntime", "click",
        "orjson", "simdjson", "httptools",
    }  # fmt: skip
    ours = {name.split(".")[1] for name in loaded if name.startswith("serving.")}
    assert ours == {"client", "v1", "errors", "tensor", "request", "protobuf"}
