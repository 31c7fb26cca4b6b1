"""What the commands say of something else that listens at a server's REST address."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from serving.cli import main
from serving.exit_codes import ExitCode


@contextlib.contextmanager
def one_answer(data: bytes) -> Iterator[int]:
    """Answer the first connection with these bytes, whatever it asks; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            peer, _ = listening.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(data)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(timeout=20)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    "data",
    [b"\x15\x03\x01\x00\x02\x02\x46", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", b""],
    ids=["alert of TLS", "no JSON", "nothing"],
)
def test_another_server_is_told_from_one_of_ours_and_tls_is_thought_of(data: bytes) -> None:
    with one_answer(data) as port:
        result = CliRunner().invoke(main, ["status", "--url", f"http://127.0.0.1:{port}"])
    assert result.exit_code == ExitCode.NO_SERVER
    assert "is not the REST side of this server (give its REST address" in result.stderr
    assert "https://HOST:PORT where it has TLS" in result.stderr


def test_bench_of_a_server_with_tls_is_refused_before_it_is_asked() -> None:
    result = CliRunner().invoke(main, ["bench", "digits", "--url", "https://localhost:1"])
    assert result.exit_code == ExitCode.USAGE
    assert "does not speak TLS (measure a server that is started without --tls-cert)" in (
        result.stderr
    )
