"""The root of the command line: help that teaches, version, and errors turned into exit codes.

Everything heavy is imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

from typing import Any

import click

from serving import __version__
from serving.cli.bench import bench_command
from serving.cli.catalogue import list_command
from serving.cli.convert import convert_command
from serving.cli.inspect import inspect_command
from serving.cli.load import load_command
from serving.cli.predict import predict_command
from serving.cli.start import start_command
from serving.cli.status import status_command
from serving.cli.unload import unload_command
from serving.errors import ServingError
from serving.exit_codes import ExitCode, exit_code_for

_EPILOG = """
\b
Examples:
  serving start --model-dir servables
  serving list --model-dir servables -v
  serving predict digits servables/digits/sample.json
  serving inspect net.mindir
  serving convert net.mindir -o net.onnx
  serving bench digits --concurrency 1,8,64
  serving status

\b
The model directory:
  servables/digits/1/model.onnx   version 1 of servable "digits"
  servables/digits/servable.toml  its settings (optional)
  servables/resnet.mindir         a bare file: servable "resnet", version 1

\b
Exit codes:
""" + "\n".join(f"  {code.value}  {code.meaning}" for code in ExitCode)


class _Root(click.Group):
    """A group whose commands may raise a ServingError."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ServingError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(int(exit_code_for(error)))


@click.group(
    cls=_Root,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="serving")
def main() -> None:
    """Serve trained models (ONNX, MindIR) from a folder, over gRPC and REST."""


main.add_command(start_command)
main.add_command(list_command)
main.add_command(predict_command)
main.add_command(bench_command)
main.add_command(status_command)
main.add_command(load_command)
main.add_command(unload_command)
main.add_command(inspect_command)
main.add_command(convert_command)
