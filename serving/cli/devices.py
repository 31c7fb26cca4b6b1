"""``serving devices``: what this machine computes on, and what would run where."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from serving.cli.backends import backend_option, backends_of
from serving.cli.config_file import backend_tables_option
from serving.devices import BACKENDS, KINDS, SECOND_BACKENDS

if TYPE_CHECKING:
    from serving.artifact import Format
    from serving.repository.discovery import Found, FoundDevice

_GIB = 1 << 30
_NAMES = {"cpu": "CPU", "gpu": "NVIDIA GPU", "ascend": "Ascend"}


@click.command(
    "devices",
    short_help="Show which devices there are, and what would run on them.",
    context_settings={"max_content_width": 100},
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for programs.")
@backend_option
@backend_tables_option
@click.pass_context
def devices_command(ctx: click.Context, as_json: bool, backend: tuple[str, ...]) -> None:
    """Show which devices there are, and what would run on them.

    Each kind is looked for in a helper process, with the interpreter and the environment that its
    workers would have: a broken driver ends that helper and is told as the reason.
    """
    import asyncio
    import logging

    from serving.repository.discovery import find

    backends = backends_of(ctx, backend)
    logger = logging.getLogger("serving.repository")
    before = logger.level
    logger.setLevel(logging.ERROR)  # its reasons are in the table
    try:
        found = asyncio.run(find(KINDS, backends, thorough=True))
    finally:
        logger.setLevel(before)
    if as_json:
        click.echo(json.dumps(_document(found), indent=2))
        return
    for line in _lines(found):
        click.echo(line)


def _titles() -> dict[Format, str]:
    from serving.artifact import Format

    return {
        Format.ONNX: "ONNX",
        Format.MINDIR: "MindIR",
        Format.OM: "OM",
        Format.TENSORRT: "TensorRT engine",
        Format.AIR: "AIR",
    }


def _lines(found: Mapping[str, Found]) -> Iterator[str]:
    for kind, there in found.items():
        versions = ", ".join(f"{name} {version}" for name, version in _versions(there).items())
        yield f"{_NAMES[kind]}" + (f"  ({versions})" if versions else "")
        for device in there.devices:
            yield f"  {_name(kind, device):<10} {_facts(device)}"
        yield from _problems(there)
    yield ""
    yield from _table(found)


def _versions(there: Found) -> dict[str, str]:
    second = {f"{name} (CUDA)": version for name, version in there.second.items()}
    return {**there.versions, **there.engine, **second}


def _problems(there: Found) -> Iterator[str]:
    if there.problem:
        yield f"  none: {there.problem}"
    elif there.engine_problem and there.second:
        yield f"  without {BACKENDS[there.kind]}: {there.engine_problem}"
    elif there.engine_problem:
        yield f"  not usable: {there.engine_problem}"
    if there.second_problem:
        yield f"  no second choice, {SECOND_BACKENDS[there.kind]}: {there.second_problem}"


def _name(kind: str, device: FoundDevice) -> str:
    return kind if kind == "cpu" else f"{kind}:{device.index}"


def _facts(device: FoundDevice) -> str:
    facts = [device.name]
    if device.memory_bytes:
        facts.append(
            f"{device.memory_bytes / _GIB:.1f} GiB, {device.free_bytes / _GIB:.1f} GiB free"
        )
    if device.capability:
        facts.append(f"compute capability {device.capability}")
    if device.problem:
        facts.append(f"not usable: {device.problem}")
    return ", ".join(fact for fact in facts if fact)


def _table(found: Mapping[str, Found]) -> Iterator[str]:
    rows = [["", *(_NAMES[kind] for kind in found)]]
    rows += [[title, *(_way(format, found[kind])[1] for kind in found)] for format, title in
             _titles().items()]  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _way(format: Format, there: Found) -> tuple[bool, str]:
    """Return whether a format runs on a kind here, and by what, or why not."""
    from serving.repository.backend_choice import ROUTES, SECOND_ROUTES, SECOND_TITLE

    route = ROUTES.get((format, there.kind))
    if route is None:
        return False, "-"
    how = route.backend + (", built first" if route.builder else "")
    second = there.second and (format, there.kind) in SECOND_ROUTES
    if second and there.engine_problem:
        how = SECOND_TITLE
    elif second:
        how += f"; else {SECOND_TITLE}"
    runs = there.usable and (second or not there.engine_problem)
    return (True, how) if runs else (False, f"({how})")


def _document(found: Mapping[str, Found]) -> dict[str, Any]:
    return {
        "kinds": [_kind_json(there) for there in found.values()],
        "formats": {
            format.value: {
                kind: dict(zip(("runs", "backend"), _way(format, there), strict=True))
                for kind, there in found.items()
            }
            for format in _titles()
        },
    }


def _kind_json(there: Found) -> dict[str, Any]:
    return {
        "kind": there.kind,
        "usable": bool(there.usable),
        "problem": there.why_not,
        "backend": there.backend,
        "versions": _versions(there),
        "second_problem": there.second_problem,
        "devices": [
            {
                "name": _name(there.kind, device),
                "model": device.name,
                "memory_bytes": device.memory_bytes,
                "free_bytes": device.free_bytes,
                "capability": device.capability,
                "problem": device.problem,
            }
            for device in there.devices
        ],
    }
