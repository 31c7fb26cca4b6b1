"""``serving convert``: MindIR becomes ONNX, held against known answers if given; or an OM file."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serving.cli.convert_om import SUFFIX, OmOrder, convert_to_om, parse_sizes
from serving.cli.model_file import ask, existing, key_options, key_source, side
from serving.errors import ConfigError, LoadError
from serving.exit_codes import ExitCode
from serving.inspection import Question

if TYPE_CHECKING:
    from serving.artifact import Artifact

_COMPARE = "serving.worker.compare"

_EPILOG = f"""
\b
Examples:
  serving convert net.mindir -o net.onnx
  serving convert net_graph.mindir -o net.onnx
  NET_KEY=0123456789ABCDEF serving convert secret.mindir -o net.onnx --key-env NET_KEY
  serving convert net.mindir -o net.onnx --verify inputs.npz outputs.npz
  serving convert net.onnx -o net.om --soc Ascend310P3 --batch-sizes 1,4,16
  serving convert net.air -o net.om --option input_shape=x:1,3,224,224

\b
The two files for --verify, written where MindSpore is:
  numpy.savez("inputs.npz", x=x)
  numpy.savez("outputs.npz", net(mindspore.Tensor(x)).asnumpy())

\b
Weights of more than 64 MiB in all go to a second file, NAME.onnx.data, which belongs beside it.
For an output called NAME.om, the CANN toolkit's atc compiles ONNX, MindIR or AIR for an Ascend
chip; no device is needed if --soc names it. docs/ascend.md lists the names for --option.
Ends with {ExitCode.BAD_MODEL.value} if the file cannot be converted, with \
{ExitCode.DIFFERS.value} if --verify finds a difference.
"""


@click.command(
    "convert",
    epilog=_EPILOG,
    short_help="Convert MindIR to ONNX without MindSpore, or a model to OM by CANN's atc.",
    context_settings={"max_content_width": 100},
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="OUTPUT",
    help="The file to write: NAME.onnx, or NAME.om for an Ascend chip.",
)  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Write over a file that is there.")
@key_options
@click.option(
    "--verify", nargs=2, type=click.Path(path_type=Path), metavar="INPUTS OUTPUTS",
    help="Run the ONNX file on these inputs and compare with these outputs (.npz, by name or in "
    "order).",
)  # fmt: skip
@click.option(
    "--tolerance", type=click.FloatRange(min=0), metavar="R",
    help="Largest difference allowed, as a part of the output's largest number; by default 1e-4 "
    "for FP32, 1e-2 for FP16, 0 for integers.",
)  # fmt: skip
@click.option(
    "--soc",
    metavar="CHIP",
    help="The chip that an OM file is for, such as Ascend310P3; by default that of this machine.",
)
@click.option(
    "--batch-sizes",
    metavar="N,...",
    help="The numbers of rows that an OM file takes at "
    "once; by default the powers of two up to the usual largest batch.",
)
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    help="One of [options.ascend] in servable.toml; may be repeated.",
)
@click.pass_context
def convert_command(
    ctx: click.Context,
    /,
    file: Path,
    output: Path,
    force: bool,
    key_env: str | None,
    key_file: Path | None,
    dec_mode: str | None,
    verify: tuple[Path, Path] | None,
    tolerance: float | None,
    soc: str | None,
    batch_sizes: str | None,
    options: tuple[str, ...],
) -> None:
    """Convert the MindIR file FILE to ONNX, or a model FILE to OM for an Ascend chip.

    serving start does the same by itself; this command is for other uses of the result. For ONNX
    MindSpore is not needed, and a batch that was fixed when the network was exported is freed where
    rows are proved independent.
    """
    key = key_source(key_env, key_file, dec_mode)
    _check_output(output, force)
    order = OmOrder(soc or "", parse_sizes(batch_sizes), options)
    _check_kind(output, order, of_onnx=(key, verify, tolerance))
    if output.suffix == SUFFIX:
        try:
            click.echo(convert_to_om(existing(file), output, order, _progress))
        except LoadError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(int(ExitCode.BAD_MODEL))
        return
    for given in verify or ():
        existing(given)
    question = Question(existing(file), key=key, output=str(output.absolute()))
    artifact = ask(question, _progress)
    if artifact.format.value not in ("mindir", "mindir-encrypted"):
        way = "it runs as it is" if artifact.runnable else artifact.reason
        raise ConfigError(
            f"{file} is no MindIR file", where="FILE", given=artifact.format.value, fix=way
        )
    if not artifact.runnable:
        click.echo(f"Error: {artifact.reason}", err=True)
        ctx.exit(int(ExitCode.BAD_MODEL))
    click.echo(report(file, output, artifact))
    if verify is not None:
        found = _compare(artifact.backend, output, verify, tolerance)
        click.echo(verdict(found))
        if not all(one["agrees"] for one in found):
            ctx.exit(int(ExitCode.DIFFERS))


def report(file: Path, output: Path, artifact: Artifact) -> str:
    """Return what was made of the file, for people."""
    from serving.cli.table import size_text

    assert artifact.conversion is not None
    inputs, outputs = side(artifact)
    batched = "batched" if artifact.batch.batched else "not batched"
    written = [output, output.with_name(output.name + ".data")]
    sizes = [f"{p.name}, {size_text(p.stat().st_size)}" for p in written if p.is_file()]
    return "\n".join([
        f"{file.name}: {artifact.producer}, {size_text(artifact.size_bytes)}, {artifact.detail}",
        f"wrote {'; '.join(sizes)}; converted in {artifact.conversion.took_s:.2f} s",
        f"{', '.join(inputs)} -> {', '.join(outputs)}",
        f"{batched}: {artifact.batch.reason}",
        *(f"note: {note}" for note in artifact.notes),
    ])  # fmt: skip


def verdict(found: list[dict[str, Any]]) -> str:
    """Return one line for each output that was compared, for people."""
    lines = []
    for one in found:
        head = f"{'agrees ' if one['agrees'] else 'DIFFERS'} {one['name']}{one['shape']}: "
        if "problem" in one:
            lines.append(head + one["problem"])
            continue
        error = "not finite" if one["error"] is None else f"{one['error']:.3g}"
        lines.append(
            f"{head}largest difference {error}, allowed {one['allowed']:.3g} "
            f"(largest number {one['largest']:.3g})"
        )
    return "\n".join(lines)


def _progress(text: str) -> None:
    click.echo(text if text.endswith(".") else f"{text} ...", err=True)


def _check_kind(output: Path, order: OmOrder, *, of_onnx: tuple[object, ...]) -> None:
    """Refuse options that mean nothing for the kind of file that is to be written."""
    if output.suffix == SUFFIX and any(given is not None for given in of_onnx):
        raise ConfigError(
            "keys, --verify and --tolerance are for ONNX files", where="--output",
            fix="convert to ONNX first, and that to OM",
        )  # fmt: skip
    if output.suffix != SUFFIX and order != OmOrder():
        raise ConfigError(
            "--soc, --batch-sizes and --option are for OM files", where="--output",
            fix=f"call the output {output.stem}{SUFFIX}",
        )  # fmt: skip


def _check_output(output: Path, force: bool) -> None:
    if output.is_dir() or not output.absolute().parent.is_dir():
        told = "is a folder" if output.is_dir() else "is in a folder that is not there"
        raise ConfigError(f"{output} {told}", where="--output")
    if output.exists() and not force:
        raise ConfigError(
            f"{output} is there already", where="--output", fix="add --force, or choose another"
        )


def _compare(
    backend: str, model: Path, files: tuple[Path, Path], tolerance: float | None
) -> list[dict[str, Any]]:
    """Run the model in a process of its own; raises LoadError when it cannot be compared."""
    import subprocess

    command = [sys.executable, "-P", "-m", _COMPARE, backend]
    command += [str(path.absolute()) for path in (model, *files)]
    command += [] if tolerance is None else [str(tolerance)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    if done.returncode:
        last = done.stderr.strip().rsplit("\n", 1)[-1]
        raise LoadError(f"the converted model could not be run: {last}", code="load_failed")
    told = json.loads(done.stdout)
    if "problem" in told:
        raise ConfigError(f"--verify cannot compare: {told['problem']}", where="--verify")
    outputs: list[dict[str, Any]] = told["outputs"]
    return outputs
