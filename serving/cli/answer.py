"""Renders the answer of ``serving predict``: a table for people, JSON or npz for programs; pure."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving.client.prediction import objects
from serving.errors import ConfigError
from serving.request import Description
from serving.tensor import BF16, Array, bf16_to_float32

_SHOWN = 12
"""Elements of an array that a table shows in full; of more, the first and last three."""
_TINY = 1e-3
"""Numbers are rounded to 4 decimals, unless none of an array is as large as this."""


def table(rows: Sequence[Mapping[str, Any]], known: Description) -> str:
    """Return one line for each row, under the names of the outputs; long values are cut."""
    names = list(rows[0]) if rows else []
    lines = [["row", *names]]
    for index, row in enumerate(rows):
        lines.append([str(index), *(_cell(value) for value in _readable(row, known).values())])
    sizes = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(size) for cell, size in zip(line, sizes, strict=True)).rstrip()
        for line in lines
    )


def split(outputs: Mapping[str, Array], known: Description) -> list[dict[str, Any]]:
    """Return the outputs of whole tensors row by row; as one row where there is no batch axis."""
    axes = known.batch.outputs if known.batch.batched else ()
    by_name = {s.name: axis for s, axis in zip(known.signature.outputs, axes, strict=False)}
    if any(by_name.get(name) is None for name in outputs):
        return [dict(outputs)]
    moved = {name: np.moveaxis(array, by_name[name] or 0, 0) for name, array in outputs.items()}
    count = min((len(array) for array in moved.values()), default=0)
    return [{name: array[i] for name, array in moved.items()} for i in range(count)]


def stack(rows: Sequence[Mapping[str, Any]]) -> dict[str, Array]:
    """Return rows as whole arrays by name; raises ConfigError when their shapes differ."""
    stacked = {}
    for name in rows[0] if rows else ():
        values = [row[name] for row in rows]
        shapes = {np.shape(value) if isinstance(value, np.ndarray) else () for value in values}
        if len(shapes) > 1:
            raise ConfigError(
                f"output {name!r} differs in shape from row to row, which an array cannot hold",
                code="bad_output", fix="use --output json",
            )  # fmt: skip
        if isinstance(values[0], (np.ndarray, np.generic)):
            stacked[name] = np.stack(values)
        else:
            stacked[name] = objects(values, (len(values),))
    return stacked


def to_json(answer: Mapping[str, Any], known: Description, version: int, id: str) -> str:
    """Return the answer in the form that ``POST /predict`` answers in.

    ``answer`` is ``{"outputs": {name: array}}`` or ``{"instances": [{name: value}, ...]}``.
    """
    document: dict[str, Any] = {"servable": known.servable, "version": version}
    if known.method:
        document["method"] = known.method
    if id:
        document["id"] = id
    for key, value in answer.items():
        rows = value if isinstance(value, list) else [value]
        plain = [{n: _plain(v) for n, v in _readable(row, known).items()} for row in rows]
        document[key] = plain if isinstance(value, list) else plain[0]
    return json.dumps(document, ensure_ascii=False, allow_nan=False)


def to_npz(outputs: Mapping[str, Array]) -> bytes:
    """Return the outputs as an .npz file that loads without pickle; BF16 stays raw patterns.

    Raises ConfigError for strings that numpy's fixed-width types would change.
    """
    arrays = {}
    for name, array in outputs.items():
        if array.dtype.kind == "O":
            items = [x if isinstance(x, (str, bytes)) else json.dumps(x) for x in array.flat]
            fixed = np.array(items or [""])[: len(items)].reshape(array.shape)
            if fixed.reshape(-1).tolist() != items:
                raise ConfigError(
                    f"the strings of output {name!r} end in NUL, which an .npz file cannot hold",
                    code="bad_output", fix="use --output json",
                )  # fmt: skip
            array = fixed
        arrays[name] = array
    sink = io.BytesIO()
    np.savez(sink, allow_pickle=False, **arrays)
    return sink.getvalue()


def _readable(row: Mapping[str, Any], known: Description) -> dict[str, Any]:
    """Return a row with BF16 as the numbers that its patterns mean."""
    raw = {spec.name for spec in known.signature.outputs if spec.dtype is BF16}
    return {n: bf16_to_float32(np.asarray(v)) if n in raw else v for n, v in row.items()}


def _cell(value: Any) -> str:
    array = np.asarray(value)
    if array.dtype.kind == "O" or not isinstance(value, (np.ndarray, np.generic)):
        plain = _plain(value)
        return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    with np.errstate(invalid="ignore"):
        tiny = not np.any(np.abs(array) >= _TINY) if array.dtype.kind == "f" else False
    text = np.array2string(
        array,
        formatter={"float_kind": lambda x: f"{x if tiny else round(float(x), 4):.6g}"},
        threshold=_SHOWN,
        edgeitems=3,
        max_line_width=10**9,
    )
    return " ".join(text.split())


def _plain(value: Any) -> Any:
    """Return a value for JSON: the fewest digits, NaN and infinities by name, bytes as b64."""
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value] if value.ndim else _plain(value[()])
    if isinstance(value, np.floating):
        number = float(str(value))
        return number if math.isfinite(number) else _NAMES[str(number)]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    return value


_NAMES = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
