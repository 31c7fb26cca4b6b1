"""One line on a terminal that tells what is going on, written over and over."""

from __future__ import annotations

import shutil
import sys

import click


class LiveLine:
    """A line on a terminal that is written over; nothing where there is no terminal."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()

    def tell(self, text: str) -> None:
        """Show a text in place of the last."""
        if self._live:
            width = shutil.get_terminal_size().columns - 1  # a line that wraps stays behind
            click.echo(f"\r\x1b[2K{text[:width]}", nl=False, err=True)

    def clear(self) -> None:
        """Leave an empty line."""
        if self._live:
            click.echo("\r\x1b[2K", nl=False, err=True)
