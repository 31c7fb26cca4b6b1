"""TLS for both sides: the server's certificate, renewed as its files change.

Files are looked at when a client connects, at most once a second: whoever renews a certificate
replaces its files, and new connections have the new one. What cannot be used is logged and the
one before stays. The files are read once for each change, so that REST and gRPC, and certificate
and key, cannot be of two states.
"""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.config import ServerSettings
from serving.errors import ConfigError

if TYPE_CHECKING:
    import grpc

_log = logging.getLogger("serving.frontends")

_LOOK_S = 1.0
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_KEY = b"PRIVATE KEY-----"

Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class TlsFiles:
    """PEM files: the server's chain and key, and the authority that must have signed clients'.

    ``client_ca`` None lets in clients that show no certificate.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True)
class _Material:
    """What the files hold."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None


class Certificates:
    """Owns what the files held when they were last good; any thread may ask.

    Raises ConfigError, naming the flag, when they cannot be used from the start.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._looked = time.monotonic()
        self._stamp = _stamp(files)
        self._material = _read(files)
        self._number = 0
        check(self._material)

    def context(self, protocol: str) -> ssl.SSLContext:
        """Return a context that gives each new connection the certificate of the day.

        ``protocol`` is the only one that is agreed to by ALPN: ``http/1.1`` or ``h2``.
        """
        newest = _context(self._material, protocol)
        of = self._number

        def hello(connection: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
            nonlocal newest, of
            material, number = self._current()
            if number != of:
                newest, of = _context(material, protocol), number
            connection.context = newest

        outer = _context(self._material, protocol)
        outer.sni_callback = hello  # it is asked without a name too
        return outer

    def credentials(self) -> grpc.ServerCredentials:
        """Return the same for a gRPC server; its floor is TLS 1.2 as well."""
        import grpc  # not before it is needed: settings are checked ahead of everything else

        told = self._number

        def renewed() -> Any:
            nonlocal told
            material, number = self._current()
            if number == told:
                return None
            told = number
            return _configuration(material)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._material), renewed, self._material.client_ca is not None
        )

    def _current(self) -> tuple[_Material, int]:
        with self._lock:
            now = time.monotonic()
            if now - self._looked >= _LOOK_S:
                self._looked = now
                self._look()
            return self._material, self._number

    def _look(self) -> None:
        stamp = _stamp(self._files)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            material = _read(self._files)
            check(material)
        except ConfigError as error:
            _log.error("the certificate is not renewed: %s; the one before stays", error)
            return
        self._material = material
        self._number += 1
        _log.info("the certificate was renewed from %s", self._files.certificate)


def certificates_of(settings: ServerSettings) -> Certificates | None:
    """Return what the settings name; None for no TLS. Raises ConfigError."""
    certificate, key, client_ca = settings.tls_cert, settings.tls_key, settings.tls_client_ca
    if certificate is not None and key is not None:
        return Certificates(TlsFiles(certificate, key, client_ca))
    for flag, given in (("--tls-cert", certificate), ("--tls-key", key)):
        if given is None and (certificate or key or client_ca):
            raise ConfigError(
                f"TLS needs a certificate and its key, and {flag} is missing",
                code="bad_tls",
                where=flag,
                fix=f"add {flag} FILE, or remove the other --tls-... options",
            )
    return None


def check(material: _Material) -> None:
    """Raise ConfigError, naming the flag, for what no client could connect with."""
    if _CERTIFICATE not in material.certificate:
        raise _unusable("--tls-cert", "it holds no certificate", "a certificate chain in PEM form")
    if _KEY not in material.key:
        raise _unusable("--tls-key", "it holds no private key", "a private key in PEM form")
    if material.client_ca is not None and _CERTIFICATE not in material.client_ca:
        raise _unusable("--tls-client-ca", "it holds no certificate", "certificates in PEM form")
    try:
        _context(material, "http/1.1")
    except _Encrypted:
        raise _unusable(
            "--tls-key", "it is encrypted with a passphrase",
            "a key that can be read as it is, in a file that only the server may read",
        ) from None  # fmt: skip
    except _BadAuthority as error:
        raise _unusable("--tls-client-ca", str(error), "certificates in PEM form") from None
    except (ssl.SSLError, ValueError) as error:
        if getattr(error, "reason", None) in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            raise _unusable(
                "--tls-key", "it is not the key of the certificate in --tls-cert",
                "the key that the certificate was made for",
            ) from None  # fmt: skip
        problem = getattr(error, "reason", None) or str(error)
        raise ConfigError(
            f"--tls-cert and --tls-key cannot be used: {problem}",
            code="bad_tls", where="--tls-cert", expected="a certificate chain and its key, as PEM",
        ) from None  # fmt: skip


class _Encrypted(Exception):
    """The key wants a passphrase, and nobody is there to type it."""


class _BadAuthority(Exception):
    """What should hold certificates of an authority does not."""


def _context(material: _Material, protocol: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols([protocol])
    with _file(material.certificate) as certificate, _file(material.key) as key:
        context.load_cert_chain(certificate, key, _no_passphrase)
    if material.client_ca is not None:
        try:
            context.load_verify_locations(cadata=material.client_ca.decode("ascii", "replace"))
        except ssl.SSLError as error:
            raise _BadAuthority(error.reason or "it cannot be read") from None
        context.verify_mode = ssl.CERT_REQUIRED
        # A resumed session would not be asked for its certificate again.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


def _configuration(material: _Material) -> Any:
    import grpc

    return grpc.ssl_server_certificate_configuration(
        [(material.key, material.certificate)], material.client_ca
    )


def _no_passphrase() -> str:
    raise _Encrypted


@contextlib.contextmanager
def _file(content: bytes) -> Iterator[str]:
    """Lend a path to what was read: OpenSSL takes a chain from a file alone."""
    descriptor = os.memfd_create("tls")
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _read(files: TlsFiles) -> _Material:
    return _Material(
        _content(files.certificate, "--tls-cert"),
        _content(files.key, "--tls-key"),
        None if files.client_ca is None else _content(files.client_ca, "--tls-client-ca"),
    )


def _content(file: Path, flag: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{flag} {file} cannot be read: {os.strerror(error.errno or 0)}",
            code="bad_tls",
            where=flag,
            expected="a file in PEM form that this user may read",
        ) from None


def _stamp(files: TlsFiles) -> Stamp:
    """Return what tells one state of the files from another; of a missing one, zeros."""
    found = []
    for file in (files.certificate, files.key, files.client_ca):
        try:
            status = os.stat(file) if file is not None else None
        except OSError:
            status = None
        found.append(
            (0, 0, 0) if status is None else (status.st_mtime_ns, status.st_size, status.st_ino)
        )
    return tuple(found)


def _unusable(flag: str, problem: str, expected: str) -> ConfigError:
    return ConfigError(
        f"{flag} cannot be used: {problem}", code="bad_tls", where=flag, expected=expected
    )
