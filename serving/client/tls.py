"""TLS on the client's side: whom to trust, and which certificate to show."""

from __future__ import annotations

import os
from dataclasses import dataclass

import grpc

from serving.errors import ConfigError

Path = str | os.PathLike[str]


@dataclass(frozen=True)
class Tls:
    """PEM files. ``ca`` signed the server's certificate; None: the authorities gRPC comes with.

    ``certificate`` and ``key`` are for a server that asks clients for one (--tls-client-ca).
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Return what gRPC connects with. Raises ConfigError for a file that cannot be used."""
        if (self.certificate is None) != (self.key is None):
            raise ConfigError(
                "a client's certificate and its key go together",
                code="bad_tls",
                where="tls",
                expected="both of certificate and key, or neither",
            )
        return grpc.ssl_channel_credentials(
            _read(self.ca, b"CERTIFICATE-----"),
            _read(self.key, b"PRIVATE KEY-----"),
            _read(self.certificate, b"CERTIFICATE-----"),
        )


def credentials(
    tls: bool | Tls, given: grpc.ChannelCredentials | None
) -> grpc.ChannelCredentials | None:
    """Return what a client's arguments come to; None: no TLS. Raises ConfigError."""
    if tls is False:
        return given
    if given is not None:
        raise ConfigError("tls and credentials are both given", where="tls", fix="keep one of them")
    return (Tls() if tls is True else tls).credentials()


def _read(file: Path | None, mark: bytes) -> bytes | None:
    """Return a file's content; gRPC itself says nothing about what is wrong with it."""
    if file is None:
        return None
    try:
        with open(file, "rb") as stream:
            content = stream.read()
    except OSError as error:
        problem = os.strerror(error.errno or 0)
    else:
        if mark in content:
            return content
        problem = f"it holds no {mark.decode().rstrip('-').lower()} in PEM form"
    raise ConfigError(
        f"{os.fspath(file)} cannot be used for TLS: {problem}", code="bad_tls", where="tls"
    )
