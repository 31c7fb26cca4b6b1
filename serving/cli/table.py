"""Renders the inventory of ``serving list`` for a terminal of a given width; pure."""

from __future__ import annotations

import json
import textwrap
import unicodedata

from serving.cli.inventory import Inventory, Row
from serving.definition import Definition
from serving.repository.engine_trials import NOT_TRIED
from serving.repository.names import TRITON_FILE, printable
from serving.tensor import fixed_batch

_HEADER = ("SERVABLE", "VERSION", "FORMAT", "BACKEND", "BATCHED")
_MAX_NAME = 32
_INDENT = "    "
_GAP = "  "


def render(inventory: Inventory, *, title: str, width: int, verbose: bool) -> str:
    """Return the table: one line a version, what belongs to it wrapped beneath.

    Only ``title`` (a path), a call (both to be copied whole) and a name too long for its column
    may be wider.
    """
    lines = [f"{printable(title)}:", *_wrapped("", _summary(inventory), width)]
    if inventory.rows:
        cells = [_cells(row) for row in inventory.rows]
        sizes = [max(_columns(line[i]) for line in (_HEADER, *cells)) for i in range(len(_HEADER))]
        sizes[0] = min(sizes[0], _MAX_NAME)
        lines += ["", _line(_HEADER, sizes)]
        for row, line in zip(inventory.rows, cells, strict=True):
            if _columns(line[0]) > sizes[0]:
                lines.append(line[0])
                line = ("", *line[1:])
            lines.append(_line(line, sizes))
            lines += _beneath(row, width, verbose)
    else:
        lines += _wrapped("", "Put a model at <servable>/1/model.onnx or model.mindir.", width)
    if inventory.notes:
        lines.append("")
        for note in inventory.notes:
            lines += _wrapped("note: ", note, width)
    return "\n".join(lines)


def _summary(inventory: Inventory) -> str:
    if not inventory.rows:
        return "no servable is here"
    servables = {row.servable for row in inventory.rows}
    running = {row.servable for row in inventory.rows if row.runs}
    text = f"{len(running)} of {len(servables)} servables would be served"
    failing = sum(not row.runs for row in inventory.rows)
    return text + (f"; {failing} would not run, see below" if failing else "")


def _cells(row: Row) -> tuple[str, ...]:
    version = "-" if row.version is None else str(row.version)
    if row.definition is not None and row.runs:
        engines = sorted({b for m in row.models for b in m.verdict.backends.values()})
        engines += ["python"] if row.definition.stages else []
        return (printable(row.servable), version, "methods", ", ".join(engines) or "-", "-")
    model_format = "-" if row.artifact is None else row.artifact.format.value
    if row.artifact is None or row.verdict is None or not row.runs:
        return (printable(row.servable), version, model_format, "-", "-")
    batched = f"up to {row.verdict.max_batch_size}" if row.verdict.batch.batched else "no"
    backends = ", ".join(row.verdict.backends.values())
    return (printable(row.servable), version, model_format, backends, batched)


def _beneath(row: Row, width: int, verbose: bool) -> list[str]:
    labels = ", ".join(map(printable, row.labels))
    lines = _wrapped("    labels: ", labels, width) if labels else []
    signature = None if row.artifact is None else row.artifact.signature
    if signature is not None:
        sides = [
            ", ".join(f"{spec.name} {spec.text()}" for spec in side) or "nothing"
            for side in (signature.inputs, signature.outputs)
        ]
        lines += _wrapped(_INDENT, " -> ".join(sides), width)
    if row.definition is not None:
        lines += _defined(row, row.definition, width, verbose)
    if not row.runs:
        lines += _wrapped(f"{_INDENT}does not run: ", row.reason, width)
    elif row.verdict is not None and (verbose or not row.verdict.batch.batched):
        label = "batched: " if row.verdict.batch.batched else "not batched: "
        lines += _wrapped(_INDENT + label, row.verdict.batch.reason, width)
    if verbose:
        return lines + _details(row, width)
    for note in row.notes:
        # What was asked for and is not done is no detail, nor is what could not be found out.
        if note.startswith((TRITON_FILE, NOT_TRIED)):
            lines += _wrapped(f"{_INDENT}note: ", note, width)
    return lines


def _defined(row: Row, definition: Definition, width: int, verbose: bool) -> list[str]:
    """Return what a ``servable_config.py`` makes of a version: its methods and its models."""
    calls = [
        f"{m.name}({', '.join(m.inputs)}) -> {', '.join(m.outputs)}" for m in definition.methods
    ]
    lines = _wrapped(f"{_INDENT}methods: ", "; ".join(calls) or "none", width)
    for model in row.models:
        batch, signature = model.verdict.batch, model.artifact.signature
        fixed = None if signature is None else fixed_batch(signature, batch)
        most = fixed or model.verdict.max_batch_size
        how = f"batched up to {most}" if batch.batched else "not batched"
        if not model.verdict.runs:
            how = "does not run"
        elif verbose or not batch.batched:
            how += f": {batch.reason}"
        told = f"{model.artifact.format.value}, {how}"
        lines += _wrapped(f"{_INDENT}model {model.file}: ", told, width)
    if verbose and definition.stages:
        functions = ", ".join(function.name for function in definition.stages)
        lines += _wrapped(f"{_INDENT}functions: ", functions, width)
    return lines


def _details(row: Row, width: int) -> list[str]:
    lines: list[str] = []
    if row.file:
        size_bytes = row.artifact.size_bytes if row.artifact is not None else 0
        size = f", {size_text(size_bytes)}" if size_bytes else ""
        lines += _wrapped(f"{_INDENT}file: ", row.file + size, width)
    if row.artifact is not None:
        for label, text in (
            ("made by: ", row.artifact.producer),
            ("holds: ", row.artifact.detail),
            ("sha256: ", row.artifact.digest),
        ):
            if text:
                lines += _wrapped(_INDENT + label, text, width)
    for note in row.notes:
        lines += _wrapped(f"{_INDENT}note: ", note, width)
    return lines + _how_to_call(row, width)


def _how_to_call(row: Row, width: int) -> list[str]:
    if not row.call:
        return []
    lines = [f"{_INDENT}try: {printable(row.call)}"]
    if row.example is not None and row.example.answer is not None:
        answer = json.dumps(row.example.answer, ensure_ascii=False)
        lines += _wrapped(f"{_INDENT}its answer holds: ", answer, width)
    return lines


def _wrapped(head: str, text: str, width: int) -> list[str]:
    """Wrap ``text`` after ``head``; the lines below stand under the first word's indent."""
    margin = " " * (len(head) - len(head.lstrip()))
    return textwrap.wrap(
        printable(" ".join(text.split())),
        width,
        initial_indent=head,
        subsequent_indent=margin + ("  " if margin else ""),
        break_on_hyphens=False,
    )


def _line(cells: tuple[str, ...], sizes: list[int]) -> str:
    padded = (cell + " " * (size - _columns(cell)) for cell, size in zip(cells, sizes, strict=True))
    return _GAP.join(padded).rstrip()


def _columns(text: str) -> int:
    """Return how many columns a terminal takes for the text: two for a Chinese character."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def size_text(size: int) -> str:
    """Return a number of bytes for people."""
    if size < 1 << 10:
        return f"{size} bytes"
    number, unit = size / (1 << 10), "KiB"
    for larger in ("MiB", "GiB"):
        if number >= 1 << 10:
            number, unit = number / (1 << 10), larger
    return f"{number:.1f} {unit}"
