"""``serving predict``: ask a running server one question from the command line."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serving.cli.options import Seconds, option
from serving.cli.server_call import read_token, token_option
from serving.cli.tls import TlsFiles, tls_options
from serving.errors import ConfigError

if TYPE_CHECKING:
    from serving.cli.given import Given
    from serving.client import Client
    from serving.request import Description, VersionName

_URL = "localhost:5500"
_TIMEOUT_S = 60.0

_EPILOG = """
\b
Examples:
  serving predict digits servables/digits/sample.json
  serving predict digits scan.png --pixels 16:0
  serving predict digits --input image=@digit.npy --output json
  serving predict penguins -i island=Biscoe -i sex=male -i bill_length_mm=45.2 \\
    -i bill_depth_mm=15.8 -i flipper_length_mm=215 -i body_mass_g=5300
  serving predict digits batch.npz --output npz > answers.npz
  serving predict tongue --method detect -i text="Where is the station?"
  cat body.json | serving predict digits -

\b
FILE, by its ending:
  .json, - (standard input)   what POST /predict takes: {"instances": [...]} or {"inputs": {...}};
                              or just the list of rows, or just the inputs by name
  .npz                        arrays by the names of the inputs
  .npy                        the array of the only input
  .png .jpg .bmp .webp        a picture for the only input (needs pip install 'serving[image]')
  .txt                        one row for each line, for the only input, of strings

--input takes numbers as JSON, text as it is, and @FILE with any of these endings but .npz. A value
without the batch axis is one row. To an input of any type, as a method may have, a file that is no
JSON, .npy or .txt goes as its bytes, and .txt with --input as its text.

\b
A picture is turned upright as its EXIF says; made grey or RGB as the input has 1 or 3 channels;
resized to the input's height and width (bilinear, proportions not kept; a size that varies keeps
the picture's own); scaled so that black is 0 and white is 1 (255 for UINT8), unless --pixels says
otherwise; and laid out as [N,C,H,W], [N,H,W,C] or [N,H,W], as the input asks. -v tells what was
done.
"""


class Pixels(click.ParamType[tuple[float, float]]):
    """Two numbers, ``BLACK:WHITE``."""

    name = "pixels"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        """Return both numbers."""
        if isinstance(value, tuple):
            return value
        try:
            black, white = map(float, str(value).split(":"))
        except ValueError:
            self.fail(f"{value!r} is not of the form BLACK:WHITE, such as 0:255", param, ctx)
        return black, white


class Version(click.ParamType["VersionName"]):
    """A version's number, or its label."""

    name = "version"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> VersionName:
        """Return a number as a number; whether there is such a label, the server knows."""
        text = str(value)
        if not text.isdecimal():
            return text
        if int(text) < 1:
            self.fail(f"{text} is not in the range x>=1.", param, ctx)
        return int(text)


@click.command(
    "predict",
    epilog=_EPILOG,
    short_help="Ask a running server one question.",
    context_settings={"max_content_width": 100},
)
@click.argument("servable")
@click.argument("file", required=False)
@click.option(
    "-i",
    "--input",
    "pairs",
    multiple=True,
    metavar="NAME=VALUE",
    help="One input; repeat it for each. VALUE is JSON, text, or @FILE.",
)
@option("url", "The server's gRPC address.", default=_URL, metavar="HOST:PORT")
@click.option("--tls", is_flag=True, help="Connect with TLS; implied by the options below.")
@tls_options
@token_option
@click.option(
    "--version",
    type=Version(),
    metavar="N|LABEL",
    help="Version to ask, by number or label; the server's choice if not given.",
)
@click.option(
    "--method",
    metavar="NAME",
    help="Method to ask, of a servable that has several.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "npz"]),
    default="table",
    show_default=True,
    help="Form of the answer; npz goes to a file or pipe.",
)
@click.option(
    "--pixels",
    type=Pixels(),
    metavar="BLACK:WHITE",
    help="Values of black and white in a picture, such as 0:255, or 1:0 for dark on light.",
)
@click.option(
    "--timeout-s",
    type=Seconds(min=0, min_open=True),
    default=_TIMEOUT_S,
    show_default=True,
    metavar="S",
    help="How long the server may take to answer, in seconds.",
)
@click.option("-v", "--verbose", is_flag=True, help="Tell on standard error what is done.")
def predict_command(
    servable: str,
    file: str | None,
    pairs: tuple[str, ...],
    url: str,
    version: VersionName | None,
    method: str | None,
    output: str,
    pixels: tuple[float, float] | None,
    timeout_s: float,
    verbose: bool,
    tls: bool,
    tls_files: TlsFiles,
    token_file: Path | None,
) -> None:
    """Ask SERVABLE of a running server, with the inputs in FILE or given one by one."""
    from serving.cli.given import Reader
    from serving.client import Client, Tls

    if file is not None and pairs:
        raise click.UsageError("give FILE or --input, not both")
    if output == "npz" and sys.stdout.isatty():
        raise click.UsageError("npz is not for a terminal: add > answers.npz")
    trust = Tls(tls_files.ca, tls_files.certificate, tls_files.key) if tls_files.given else tls
    token = read_token(token_file)
    with Client(url, timeout_s=timeout_s, tls=trust, token=token) as client:
        known = client.describe(servable, version, method)
        if verbose:
            click.echo(_signature(known), err=True)
        if file is None and not pairs:
            raise _nothing_given(known)
        reader = Reader(known, pixels)
        given = reader.file(file) if file is not None else reader.pairs(pairs)
        for note in given.notes if verbose else ():
            click.echo(note, err=True)
        started = time.perf_counter()
        text = _ask(client, known, version, method, given, output)
        if verbose:
            click.echo(f"answered in {(time.perf_counter() - started) * 1e3:.1f} ms", err=True)
    click.echo(text, nl=isinstance(text, str))


def _ask(
    client: Client,
    known: Description,
    version: VersionName | None,
    method: str | None,
    given: Given,
    output: str,
) -> str | bytes:
    """Send the request and return the answer in the form that was asked for."""
    from serving.cli import answer

    servable, id = known.servable, given.request_id
    if given.rows is not None:
        rows = client.predict_rows(
            servable, given.rows, version=version, method=method, request_id=id
        )
        if output == "json":
            return answer.to_json({"instances": rows}, known, known.version, id)
        if output == "npz":
            return answer.to_npz(answer.stack(rows))
        return answer.table(rows, known)
    outputs = client.predict(servable, given.inputs, version=version, method=method, request_id=id)
    if output == "json":
        return answer.to_json({"outputs": outputs}, known, outputs.version, id)
    if output == "npz":
        return answer.to_npz(outputs)
    return answer.table(answer.split(outputs, known), known)


def _signature(known: Description) -> str:
    sides = [
        ", ".join(f"{spec.name} {spec.text()}" for spec in side)
        for side in (known.signature.inputs, known.signature.outputs)
    ]
    method = f" method {known.method}" if known.method else ""
    return f"{known.servable} version {known.version}{method}: {' -> '.join(sides)}"


def _nothing_given(known: Description) -> ConfigError:
    example = " ".join(f"--input {spec.name}=..." for spec in known.signature.inputs)
    return ConfigError(
        "there is nothing to send",
        code="bad_input",
        expected=", ".join(f"{s.name} {s.text()}" for s in known.signature.inputs),
        fix=f"give a file, or {example}; --help has examples",
    )
