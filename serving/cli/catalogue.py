"""``serving list``: what a model directory would serve, found out without starting anything."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from serving.cli.backends import backend_option, backends_of
from serving.cli.config_file import backend_tables_option
from serving.cli.options import MODEL_DIR_HELP, Folder, ModelDir, Seconds, Whole, option
from serving.config import ServerSettings
from serving.devices import KINDS, parse_devices
from serving.errors import LoadError

if TYPE_CHECKING:
    from serving.cli.inventory import Defined
    from serving.repository.scanner import RepositoryScan

_WIDTHS = (60, 100)
_INSPECT_TIMEOUT_S = 120.0


@click.command(
    "list",
    short_help="Show what would be served, and why something would not.",
    context_settings={"max_content_width": 100},
)
@option("model-dir", MODEL_DIR_HELP, metavar="DIR", type=ModelDir(), required=True)
@option(
    "inspect-timeout-s",
    "How long looking into one model file may give no sign of progress, in seconds.",
    type=Seconds(min=0, min_open=True),
    default=_INSPECT_TIMEOUT_S,
    metavar="S",
)
@option(
    "devices",
    "What a server would have: cpu, gpu, ascend, or numbers of them; they are not looked for.",
    default=ServerSettings.devices,
    metavar="LIST",
)
@option(
    "cache-dir",
    "Folder of converted models, shared with serving start.",
    type=Folder(),
    metavar="DIR",
)
@option(
    "cache-mb",
    "Disk space in the cache folder that converted models may take, in MiB.",
    type=Whole(min=0),
    default=ServerSettings.cache_mb,
    metavar="N",
)
@click.option(
    "-v", "--verbose", is_flag=True, help="Show files, sizes, digests, notes and a call too."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for programs.")
@backend_option
@backend_tables_option
@click.pass_context
def list_command(
    ctx: click.Context,
    /,
    model_dir: Path,
    inspect_timeout_s: float,
    devices: str,
    cache_dir: Path | None,
    cache_mb: int,
    verbose: bool,
    as_json: bool,
    backend: tuple[str, ...],
) -> None:
    """Show what would be served from a folder, and why something would not.

    Looks into every model file, and imports every servable_config.py, in helper processes; no
    server is started and no model is run. Whether ONNX Runtime has all the operators and opsets
    that a model asks for, it is asked itself, where there can be a doubt.
    What has to be converted is converted, and kept for serving start.
    """
    import asyncio

    from serving.cli import inventory, table
    from serving.lifecycle.proofs import default_cache_dir
    from serving.repository import inspector
    from serving.repository.conversions import Conversions
    from serving.repository.declared_model import may_be_freed
    from serving.repository.engine_trials import tried
    from serving.repository.scanner import scan

    asked, backends = parse_devices(devices), backends_of(ctx, backend)
    found = scan(model_dir)
    with (
        _quiet(unless=verbose),
        contextlib.closing(Conversions(cache_dir or default_cache_dir(), cache_mb)) as conversions,
        contextlib.ExitStack() as kept,
    ):
        defined = asyncio.run(_definitions(found, inspect_timeout_s))
        questions = []
        for path, settings, declared in inventory.wanted_files(found, defined):
            kind = conversions.ask(path, settings, free=may_be_freed(declared))
            questions.append(kept.enter_context(contextlib.closing(kind)).question)
        looked = inspector.inspect(questions, timeout_s=inspect_timeout_s, module=inspector.HELPER)
        artifacts = asyncio.run(looked)
        known = asyncio.run(tried(artifacts.values(), backends, timeout_s=inspect_timeout_s))
        artifacts = dict(zip(artifacts, known, strict=True))
    kinds = tuple(asked.kinds) or KINDS
    listed = inventory.take(found, artifacts, model_dir, defined, kinds, _unwarmed(found))
    if as_json:
        click.echo(json.dumps(inventory.to_json(listed), indent=2))
        return
    columns = shutil.get_terminal_size((_WIDTHS[1], 24)).columns
    width = max(_WIDTHS[0], min(_WIDTHS[1], columns))
    click.echo(table.render(listed, title=str(model_dir), width=width, verbose=verbose))


async def _definitions(found: RepositoryScan, timeout_s: float) -> dict[Path, Defined]:
    """Import every wanted ``servable_config.py`` in a helper, one after the other."""
    from serving.cli.inventory import wanted_versions
    from serving.repository.definer import define

    defined: dict[Path, Defined] = {}
    for servable, home in wanted_versions(found):
        if servable.code is None:
            continue
        stages = servable.settings.stages
        try:
            defined[home] = await define(
                servable.name, servable.code, home, timeout_s=timeout_s, stages=stages
            )
        except LoadError as error:
            defined[home] = error
    return defined


def _unwarmed(found: RepositoryScan) -> dict[str, str]:
    """Say of servables, by name, which file they are to be warmed with cannot be had."""
    from serving.repository.warmup import resolved

    problems: dict[str, str] = {}
    for servable in found.servables:
        if servable.code is not None:
            continue
        try:
            resolved(servable.settings.warmup, found.root / servable.name)
        except LoadError as error:
            problems[servable.name] = str(error)
    return problems


@contextlib.contextmanager
def _quiet(*, unless: bool) -> Iterator[None]:
    """Keep warnings of the inspection out of the table: the reasons in it say the same."""
    logger = logging.getLogger("serving.repository")
    before = logger.level
    if not unless:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
