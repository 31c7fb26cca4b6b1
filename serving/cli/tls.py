"""The options of the commands that call a server with TLS, and what they come to."""

from __future__ import annotations

import functools
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.cli.options import Folder, option
from serving.errors import ConfigError


@dataclass(frozen=True)
class TlsFiles:
    """PEM files: who signed the server's certificate, and the certificate to show to it."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def given(self) -> bool:
        """Whether any was."""
        return bool(self.ca or self.certificate or self.key)

    def context(self) -> ssl.SSLContext:
        """Return the context to connect with. Raises ConfigError naming the option."""
        _check_pair(self)
        try:
            context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
        except OSError as error:
            raise _unusable("--tls-ca", self.ca, error) from None
        # From 3.13 on Python asks for key identifiers, which plain `openssl x509` leaves out and
        # gRPC, that is `serving predict`, does without.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self.certificate is not None and self.key is not None:
            try:
                context.load_cert_chain(self.certificate, self.key, lambda: "")
            except OSError as error:
                raise _unusable("--tls-client-cert", self.certificate, error) from None
        return context


def tls_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options; it gets them as one argument, ``tls_files``."""

    @functools.wraps(command)
    def with_files(
        *args: Any,
        tls_ca: Path | None,
        tls_client_cert: Path | None,
        tls_client_key: Path | None,
        **more: Any,
    ) -> Any:
        return command(*args, tls_files=TlsFiles(tls_ca, tls_client_cert, tls_client_key), **more)

    for name, text in reversed(_OPTIONS):
        with_files = option(name, text, type=Folder(), metavar="FILE")(with_files)
    return with_files


_OPTIONS = (
    ("tls-ca", "Connect with TLS and trust the authority in this file (PEM)."),
    ("tls-client-cert", "Certificate to show to a server that asks for one (PEM)."),
    ("tls-client-key", "The private key of --tls-client-cert (PEM)."),
)


def _check_pair(files: TlsFiles) -> None:
    if (files.certificate is None) != (files.key is None):
        missing = "--tls-client-key" if files.key is None else "--tls-client-cert"
        raise ConfigError(
            f"a client's certificate and its key go together, and {missing} is missing",
            code="bad_tls",
            where=missing,
        )


def _unusable(flag: str, file: Path | None, error: OSError) -> ConfigError:
    if isinstance(error, ssl.SSLError):
        problem = error.reason or "it is not PEM"
    else:
        problem = os.strerror(error.errno or 0)
    return ConfigError(f"{flag} {file} cannot be used: {problem}", code="bad_tls", where=flag)
