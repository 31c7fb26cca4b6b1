"""``serving bench``: measure a running server under load."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from serving.cli.bench_inputs import input_options, requests, require_packages
from serving.cli.live_line import LiveLine
from serving.cli.number_list import Numbers
from serving.cli.options import Seconds
from serving.cli.report import columns, figures_options, write_json
from serving.cli.server_call import Server, quoted, read_token, token_option, url_option
from serving.errors import ConfigError, ServingError, Unavailable

if TYPE_CHECKING:
    from serving.bench.load import Load
    from serving.bench.point import Point
    from serving.request import Description

_GRPC = "localhost:5500"
_TIMEOUT_S = 30.0

_EPILOG = """
\b
Examples:
  serving bench digits
  serving bench digits --concurrency 1,8,64 --protocol v2-binary --plot digits.html
  serving bench digits --rate 100,500,1000,2000 --duration-s 30 --json digits.json
  serving bench encoder --shape ids:1,128 --whole 0:30000 --protocol grpc
  serving bench digits --inputs servables/digits/sample.json

\b
Inputs are, in this order: those of --inputs (what `serving predict` takes: .json, .npz, .npy, a
picture, ...); the example that lies beside the servable; made up from its signature, as they are
whenever --rows, --shape or --whole is given.

\b
--concurrency is a closed loop: so many clients, each of which sends its next request when it has
its answer. --rate is an open loop: requests come as a Poisson process brings them, and latency
counts from when a request should have been sent, so that a stall is seen in all it delayed.

\b
Every answer is held against the first answer to the same request. Ctrl-C shows what was measured
until then, and ends with exit code 130. ROWS/RUN is how many rows the
server ran together, from its own statistics. It works on other V2 servers as well: --url.
"""


@click.command(
    "bench",
    epilog=_EPILOG,
    short_help="Measure a running server under load.",
    context_settings={"max_content_width": 100},
)
@click.argument("servable")
@url_option
@token_option
@click.option(
    "--grpc-url", envvar="SERVING_URL", default=_GRPC, show_default=True, metavar="HOST:PORT",
    help="The server's gRPC address, for --protocol grpc.",
)  # fmt: skip
@click.option(
    "--concurrency", type=Numbers(whole=True), metavar="N,N,...",
    help="Clients of a closed loop, one run for each number.  [default: 1,8,64]",
)  # fmt: skip
@click.option(
    "--rate", type=Numbers(whole=False), metavar="R,R,...",
    help="Requests a second of an open loop, one run for each number.",
)  # fmt: skip
@click.option(
    "--duration-s", type=Seconds(min=0, min_open=True), default=10.0, show_default=True,
    metavar="S", help="Length of each run, in seconds.",
)  # fmt: skip
@click.option(
    "--warm-up-s", type=Seconds(min=0), default=1.0, show_default=True, metavar="S",
    help="Load before each run that does not count.",
)  # fmt: skip
@input_options
@click.option("--no-check", is_flag=True, help="Do not compare answers.")
@figures_options("Draw latency over throughput: .png, .svg, or .html with the table.")
@click.pass_context
def bench_command(
    ctx: click.Context,
    servable: str,
    url: str,
    token_file: Path | None,
    grpc_url: str,
    protocol: str,
    concurrency: tuple[int, ...] | None,
    rate: tuple[float, ...] | None,
    duration_s: float,
    warm_up_s: float,
    inputs: str | None,
    rows: int,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    whole: tuple[int, int],
    no_check: bool,
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    """Send load to SERVABLE of a running server; print throughput, latencies and batch sizes."""
    packages = {"hdrh": "hdrhistogram", **({"matplotlib": "matplotlib"} if plot_file else {})}
    require_packages("bench", packages)
    from serving.bench import plot
    from serving.bench.payload import payload
    from serving.bench.point import HEADER, notes, row, to_json
    from serving.bench.sweep import Plan, measure

    if plot_file is not None:
        plot.check_name(plot_file)
    host, port = _address(url, "--url", 80)
    if protocol == "grpc":
        host, port = _address(grpc_url, "--grpc-url", 0)
    server = Server(url, _TIMEOUT_S, token_file)
    known = _look(server, servable)
    tensors, source = requests(known, inputs, rows, dict(shapes), whole)
    payloads = [payload(protocol, known, each) for each in tensors]
    base = f"/v2/models/{quoted(servable)}"
    line = LiveLine()
    plan = Plan(
        servable=servable,
        protocol=protocol,
        host=host,
        port=port,
        token=read_token(token_file),
        payloads=payloads,
        loads=_loads(concurrency, rate),
        warm_up_s=warm_up_s,
        seconds=duration_s,
        checked=not no_check,
        statistics=lambda: server.get(f"{base}/stats"),
        tell=line.tell,
    )
    points: list[Point] = []
    interrupted = False
    try:
        measure(plan, points)
    except KeyboardInterrupt:
        interrupted = True
    line.clear()
    if interrupted:
        done = "nothing was measured" if not points else "this was measured"
        click.echo(f"Stopped after {len(points)} of {len(plan.loads)} loads: {done}.", err=True)
    if interrupted and not points:
        ctx.exit(128 + signal.SIGINT)
    about = {
        "servable": servable,
        "version": known.version,
        "protocol": protocol,
        "inputs": source,
        "rows_per_request": payloads[0].rows,
        "seconds": duration_s,
    }
    if json_file is None or str(json_file) != "-":
        click.echo(f"{servable} version {known.version} over {protocol}, inputs: {source}")
        for text in columns([list(HEADER), *map(row, points)]):
            click.echo(text)
        for note in notes(points):
            click.echo(f"note: {note}")
    if json_file is not None:
        write_json(json_file, to_json(points, about))
    if plot_file is not None:
        plot.write(plot_file, points, about)
    if interrupted:
        ctx.exit(128 + signal.SIGINT)
    if not any(p.answers for p in points):
        raise Unavailable("no request was answered rightly", code="refused")


def _look(server: Server, servable: str) -> Description:
    from serving.bench.target import described

    base = f"/v2/models/{quoted(servable)}"
    metadata = server.get(base)
    try:
        config = server.get(f"{base}/config")
    except ServingError:
        config = {}  # not every V2 server has this part
    return described(servable, metadata, config)


def _loads(concurrency: tuple[int, ...] | None, rate: tuple[float, ...] | None) -> list[Load]:
    from serving.bench.load import Load

    clients = concurrency or (() if rate else (1, 8, 64))
    return [*(Load(clients=n) for n in clients), *(Load(rate=r) for r in rate or ())]


def _address(url: str, option: str, default: int) -> tuple[str, int]:
    parts = urlsplit(url if "//" in url else f"//{url}")
    if parts.scheme == "https":
        raise ConfigError(
            "serving bench does not speak TLS",
            where=option,
            fix="measure a server that is started without --tls-cert",
        )
    try:
        port = parts.port or default
    except ValueError:
        port = 0
    if not parts.hostname or not port:
        raise ConfigError(
            f"{url} is no address",
            where=option,
            expected="such as localhost:1500" if default else f"such as {_GRPC}",
        )
    return parts.hostname, port
