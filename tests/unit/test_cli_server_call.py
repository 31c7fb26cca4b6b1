"""What commands say of a server that they do not come to terms with."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from serving.cli import main
from serving.cli.server_call import Server
from serving.cli.tls import TlsFiles
from serving.errors import Unavailable
from serving.exit_codes import ExitCode
from tests.certificates import Authority

_RESET = struct.pack("ii", 1, 0)


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


def test_server_that_asks_for_a_token_is_answered_with_the_option() -> None:
    body = b'{"error": "show it"}'
    head = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: %d\r\n\r\n" % len(body)
    with one_answer(head + body) as port:
        result = CliRunner().invoke(main, ["status", "--url", f"http://127.0.0.1:{port}"])
    assert result.exit_code == ExitCode.REFUSED
    assert result.stderr == "Error: show it (--token-file names the file with its token)\n"


@pytest.mark.parametrize("token", ["", "secret\nmore", "two words", "secret€", "\x00secret"])
@pytest.mark.parametrize("command", ["status", "predict", "load"])
def test_file_that_holds_no_token_is_named_and_not_shown(
    command: str, token: str, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(token)
    words = [command, *(["net"] if command != "status" else [])]
    result = CliRunner().invoke(main, [*words, "--url", "localhost:1", "--token-file", str(file)])
    assert result.exit_code == ExitCode.USAGE
    assert f"--token-file {file} holds no usable token; expected one line" in result.stderr
    assert "secret" not in result.stderr


def test_bench_of_a_server_with_tls_is_refused_before_it_is_asked() -> None:
    result = CliRunner().invoke(main, ["bench", "digits", "--url", "https://localhost:1"])
    assert result.exit_code == ExitCode.USAGE
    assert "does not speak TLS (measure a server that is started without --tls-cert)" in (
        result.stderr
    )


def test_reset_behind_the_handshake_is_taken_for_a_certificate_that_is_missing(
    tmp_path: Path,
) -> None:
    """As TLS 1.3 has it: the server looks at the client's certificate when the client is done."""
    authority = Authority(tmp_path)
    own = authority.sign("own")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            plain, _ = listener.accept()
            with context.wrap_socket(plain, server_side=True) as secured:
                secured.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

        refusing = threading.Thread(target=refuse)
        refusing.start()
        url = f"https://localhost:{listener.getsockname()[1]}"
        with pytest.raises(Unavailable, match="--tls-client-cert"):
            Server(url, 30, tls=TlsFiles(authority.certificate)).get("/v2")
        refusing.join()


def test_context_asks_for_no_more_than_grpc_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for key identifiers, as Python does by itself from 3.13 on."""
    made = ssl.create_default_context

    def strict(**how: str) -> ssl.SSLContext:
        context = made(**how)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    context = TlsFiles(Authority(tmp_path).certificate).context()
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.verify_mode is ssl.CERT_REQUIRED
