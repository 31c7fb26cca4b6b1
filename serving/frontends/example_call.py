"""Writes a call of a servable that people can paste: the page, the log and ``serving list`` do."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import quote

from serving.frontends.method import example, model_name
from serving.frontends.plan import plan_for
from serving.repository.example import REQUEST_FILE
from serving.request import Description
from serving.tensor import ANY, BOOL, BYTES, Dim, TensorSpec, element_count

_MOST_ELEMENTS = 64
"""A neutral value larger than this is cut short: nobody pastes a whole image by hand."""
_LONGEST_BODY = 160
_CUT = "# the lists are cut short here: send as many elements as the signature says\n"
_OPEN = "# a single 0 stands for any value: what it has to be, the method decides\n"


def body(description: Description) -> tuple[dict[str, Any], bool]:
    """Return a body of ``POST /predict``, and whether its lists are cut short.

    It is the example that lies beside the servable, or else one instance of neutral values.
    """
    named: dict[str, Any] = {"version": description.version} if _is_older(description) else {}
    found = example(description)
    if found is not None:
        return {**named, **found["request"]}, False
    instance, shortened = {}, False
    if description.method:
        named["method"] = description.method
    for item in plan_for(description).inputs:
        dims = item.row or ()
        shortened |= _is_large(dims)
        instance[item.spec.name] = _neutral(item.spec, dims)
    return {"servable": description.servable, **named, "instances": [instance]}, shortened


def on_page(description: Description, base_url: str) -> str:
    """Return a curl command of several lines that carries its whole body."""
    document, shortened = body(description)
    note = _CUT if shortened else ""
    if example(description) is None and any(
        spec.dtype is ANY for spec in description.signature.inputs
    ):
        note += _OPEN
    return (
        f"{note}curl {base_url.rstrip('/')}/predict "
        f"-H 'Content-Type: application/json' \\\n  -d {_shell(document)}"
    )


def one_line(description: Description, base_url: str, model_dir: Path) -> str:
    """Return a curl command of one line, for a shell in the folder of the server's user.

    A body that lies in a file is sent from there; where one would be too long, the command asks
    for the servable's inputs and outputs instead.
    """
    if example(description) is not None and not _is_older(description):
        file = model_dir / description.servable / REQUEST_FILE
        return f"curl {base_url}/predict -d {shlex.quote(f'@{file}')}"
    document, shortened = body(description)
    if shortened or len(_shell(document)) > _LONGEST_BODY:
        name = description.servable
        if description.method:
            name = model_name(name, description.method)
        version = f"/versions/{description.version}" if _is_older(description) else ""
        return f"curl {base_url}/v2/models/{quote(name, safe=':')}{version}"
    return f"curl {base_url}/predict -d {_shell(document)}"


def _is_older(description: Description) -> bool:
    """Whether a call that names no version would be answered by another one."""
    return description.version < max(description.versions, default=0)


def _shell(document: dict[str, Any]) -> str:
    return shlex.quote(json.dumps(document, ensure_ascii=False))


def _size(dim: Dim) -> int:
    return dim if isinstance(dim, int) else 1


def _is_large(dims: tuple[Dim, ...]) -> bool:
    return element_count([_size(dim) for dim in dims]) > _MOST_ELEMENTS


def _neutral(spec: TensorSpec, dims: tuple[Dim, ...]) -> Any:
    """Return nested lists of a neutral element, each list cut to what a page can hold."""
    value: Any = 0.5 if spec.dtype.name.startswith(("FP", "BF")) else 0
    if spec.dtype is BYTES:
        value = "text"
    elif spec.dtype is BOOL:
        value = True
    for dim in reversed(dims):
        value = [value] * (min(_size(dim), 2) if _is_large(dims) else _size(dim))
    return value
