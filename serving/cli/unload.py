"""``serving unload``: have a running server take a servable down."""

from __future__ import annotations

from pathlib import Path

import click

from serving.cli.options import Seconds
from serving.cli.server_call import Server, quoted, token_option, url_option
from serving.cli.tls import TlsFiles, tls_options

_TIMEOUT_S = 120.0


@click.command(
    "unload",
    short_help="Have a running server take a servable down.",
    context_settings={"max_content_width": 100},
)
@click.argument("servable")
@url_option
@tls_options
@token_option
@click.option(
    "--timeout-s", type=Seconds(min=0, min_open=True), default=_TIMEOUT_S, show_default=True,
    metavar="S", help="How long to wait, in seconds.",
)  # fmt: skip
def unload_command(
    servable: str, url: str, tls_files: TlsFiles, token_file: Path | None, timeout_s: float
) -> None:
    """Take SERVABLE down: its requests are answered, then its memory is given back.

    The server must have been started with --model-control explicit.
    """
    server = Server(url, timeout_s, token_file, tls_files)
    server.post(f"/v2/repository/models/{quoted(servable)}/unload", {})
    click.echo(f"{servable} is unloaded")
