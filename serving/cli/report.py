"""Forms in which measurements are told: a table of figures, a JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from serving.errors import ConfigError


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
