"""What commands say of a server that they do not come to terms with."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from pathlib import Path

import pytest

from serving.cli.server_call import Server
from serving.cli.tls import TlsFiles
from serving.errors import Unavailable
from tests.certificates import Authority

_RESET = struct.pack("ii", 1, 0)


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
