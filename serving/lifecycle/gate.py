"""Who may ask, and who may load and unload servables: one rule for all wires."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import os
from pathlib import Path
from typing import NamedTuple

from serving.config import ServerSettings
from serving.errors import ConfigError, ControlOff, Unauthenticated
from serving.v1.bearer import TOKEN_FORM, is_token

EXPLICIT = "explicit"
_LONGEST_TOKEN_BYTES = 4096


class Tokens(NamedTuple):
    """Secrets, which go into no log and no message to clients; None: everybody is admitted."""

    admin: str | None = None
    client: str | None = None

    def __repr__(self) -> str:
        """Say nothing."""
        return "Tokens(...)"


class Gate:
    """Admits to the server and to its control, or says why not.

    Without ``tokens`` everybody who can connect is admitted.
    """

    def __init__(self, model_control: str, tokens: Tokens | None = None) -> None:
        self._model_control = model_control
        self.tokens = tokens or Tokens()

    @property
    def explicit(self) -> bool:
        """Whether servables are loaded and unloaded on request."""
        return self._model_control == EXPLICIT

    def let_in(self, authorization: str | None) -> None:
        """Return if a client with this ``authorization`` may ask; the administrator may.

        The token comes as ``Bearer TOKEN``, or as the password of ``Basic``, which browsers ask
        their users for. Raises Unauthenticated.
        """
        admin, client = self.tokens
        if client is None:
            return
        given = _bearer(authorization) or _password(authorization)
        if _same(given, client) or (admin is not None and _same(given, admin)):
            return
        raise Unauthenticated(
            "this server answers only those who show its token",
            where="authorization",
            expected="Bearer and the token that is in the server's --client-token-file",
            given="something else" if authorization else "nothing",
        )

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
        # Not the password of Basic: browsers send that for pages of others, too.
        if self.tokens.admin is not None and not _same(_bearer(authorization), self.tokens.admin):
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
    tokens = Tokens(
        _read_token("--admin-token-file", settings.admin_token_file),
        _read_token("--client-token-file", settings.client_token_file),
    )
    return Gate(settings.model_control, tokens)


def _bearer(authorization: str | None) -> str:
    scheme, _, given = (authorization or "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def _password(authorization: str | None) -> str:
    """Return the password of HTTP's Basic scheme (RFC 7617)."""
    scheme, _, given = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        pair = base64.b64decode(given.strip(), validate=True)
    except (binascii.Error, ValueError):
        return ""
    return pair.partition(b":")[2].decode("utf-8", "replace")


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())


def _read_token(flag: str, file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        with file.open("rb") as stream:
            data = stream.read(_LONGEST_TOKEN_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{flag} {file} cannot be read: {os.strerror(error.errno or 0)}",
            where=flag,
        ) from None
    token = data.decode("ascii", "replace").strip()
    if not is_token(token) or len(data) > _LONGEST_TOKEN_BYTES:
        raise ConfigError(
            f"{flag} {file} holds no usable token",
            where=flag,
            expected=f"one line of {TOKEN_FORM}",
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
