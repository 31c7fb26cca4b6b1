"""The page at ``/``: what is served, in which state, and a call that works when pasted."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from serving.dataplane import DataPlane
from serving.errors import ServingError
from serving.frontends import example_call, v2_statistics
from serving.frontends.method import model_name
from serving.request import Description
from serving.statistics import VersionStatistics, WorkerStatistics

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:#1b1f24;background:#fff}
table{border-collapse:collapse;width:100%;margin:.5rem 0}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #d0d7de;vertical-align:top}
.number{text-align:right;font-variant-numeric:tabular-nums}
pre{background:#f6f8fa;padding:.8rem;overflow:auto;border-radius:6px}
code{font-family:ui-monospace,monospace;font-size:.9em}
.READY{color:#116329}.FAILED{color:#a40e26}
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}
pre{background:#161b22}th,td{border-color:#30363d}.READY{color:#3fb950}.FAILED{color:#f85149}}
"""


Counted = Mapping[tuple[str, int], VersionStatistics]
"""What was counted, by name and version; a method's name is ``servable:method``."""


async def page(plane: DataPlane, base_url: str) -> str:
    """Return the page as one HTML document without outside assets."""
    listed = await plane.servables()
    told = await plane.statistics()
    ready = "takes requests" if plane.ready() else "is not ready"
    counted = {(seen.servable, seen.version): seen for seen in told.versions}
    names = sorted({str(item["name"]) for item in listed})
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width,initial-scale=1'>",
        f"<title>serving</title><style>{_STYLE}</style>",
        f"<h1>serving</h1><p>The server {ready}. ",
        "<a href=docs>API</a> · <a href=openapi.json>openapi.json</a> · "
        "<a href=errors>errors</a> · <a href=v2>/v2</a> · <a href=metrics>metrics</a></p>",
        _states(listed, counted),
        _devices(told.workers),
        *(_section(plane, name, base_url, counted) for name in names),
    ]
    return "".join(parts) + "</html>"


def _states(listed: list[dict[str, Any]], counted: Counted) -> str:
    if not listed:
        return "<p>Nothing is served: the model directory is empty.</p>"
    rows = [
        f"<tr><td>{_text(item['name'])}<td>{_text(item.get('version', ''))}"
        f"<td class='{_text(item.get('state', ''))}'>{_text(item.get('state', ''))}"
        f"{_numbers(counted.get((item['name'], item['version'])))}"
        f"<td>{_text(item.get('reason', ''))}"
        for item in listed
    ]
    head = (
        "<tr><th>Servable<th>Version<th>State<th class=number>Answered<th class=number>Failed"
        "<th class=number>Rows a run<th class=number>Mean time<th>Reason"
    )
    return f"<table>{head}{''.join(rows)}</table>"


def _devices(workers: Sequence[WorkerStatistics]) -> str:
    """Return the table of workers, where some compute on something else than the CPU."""
    if all(worker.device in ("", "cpu") for worker in workers):
        return ""
    rows = [
        f"<tr><td>{_text(worker.name)}<td>{_text(worker.device)}<td>{_text(worker.backend)}"
        f"<td class='{'READY' if worker.usage else 'FAILED'}'>{'up' if worker.usage else 'down'}"
        f"<td class=number>{worker.runs:,}<td class=number>{worker.rows:,}"
        f"<td class=number>{worker.restarts:,}<td>{_text(worker.down)}"
        for worker in workers
        if worker.device
    ]
    head = (
        "<tr><th>Worker<th>Device<th>Backend<th>State<th class=number>Runs<th class=number>Rows"
        "<th class=number>Restarts<th>Reason"
    )
    return f"<table>{head}{''.join(rows)}</table>"


def _numbers(seen: VersionStatistics | None) -> str:
    """Return the cells with what a version has done; empty ones for what has not happened."""
    cells = [""] * 4
    if seen is not None:
        failed = sum(v2_statistics.failures(seen).values())
        cells[:2] = f"{seen.successes:,}", f"{failed:,}"
        if seen.successes:
            cells[2:] = f"{seen.mean_rows:.1f}", f"{seen.mean_success_ms:.2f} ms"
    return "".join(f"<td class=number>{cell}" for cell in cells)


def _section(plane: DataPlane, name: str, base_url: str, counted: Counted) -> str:
    """Return a servable's methods; nothing for one that cannot be described."""
    try:
        methods = plane.methods(name)
        described = [plane.describe(name, None, method) for method in methods or (None,)]
    except ServingError:
        return ""
    parts = [
        _description(d, base_url, counted.get((model_name(name, d.method), d.version)))
        for d in described
    ]
    return f"<h2>{_text(name)}</h2>{''.join(parts)}"


def _description(description: Description, base_url: str, seen: VersionStatistics | None) -> str:
    """Return the signature and an example of a model itself, or of a method, which is counted."""
    call = example_call.on_page(description, base_url)
    batch = description.batch
    batching = f"runs batches of up to {description.max_batch_size}"
    if description.method or not batch.batched:
        batching = "runs one by one"
    reason = f" ({_text(batch.reason)})" if batch.reason else ""
    rows = "".join(
        f"<tr><td>{kind}<td>{_text(spec.name)}<td><code>{_text(spec.text())}</code>"
        for kind, specs in (
            ("input", description.signature.inputs),
            ("output", description.signature.outputs),
        )
        for spec in specs
    )
    title = f"<h3>{_text(description.method)}</h3>" if description.method else ""
    if seen is not None and seen.successes:
        failed = sum(v2_statistics.failures(seen).values())
        reason += f"; answered {seen.successes:,} in {seen.mean_success_ms:.2f} ms on average"
        reason += f", failed {failed:,}" if failed else ""
    return (
        f"{title}<p>{_text(_runner(description))}, {batching}{reason}</p>"
        f"<table>{rows}</table><pre><code>{_text(call)}</code></pre>"
    )


def _runner(description: Description) -> str:
    """Return format and backend of a model in the words of ``serving list``, or what a method is.

    The platform has V2's words.
    """
    details = description.details
    if "backend" not in details:
        return description.platform
    return f"{details['format']} on {details['backend']}"


def _text(value: object) -> str:
    return html.escape(str(value))
