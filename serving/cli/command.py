"""The root of the command line: help that teaches, version, and errors turned into exit codes.

Everything heavy is imported inside the commands, so that ``--help`` answers at once; a command is
imported when it is the one that was asked for, so that ``start`` need not wait for the others.
"""

from __future__ import annotations

import importlib
import signal
from collections.abc import Iterator, Mapping
from typing import Any

import click

from serving import __version__
from serving.errors import ServingError
from serving.exit_codes import ExitCode, exit_code_for

_EPILOG = """
\b
Examples:
  serving start --model-dir servables
  serving list --model-dir servables -v
  serving devices
  serving predict digits servables/digits/sample.json
  serving inspect net.mindir
  serving convert net.mindir -o net.onnx
  serving bench digits --concurrency 1,8,64
  serving tune --model-dir servables digits --latency-ms 20
  serving status

\b
The model directory:
  servables/digits/1/model.onnx   version 1 of servable "digits"
  servables/digits/servable.toml  its settings (optional)
  servables/resnet.mindir         a bare file: servable "resnet", version 1

\b
Models come from:
  PyTorch       torch.onnx.export(net, (x,), "net.onnx", dynamo=True)
  MindSpore     mindspore.export(net, x, file_name="net", file_format="MINDIR")
  scikit-learn  skl2onnx.to_onnx(net, x[:1]); Keras, TensorFlow: tf2onnx

\b
Exit codes:
""" + "\n".join(f"  {code.value}  {code.meaning}" for code in ExitCode)


_COMMANDS = {
    "start": "serving.cli.start:start_command",
    "list": "serving.cli.catalogue:list_command",
    "devices": "serving.cli.devices:devices_command",
    "predict": "serving.cli.predict:predict_command",
    "bench": "serving.cli.bench:bench_command",
    "tune": "serving.cli.tune:tune_command",
    "status": "serving.cli.status:status_command",
    "load": "serving.cli.load:load_command",
    "unload": "serving.cli.unload:unload_command",
    "inspect": "serving.cli.inspect:inspect_command",
    "convert": "serving.cli.convert:convert_command",
}
"""Where each is, as ``module:attribute``."""


class _Commands(Mapping[str, click.Command]):
    """The commands by name, each imported when it is looked up."""

    def __getitem__(self, name: str) -> click.Command:
        module, _, attribute = _COMMANDS[name].partition(":")
        found: click.Command = getattr(importlib.import_module(module), attribute)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(_COMMANDS)

    def __len__(self) -> int:
        return len(_COMMANDS)


class _Root(click.Group):
    """A group whose commands may raise a ServingError, or be interrupted by Ctrl-C."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ServingError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(int(exit_code_for(error)))
        except KeyboardInterrupt:  # else click ends with 1, which is a fault of the server
            click.echo("\nStopped.", err=True)
            ctx.exit(128 + signal.SIGINT)


@click.group(
    cls=_Root,
    commands=_Commands(),
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="serving")
def main() -> None:
    """Serve trained models (ONNX, MindIR) from a folder, over gRPC and REST."""
