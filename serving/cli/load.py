"""``serving load``: have a running server load a servable, or load it anew."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import click

from serving.cli.options import Seconds
from serving.cli.server_call import Server, quoted, token_option, url_option
from serving.cli.tls import TlsFiles, tls_options
from serving.errors import ConfigError

_TIMEOUT_S = 600.0

_EPILOG = """
\b
Examples:
  serving load digits
  serving load digits --file 3/model.onnx=new.onnx

The server must have been started with --model-control explicit. The command returns once the
servable answers requests; until then what was loaded before does.
"""


@click.command(
    "load",
    epilog=_EPILOG,
    short_help="Have a running server load a servable.",
    context_settings={"max_content_width": 100},
)
@click.argument("servable")
@click.option(
    "--file",
    "files",
    multiple=True,
    metavar="VERSION/NAME=PATH",
    help="Serve this file in place of the folder's; repeat it for each. The server keeps a copy.",
)
@url_option
@tls_options
@token_option
@click.option(
    "--timeout-s", type=Seconds(min=0, min_open=True), default=_TIMEOUT_S, show_default=True,
    metavar="S", help="How long the load may take, in seconds.",
)  # fmt: skip
def load_command(
    servable: str,
    files: tuple[str, ...],
    url: str,
    tls_files: TlsFiles,
    token_file: Path | None,
    timeout_s: float,
) -> None:
    """Load SERVABLE of a running server's model directory, or load it anew if it has changed."""
    parameters: dict[str, Any] = dict(map(_parameter, files))
    server = Server(url, timeout_s, token_file, tls_files)
    server.post(f"/v2/repository/models/{quoted(servable)}/load", {"parameters": parameters})
    click.echo(f"{servable} is loaded")


def _parameter(text: str) -> tuple[str, str]:
    place, equals, path = text.partition("=")
    if not equals:
        raise ConfigError(
            f"--file {text} is not understood", where="--file", expected="VERSION/NAME=PATH"
        )
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"--file {path} cannot be read: {error.strerror}", where="--file"
        ) from None
    return f"file:{place}", base64.b64encode(content).decode()
