"""Parameter types and the option factory that the commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

ENV_PREFIX = "SERVING_"

MODEL_DIR_HELP = (
    "Folder of servables, <servable>/<version>/<model file>; a servable's version folder, or its "
    "folder, may be left out."
)


class Whole(click.IntRange):
    """A whole number within a range; called so where something else is given."""

    name = "whole number"


class Seconds(click.FloatRange):
    """A finite number of seconds."""

    name = "number of seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Convert as a range does, and refuse ``nan`` and ``inf``."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number of seconds", param, ctx)
        return number


class Folder(click.Path):
    """A path, not looked at: a missing one has an exit code and a message of its own."""

    def __init__(self) -> None:
        super().__init__(readable=False, path_type=Path)


class ModelDir(Folder):
    """The model directory; who leaves it out, or gives it without the flag, is shown how."""

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None) -> str:
        """Return what follows "Missing option"."""
        command = ctx.command_path if ctx is not None else "serving start"
        return f"Name the folder that holds your servables: {command} {param.opts[0]} DIR"


def option(name: str, text: str, **more: Any) -> Callable[[Any], Any]:
    """Declare ``--name`` with its environment variable ``SERVING_NAME``, both shown in the help."""
    more.setdefault("show_default", True)
    return click.option(
        f"--{name}",
        envvar=ENV_PREFIX + name.replace("-", "_").upper(),
        show_envvar=True,
        help=text,
        **more,
    )
