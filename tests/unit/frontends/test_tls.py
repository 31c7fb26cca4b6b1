"""Files of TLS are checked before anything starts, and followed while it runs."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.config import ServerSettings
from serving.errors import ConfigError
from serving.frontends import tls
from serving.frontends.tls import Certificates, TlsFiles, certificates_of
from tests.certificates import Authority, Pair


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def pair(authority: Authority) -> Pair:
    return authority.sign("server")


def refused(settings: ServerSettings) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        certificates_of(settings)
    assert caught.value.code == "bad_tls"
    return caught.value


def settings_of(pair: Pair, ca: Path | None = None) -> ServerSettings:
    return ServerSettings(
        Path("models"), tls_cert=pair.certificate, tls_key=pair.key, tls_client_ca=ca
    )


def test_tls_is_off_without_files() -> None:
    assert certificates_of(ServerSettings(Path("models"))) is None


@pytest.mark.parametrize(
    ("missing", "flag"), [("tls_cert", "--tls-cert"), ("tls_key", "--tls-key")]
)
def test_tls_wants_certificate_and_key_together(pair: Pair, missing: str, flag: str) -> None:
    error = refused(dataclasses.replace(settings_of(pair), **{missing: None}))
    assert error.where == flag
    assert f"{flag} is missing" in str(error)


def test_tls_wants_a_certificate_where_clients_are_to_show_one(authority: Authority) -> None:
    settings = ServerSettings(Path("models"), tls_client_ca=authority.certificate)
    assert refused(settings).where == "--tls-cert"


def test_tls_names_a_file_that_is_missing(pair: Pair, tmp_path: Path) -> None:
    error = refused(settings_of(pair._replace(key=tmp_path / "none.key")))
    assert error.where == "--tls-key"
    assert "none.key cannot be read: No such file or directory" in str(error)


@pytest.mark.parametrize("place", ["certificate", "key"])
@pytest.mark.parametrize("content", [b"", b"\x30\x82\x01\x0a", b"-----BEGIN NOTHING-----\n"])
def test_tls_names_the_file_that_holds_nothing_of_the_kind(
    pair: Pair, place: str, content: bytes
) -> None:
    getattr(pair, place).write_bytes(content)
    error = refused(settings_of(pair))
    assert error.where == ("--tls-cert" if place == "certificate" else "--tls-key")
    assert "PEM" in error.expected


def test_tls_refuses_the_key_of_another_certificate(authority: Authority, pair: Pair) -> None:
    other = authority.sign("other")
    error = refused(settings_of(Pair(pair.certificate, other.key)))
    assert error.where == "--tls-key"
    assert "not the key of the certificate" in str(error)


def test_tls_refuses_a_key_with_a_passphrase_and_asks_nobody(authority: Authority) -> None:
    error = refused(settings_of(authority.sign("server", passphrase=b"secret")))
    assert error.where == "--tls-key"
    assert "encrypted with a passphrase" in str(error)


def test_tls_refuses_an_authority_that_is_none(pair: Pair, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    assert refused(settings_of(pair, ca)).where == "--tls-client-ca"


def test_tls_refuses_a_damaged_certificate(pair: Pair) -> None:
    text = pair.certificate.read_bytes()
    pair.certificate.write_bytes(text[:60] + b"\n-----END CERTIFICATE-----\n")
    assert refused(settings_of(pair)).where == "--tls-cert"


# -- handshakes ---------------------------------------------------------------------------------


def shake(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, object]:
    """Shake hands over a pair of sockets; returns what the client learns of the server."""
    here, there = socket.socketpair()

    def serve() -> None:
        with there:
            try:
                with server.wrap_socket(there, server_side=True) as secured:
                    secured.sendall(secured.recv(1))
            except OSError:
                return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        here.settimeout(10)
        with here, client.wrap_socket(here, server_hostname="localhost") as secured:
            secured.do_handshake()
            secured.sendall(b"x")
            # In TLS 1.3 a server says no to the client's certificate after the handshake.
            assert secured.recv(1) == b"x"
            found = dict(secured.getpeercert() or {})
            return {
                "name": found["subject"][0][0][1],  # type: ignore[index]
                "protocol": secured.selected_alpn_protocol(),
                "version": secured.version(),
            }
    finally:
        thread.join(10)


def trusting(authority: Authority, shown: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.set_alpn_protocols(["h2", "http/1.1"])
    if shown is not None:
        context.load_cert_chain(shown.certificate, shown.key)
    return context


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
def test_tls_agrees_to_its_protocol_alone(authority: Authority, pair: Pair, protocol: str) -> None:
    context = Certificates(TlsFiles(*pair)).context(protocol)
    found = shake(context, trusting(authority))
    assert found == {"name": "server", "protocol": protocol, "version": "TLSv1.3"}


def test_tls_takes_1_2_and_nothing_older(authority: Authority, pair: Pair) -> None:
    context = Certificates(TlsFiles(*pair)).context("http/1.1")
    client = trusting(authority)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert shake(context, client)["version"] == "TLSv1.2"
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_tls_lets_in_whom_the_authority_has_signed(
    authority: Authority, pair: Pair, tmp_path: Path
) -> None:
    (tmp_path / "theirs").mkdir()
    others = Authority(tmp_path / "theirs", "others")
    files = TlsFiles(*pair, authority.certificate)
    context = Certificates(files).context("http/1.1")
    friend, stranger = authority.sign("friend"), others.sign("stranger")
    assert shake(context, trusting(authority, friend))["name"] == "server"
    for shown in (None, stranger):
        with pytest.raises(OSError):
            shake(context, trusting(authority, shown))


# -- renewal ------------------------------------------------------------------------------------


@pytest.fixture
def forward(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what moves the clock on by more than the time between two looks."""
    now = [100.0]
    monkeypatch.setattr(tls.time, "monotonic", lambda: now[0])

    def on() -> None:
        now[0] += 2 * tls._LOOK_S

    return on


def replace_file(file: Path, by: Path) -> None:
    """Put a file in another's place at once, as those who renew certificates do."""
    draft = file.with_suffix(".draft")
    shutil.copy(by, draft)
    os.replace(draft, file)


def test_tls_gives_new_connections_the_new_certificate(
    authority: Authority, pair: Pair, forward: Callable[[], None]
) -> None:
    context = Certificates(TlsFiles(*pair)).context("http/1.1")
    newer = authority.sign("newer")
    replace_file(pair.certificate, newer.certificate)
    replace_file(pair.key, newer.key)
    assert shake(context, trusting(authority))["name"] == "server", "it was looked at too soon"
    forward()
    assert shake(context, trusting(authority))["name"] == "newer"


def test_tls_keeps_the_certificate_until_key_and_certificate_fit(
    authority: Authority,
    pair: Pair,
    forward: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    context = Certificates(TlsFiles(*pair)).context("http/1.1")
    newer = authority.sign("newer")
    replace_file(pair.certificate, newer.certificate)
    for _ in range(3):
        forward()
        assert shake(context, trusting(authority))["name"] == "server"
    told = [r.message for r in caplog.records if "not renewed" in r.message]
    assert len(told) == 1
    replace_file(pair.key, newer.key)
    forward()
    assert shake(context, trusting(authority))["name"] == "newer"


def test_tls_follows_the_authority_of_clients_too(
    authority: Authority, pair: Pair, tmp_path: Path, forward: Callable[[], None]
) -> None:
    (tmp_path / "theirs").mkdir()
    others = Authority(tmp_path / "theirs", "others")
    ca = tmp_path / "clients.pem"
    shutil.copy(authority.certificate, ca)
    context = Certificates(TlsFiles(*pair, ca)).context("http/1.1")
    old, new = authority.sign("old"), others.sign("new")
    assert shake(context, trusting(authority, old))["name"] == "server"
    replace_file(ca, others.certificate)
    forward()
    assert shake(context, trusting(authority, new))["name"] == "server"
    with pytest.raises(OSError):
        shake(context, trusting(authority, old))


def test_tls_goes_on_when_its_files_are_gone(
    authority: Authority, pair: Pair, forward: Callable[[], None]
) -> None:
    context = Certificates(TlsFiles(*pair)).context("http/1.1")
    pair.key.unlink()
    forward()
    assert shake(context, trusting(authority))["name"] == "server"
