"""``serving status``: what a running server serves, and why something is not served."""

from __future__ import annotations

import json
import shutil
import textwrap
from pathlib import Path
from typing import Any

import click

from serving.cli.options import Seconds
from serving.cli.server_call import Server, token_option, url_option
from serving.cli.tls import TlsFiles, tls_options
from serving.repository.names import printable

_TIMEOUT_S = 10.0
_HEADER = ("SERVABLE", "VERSION", "STATE")
_WIDTHS = (60, 100)


@click.command(
    "status",
    short_help="Show what a running server serves, and why something is not served.",
    context_settings={"max_content_width": 100},
)
@url_option
@tls_options
@token_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for programs.")
@click.option(
    "--timeout-s", type=Seconds(min=0, min_open=True), default=_TIMEOUT_S, show_default=True,
    metavar="S", help="How long the server may take to answer, in seconds.",
)  # fmt: skip
def status_command(
    url: str, tls_files: TlsFiles, token_file: Path | None, as_json: bool, timeout_s: float
) -> None:
    """Show the servables of a running server with their versions, states and reasons."""
    server = Server(url, timeout_s, token_file, tls_files)
    health = server.get("/v2/health/ready", 503)
    rows = server.post("/v2/repository/index", {})
    if as_json:
        click.echo(json.dumps({"ready": health["ready"], "versions": rows}, indent=2))
        return
    columns = shutil.get_terminal_size((_WIDTHS[1], 24)).columns
    click.echo(render(health["ready"], rows, max(_WIDTHS[0], min(_WIDTHS[1], columns))))


def render(ready: bool, rows: list[dict[str, Any]], width: int) -> str:
    """Return the table: one line a version, its reason wrapped beneath."""
    serving = sum(row["state"] == "READY" for row in rows)
    says = "is ready" if ready else "is not ready"
    lines = [f"the server {says}; {serving} of {len(rows)} versions serve"]
    if not rows:
        return lines[0]
    cells = [(printable(row["name"]), row["version"] or "-", row["state"]) for row in rows]
    sizes = [max(len(line[i]) for line in (_HEADER, *cells)) for i in range(len(_HEADER))]
    lines += ["", _line(_HEADER, sizes)]
    for row, line in zip(rows, cells, strict=True):
        labels = ", ".join(map(printable, row.get("labels", ())))
        on = ", ".join(map(printable, row.get("workers", ())))
        told = (f"  ({labels})" if labels else "") + (f"  on {on}" if on else "")
        lines.append(_line(line, sizes) + told)
        reason = printable(" ".join(row["reason"].split()))
        lines += textwrap.wrap(
            reason, width, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False
        )
    return "\n".join(lines)


def _line(cells: tuple[str, ...], sizes: list[int]) -> str:
    return "  ".join(cell.ljust(size) for cell, size in zip(cells, sizes, strict=True)).rstrip()
