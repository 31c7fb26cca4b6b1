"""What ``serving convert`` and ``serving inspect`` share: asking about one file, and saying it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serving.errors import ConfigError
from serving.inspection import DEC_MODES, KeySource, Question
from serving.repository.names import foreign

if TYPE_CHECKING:
    from serving.artifact import Artifact

SILENCE_S = 120.0
"""A helper that tells of no progress for so long is ended."""


def key_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that name the key of an encrypted MindIR."""
    for option in reversed((
        click.option("--key-env", metavar="NAME", help="Environment variable with the key of an "
                     "encrypted MindIR."),
        click.option("--key-file", metavar="FILE", type=click.Path(path_type=Path),
                     help="File with the key, in place of --key-env."),
        click.option("--dec-mode", type=click.Choice(DEC_MODES), help="How the file must be "
                     "encrypted; by default it says so itself."),
    )):  # fmt: skip
        command = option(command)
    return command


def key_source(env: str | None, file: Path | None, mode: str | None) -> KeySource | None:
    """Return where the key lies; raises ConfigError for options that do not go together."""
    if env and file:
        raise ConfigError("--key-env and --key-file are both given", where="--key-file")
    if not env and not file:
        if mode:
            raise ConfigError(
                "--dec-mode is given without a key", where="--dec-mode",
                fix="add --key-env or --key-file",
            )  # fmt: skip
        return None
    return KeySource(env or "", str(file.absolute()) if file else "", mode or "")


def existing(path: Path) -> Path:
    """Return the path of a file that is there; raises ConfigError."""
    if not path.is_file():
        told = "is a folder; name the file in it" if path.is_dir() else "is not there"
        raise ConfigError(f"{path} {told}", where="FILE")
    return path


def ask(question: Question, on_progress: Callable[[str], None] | None = None) -> Artifact:
    """Look into a file in a helper process; of what is unknown, its name may tell the way out."""
    import asyncio

    from serving.repository.inspector import Inspector

    async def asked() -> Artifact:
        async with Inspector(timeout_s=SILENCE_S) as inspector:
            return await inspector.inspect(question, on_progress)

    artifact = asyncio.run(asked())
    hint = foreign(question.path.name)
    if hint and artifact.format.value == "unknown":
        return replace(artifact, reason=f"{question.path.name} is {hint}")
    return artifact


def asked_engine(artifact: Artifact) -> Artifact:
    """Return the artifact with what the engine here says of it, where that is in doubt."""
    import asyncio

    from serving.repository.engine_trials import tried

    return asyncio.run(tried([artifact], {}, timeout_s=SILENCE_S))[0]


def side(artifact: Artifact) -> tuple[list[str], list[str]]:
    """Return inputs and outputs, each as ``name TYPE[shape]``."""
    if artifact.signature is None:
        return [], []
    return (
        [f"{spec.name} {spec.text()}" for spec in artifact.signature.inputs],
        [f"{spec.name} {spec.text()}" for spec in artifact.signature.outputs],
    )
