"""Who may load and unload servables: one rule for all wires."""

from __future__ import annotations

import hmac
import ipaddress
import os
from pathlib import Path

from serving.config import ServerSettings
from serving.errors import ConfigError, ControlOff, Unauthenticated

EXPLICIT = "explicit"
_LONGEST_TOKEN_BYTES = 4096


class Gate:
    """Admits to control, or says why not. Without a token everybody who can connect is admitted.

    ``token`` is a secret: it goes into no log and no message to clients.
    """

    def __init__(self, model_control: str, token: str | None = None) -> None:
        self._model_control = model_control
        self.token = token

    @property
    def explicit(self) -> bool:
        """Whether servables are loaded and unloaded on request."""
        return self._model_control == EXPLICIT

    def admit(self, authorization: str | None) -> None:
        """Return if the bearer of this ``authorization`` may load and unload.

        Raises ControlOff unless the server was started for it, and Unauthenticated.
        """
        if not self.explicit:
            fix = "start the server with --model-control explicit"
            if self._model_control == "poll":
                fix = f"change the files in the model directory, which are watched; or {fix}"
            raise ControlOff(
                f"this server runs with --model-control {self._model_control} and loads and "
                "unloads nothing on request",
                fix=fix,
            )
        if self.token is None:
            return
        scheme, _, given = (authorization or "").partition(" ")
        fits = hmac.compare_digest(given.strip().encode("utf-8", "replace"), self.token.encode())
        if scheme.lower() != "bearer" or not fits:
            raise Unauthenticated(
                "loading and unloading needs the administrator's token",
                where="authorization",
                expected="Bearer and the token that is in the server's --admin-token-file",
                given="something else" if authorization else "nothing",
            )


def check_exposed(settings: ServerSettings) -> None:
    """Raise ConfigError where strangers of the network could load and unload."""
    explicit = settings.model_control == EXPLICIT
    if explicit and settings.admin_token_file is None and not _loopback(settings.host):
        raise ConfigError(
            f"--model-control explicit on {settings.host} would let everybody on that network "
            "load and unload models",
            where="--admin-token-file",
            fix="give --admin-token-file FILE with a secret in it, or listen on --host 127.0.0.1",
        )
    if not explicit and settings.admin_token_file is not None:
        raise _idle("--admin-token-file", settings)
    if not explicit and settings.load_servables:
        raise _idle("--load-servables", settings)


def open_gate(settings: ServerSettings) -> Gate:
    """Return the gate for these settings; raises ConfigError for a token that cannot be read."""
    if settings.admin_token_file is None:
        return Gate(settings.model_control)
    return Gate(settings.model_control, _read_token(settings.admin_token_file))


def _read_token(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            data = stream.read(_LONGEST_TOKEN_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"--admin-token-file {file} cannot be read: {os.strerror(error.errno or 0)}",
            where="--admin-token-file",
        ) from None
    token = data.decode("ascii", "replace").strip()
    plain = token.isascii() and token.isprintable() and " " not in token
    if not token or not plain or len(data) > _LONGEST_TOKEN_BYTES:
        raise ConfigError(
            f"--admin-token-file {file} holds no usable token",
            where="--admin-token-file",
            expected="one line of printable ASCII characters without spaces",
            fix=f"openssl rand -hex 32 > {file}",
        )
    return token


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _idle(flag: str, settings: ServerSettings) -> ConfigError:
    return ConfigError(
        f"{flag} is only used with --model-control explicit",
        where=flag,
        given=f"--model-control {settings.model_control}",
        fix=f"remove {flag}, or add --model-control explicit",
    )
