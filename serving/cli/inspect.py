"""``serving inspect``: what one model file is, and whether and how it would run."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from serving.cli.model_file import ask, asked_engine, existing, key_options, key_source, side
from serving.exit_codes import ExitCode
from serving.inspection import Question

if TYPE_CHECKING:
    from serving.artifact import Artifact

_WIDTH = 100
_LABEL = 11

_EPILOG = f"""
\b
Examples:
  serving inspect net.mindir
  serving inspect secret.mindir --key-env NET_KEY
  serving inspect model.onnx --json

\b
Ends with 0 if this build runs the file, else with {ExitCode.BAD_MODEL.value}.
"""


@click.command(
    "inspect",
    epilog=_EPILOG,
    short_help="Tell what a model file is, and how it would run.",
    context_settings={"max_content_width": 100},
)
@click.argument("file", type=click.Path(path_type=Path))
@key_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for programs.")
@click.pass_context
def inspect_command(
    ctx: click.Context,
    /,
    file: Path,
    key_env: str | None,
    key_file: Path | None,
    dec_mode: str | None,
    as_json: bool,
) -> None:
    """Tell what FILE is, whatever its format: inputs, outputs, operators, and what runs it.

    Looks into the file in a helper process; the model is not run, and nothing is written.
    """
    key = key_source(key_env, key_file, dec_mode)
    artifact = asked_engine(ask(Question(existing(file), key=key)))
    if as_json:
        click.echo(json.dumps(artifact.to_json(), indent=2))
    else:
        click.echo(render(file.name, artifact))
    runs = artifact.runnable and not artifact.refusal
    ctx.exit(int(ExitCode.OK if runs else ExitCode.BAD_MODEL))


def render(name: str, artifact: Artifact) -> str:
    """Return the description for a terminal: a label and its text on each line."""
    from serving.cli.table import size_text

    inputs, outputs = side(artifact)
    total = sum(artifact.operators.values())
    operators = ", ".join(f"{name} {count}" for name, count in artifact.operators.items())
    batched = f"{'yes' if artifact.batch.batched else 'no'}: {artifact.batch.reason}"
    rows = [
        ("format", artifact.format.value),
        ("size", size_text(artifact.size_bytes) if artifact.size_bytes else ""),
        ("made by", artifact.producer),
        ("runs", _runs(artifact)),
        ("holds", artifact.detail),
        *(("input", text) for text in inputs),
        *(("output", text) for text in outputs),
        ("batched", batched if artifact.runnable else ""),
        ("operators", f"{total}: {operators}" if total else ""),
        ("sha256", artifact.digest),
        *(("note", note) for note in artifact.notes),
    ]
    lines = [f"{name}:"]
    for label, text in rows:
        if text:
            lines += textwrap.wrap(
                text, _WIDTH, initial_indent=f"  {label:{_LABEL}}",
                subsequent_indent=" " * (_LABEL + 2), break_on_hyphens=False,
            )  # fmt: skip
    return "\n".join(lines)


def _runs(artifact: Artifact) -> str:
    if not artifact.runnable:
        return f"no: {artifact.reason}"
    if artifact.refusal:
        return f"no: {artifact.refusal}"
    return f"on {artifact.backend}" + (", as ONNX" if artifact.conversion else "")
