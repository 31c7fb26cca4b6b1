"""Forms in which measurements are told: a table of figures, a JSON file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from serving.errors import ConfigError


class _Place(click.Path):
    """A file that can be written: that is seen before the measuring, not after it."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False, writable=True, allow_dash=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path."""
        file = Path(os.fsdecode(super().convert(value, param, ctx)))
        if str(file) != "-" and not os.access(file.parent, os.W_OK | os.X_OK):
            self.fail(f"{file} cannot be written: no folder {file.parent} to write to", param, ctx)
        return file


_FILE = _Place()


def figures_options(drawn: str) -> Callable[[Any], Any]:
    """Give a command --json and --plot; ``drawn`` is the help of --plot."""
    json_option = click.option(
        "--json", "json_file", type=_FILE, metavar="FILE",
        help="Write all figures to a file; - is standard output.",
    )  # fmt: skip
    plot_option = click.option("--plot", "plot_file", type=_FILE, metavar="FILE", help=drawn)
    return lambda command: json_option(plot_option(command))


def write_json(file: Path, document: dict[str, Any]) -> None:
    """Write a document for --json; ``-`` is standard output. Raises ConfigError."""
    text = json.dumps(document, indent=1)
    if str(file) == "-":
        click.echo(text)
        return
    try:
        file.write_text(text + "\n")
    except OSError as error:
        raise ConfigError(f"--json {file} cannot be written: {error.strerror}") from None


def columns(lines: list[list[str]]) -> list[str]:
    """Return rows of cells as lines of a table, its columns set to the right."""
    sizes = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return [
        "  ".join(cell.rjust(size) for cell, size in zip(line, sizes, strict=True))
        for line in lines
    ]
