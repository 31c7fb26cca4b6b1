"""Calls of the commands to a running server's REST side: JSON out, JSON back, errors that help."""

from __future__ import annotations

import http
import http.client
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import click

from serving.cli.options import Folder, option
from serving.cli.tls import TlsFiles
from serving.errors import ConfigError, InvalidRequest, ServingError, Unavailable
from serving.v1.bearer import TOKEN_FORM, bearer, is_token

URL = "http://localhost:1500"
_LONG_BYTES = 1 << 20
"""Shorter requests fit every --max-request-mb."""

token_option = option(
    "token-file",
    "File with the token that the server asks for: see its --client-token-file, and for loading "
    "and unloading its --admin-token-file.",
    type=Folder(),
    metavar="FILE",
)

url_option = click.option(
    "--url",
    envvar="SERVING_REST_URL",
    show_envvar=True,
    default=URL,
    show_default=True,
    metavar="URL",
    help="The server's REST address.",
)


class Server:
    """A server at an address; ``token_file`` holds what it asks for, ``tls`` whom to trust."""

    def __init__(
        self,
        url: str,
        timeout_s: float,
        token_file: Path | None = None,
        tls: TlsFiles | None = None,
    ) -> None:
        self._base = _base(url)
        self._handlers = _handlers(self._base, tls or TlsFiles())
        self._timeout_s = timeout_s
        self._token = read_token(token_file)

    def get(self, path: str, *answers: int) -> Any:
        """Return the JSON answer; ``answers`` are statuses besides 200 that are one."""
        return self._call("GET", path, None, answers)

    def post(self, path: str, body: Any) -> Any:
        """Return the JSON answer. Raises a ServingError with what the server says."""
        return self._call("POST", path, json.dumps(body).encode(), ())

    def _call(self, method: str, path: str, body: bytes | None, answers: tuple[int, ...]) -> Any:
        headers = {"content-type": "application/json"}
        if self._token is not None:
            headers["authorization"] = bearer(self._token)
        request = urllib.request.Request(self._base + path, body, headers, method=method)
        opener = urllib.request.build_opener(*self._handlers)
        try:
            with opener.open(request, timeout=self._timeout_s) as answer:
                return _parsed(answer.read(), self._base)
        except urllib.error.HTTPError as error:
            with error:
                told = _parsed(error.read(), self._base)
                if error.code in answers:
                    return told
            raise _refused(error.code, told) from None
        except TimeoutError:
            raise _no_answer(self._base, self._timeout_s) from None
        except http.client.HTTPException as error:
            shut = isinstance(error, http.client.RemoteDisconnected)
            if shut and self._base.startswith("https:"):
                raise _shut(self._base) from None
            raise _other_server(self._base) from None
        except (urllib.error.URLError, OSError) as error:
            if isinstance(getattr(error, "reason", None), TimeoutError):
                raise _no_answer(self._base, self._timeout_s) from None
            raise _no_server(self._base, error, body) from None


def quoted(name: str) -> str:
    """Return a servable's name as a part of a path."""
    return urllib.parse.quote(name, safe="")


def _base(url: str) -> str:
    given = url if "//" in url else f"http://{url}"
    parts = urllib.parse.urlsplit(given)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"--url {url} is no address of a server", where="--url", expected=f"such as {URL}"
        )
    return given.rstrip("/")


def _handlers(base: str, tls: TlsFiles) -> list[urllib.request.BaseHandler]:
    # No proxy: what is controlled is a server of one's own.
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if base.startswith("https:"):
        handlers.append(urllib.request.HTTPSHandler(context=tls.context()))
    elif tls.given:
        raise ConfigError(
            f"--url {base} is without TLS, and --tls-... options are given",
            where="--url",
            fix=f"--url https{base.removeprefix('http')}",
        )
    return handlers


def read_token(file: Path | None) -> str | None:
    """Return the token in a file. Raises ConfigError naming the option."""
    if file is None:
        return None
    try:
        token = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        problem = getattr(error, "strerror", None) or "it is not text"
        raise ConfigError(
            f"--token-file {file} cannot be read: {problem}", where="--token-file"
        ) from None
    if not is_token(token):
        raise ConfigError(
            f"--token-file {file} holds no usable token",
            where="--token-file",
            expected=f"one line of {TOKEN_FORM}",
            fix="it holds what is in the server's --client-token-file or --admin-token-file",
        )
    return token


def _parsed(data: bytes, base: str) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        raise _other_server(base) from None


def _refused(status: int, told: Any) -> ServingError:
    text = str(told.get("error") or told.get("detail")) if isinstance(told, dict) else str(told)
    kind = Unavailable if status in (429, 503) else InvalidRequest
    unknown = status == http.HTTPStatus.UNAUTHORIZED
    fix = "--token-file names the file with its token" if unknown else ""
    return kind(text, code="refused", fix=fix)


def _other_server(base: str) -> ServingError:
    return Unavailable(
        f"what listens at {base} is not the REST side of this server",
        code="other_server",
        fix="give its REST address with --url"
        + (", as https://HOST:PORT where it has TLS" if base.startswith("http:") else ""),
    )


def _no_answer(base: str, timeout_s: float) -> ServingError:
    return Unavailable(
        f"the server at {base} did not answer within {timeout_s:g} s",
        code="no_answer",
        fix="it goes on with what was asked: see `serving status`; or raise --timeout-s",
    )


def _no_server(base: str, error: Exception, body: bytes | None) -> ServingError:
    problem = getattr(error, "reason", None) or error
    gone = isinstance(problem, (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError))
    if gone and base.startswith("https:") and len(body or b"") < _LONG_BYTES:
        return _shut(base)  # how that end looks depends on which side is quicker
    if isinstance(problem, ssl.SSLError):
        return _no_trust(base, problem)
    if gone:
        return Unavailable(
            f"the server at {base} ended the connection before all was sent",
            code="connection_lost",
            fix="it may be more than the server's --max-request-mb; files grow by a third",
        )
    told = getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
    return Unavailable(
        f"no server answers at {base}: {told}",
        code="no_server",
        fix="start one with `serving start`, or give its REST address with --url",
    )


def _no_trust(base: str, problem: ssl.SSLError) -> ServingError:
    told = getattr(problem, "verify_message", None) or problem.reason or str(problem)
    fix = "--tls-ca names the file of the authority that signed the server's certificate"
    if problem.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        fix = f"the server may be without TLS: --url http{base.removeprefix('https')}"
    elif "ALERT" in (problem.reason or ""):
        fix = "it may ask for a certificate: --tls-client-cert and --tls-client-key"
    return Unavailable(f"no TLS connection to {base} came about: {told}", code="no_trust", fix=fix)


def _shut(base: str) -> ServingError:
    """Return the error for the end that TLS 1.3 puts to clients whose certificate is wanted."""
    return Unavailable(
        f"the server at {base} ended the connection at once",
        code="no_trust",
        fix="it may ask for a certificate: --tls-client-cert and --tls-client-key",
    )
