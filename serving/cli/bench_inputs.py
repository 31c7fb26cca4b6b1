"""Which requests ``serving bench`` and ``serving tune`` send: options, and what they come to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from serving.cli.options import Whole
from serving.errors import ConfigError

if TYPE_CHECKING:
    from serving.request import Description
    from serving.tensor import Tensor

_WHOLE = (0, 2)
_REQUESTS = 16
"""How many different requests are made up where no inputs are given."""


class Shape(click.ParamType[tuple[str, tuple[int, ...]]]):
    """``NAME:1,128``: the shape of an input."""

    name = "shape"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, ...]]:
        """Return name and sizes."""
        if isinstance(value, tuple):
            return value
        name, _, sizes = str(value).rpartition(":")
        try:
            shape = tuple(int(size) for size in sizes.split(","))
        except ValueError:
            shape = ()
        if not name or not shape or min(shape) < 0:
            self.fail(f"{value!r} is not of the form NAME:1,128", param, ctx)
        return name, shape


class Range(click.ParamType[tuple[int, int]]):
    """``LOW:HIGH``: whole numbers from LOW up to, not with, HIGH."""

    name = "range"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return both ends."""
        if isinstance(value, tuple):
            return value
        low, _, high = str(value).partition(":")
        try:
            found = int(low), int(high)
        except ValueError:
            found = 0, 0
        if found[0] >= found[1]:
            wanted = "LOW:HIGH with LOW below HIGH, such as 0:30000"
            self.fail(f"{value!r} is not of the form {wanted}", param, ctx)
        return found


def input_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --protocol, --inputs, --rows, --shape and --whole."""
    for add in reversed(_OPTIONS):
        command = add(command)
    return command


_OPTIONS = (
    click.option(
        "--protocol", type=click.Choice(["predict", "v2-json", "v2-binary", "grpc"]),
        default="predict", show_default=True,
        help="POST /predict, V2 over HTTP with JSON or raw tensors, or V2 over gRPC.",
    ),
    click.option(
        "--inputs", metavar="FILE", help="Inputs to send, as `serving predict` takes them."
    ),
    click.option(
        "--rows", type=Whole(min=1), default=1, show_default=True, metavar="N",
        help="Rows in each request that is made up.",
    ),
    click.option(
        "--shape", "shapes", type=Shape(), multiple=True, metavar="NAME:1,128",
        help="Whole shape of an input that is made up, where sizes vary.",
    ),
    click.option(
        "--whole", type=Range(), default=_WHOLE, metavar="LOW:HIGH",
        help="Range of made-up whole numbers, HIGH not among them.  [default: 0:2]",
    ),
)  # fmt: skip


def requests(
    known: Description,
    inputs: str | None,
    rows: int,
    shapes: dict[str, tuple[int, ...]],
    whole: tuple[int, int],
) -> tuple[list[list[Tensor]], str]:
    """Return the tensors of each request, and where they come from.

    Raises ConfigError for inputs that are given, and yet are to be made up.
    """
    from serving.bench.sample import generate
    from serving.cli.given import Reader
    from serving.client.inputs import to_tensors
    from serving.client.rows import group

    example = known.details.get("example")
    made_up = bool(shapes) or rows != 1 or whole != _WHOLE
    if inputs is not None and made_up:
        raise ConfigError(
            "--rows, --shape and --whole are for inputs that are made up",
            where="--inputs",
            fix="leave them out, or --inputs",
        )
    if inputs is not None:
        given, source = Reader(known, None).file(inputs), inputs
    elif example is not None and not made_up:
        given, source = (
            Reader(known, None).document(example["request"], "its example"),
            "its example",
        )
    else:
        return generate(known, rows, shapes, whole, _REQUESTS), "made up"
    if given.rows is None:
        return [to_tensors(given.inputs, known)], source
    return [part.inputs for one in given.rows for part in group([one], known)], source


def require_packages(command: str, wanted: dict[str, str]) -> None:
    """Raise ConfigError naming the packages that are missing; ``wanted`` is module -> package."""
    import importlib.util

    missing = [name for module, name in wanted.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ConfigError(
            f"serving {command} needs {' and '.join(missing)}",
            code="missing_package",
            fix="pip install 'serving[bench]'",
        )
