"""Makes the files that stand for OM models: what the double of ``atc`` does, and tests directly."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

ACL_FOLDER = Path(__file__).parent / "acl"
"""On ``PYTHONPATH``, this makes the double importable as ``acl``."""

SOC = "Ascend310P3"
_ACL_TYPES = {
    "float": 0, "float16": 1, "int8": 2, "int32": 3, "uint8": 4, "int16": 6, "uint16": 7,
    "uint32": 8, "int64": 9, "uint64": 10, "double": 11, "bool": 12, "bfloat16": 27,
}  # fmt: skip
_NUMPY = {"float": "f4", "double": "f8", "float16": "f2", "bool": "?"}


class NotCompiled(Exception):
    """The model is not one that the double can make an OM of."""


def _file_form() -> ModuleType:
    """Load the double's file format by itself: ``acl`` is imported by those who mean to use it."""
    name = "_double_om"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ACL_FOLDER / "acl" / "_om.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def compile_om(
    model: Path,
    out: Path,
    *,
    kind: str = "static",
    gears: Sequence[Sequence[int]] = (),
    soc: str = SOC,
    sleep_ms: float = 0.0,
    dynamic_aipp: bool = False,
    shapes: dict[str, list[int]] | None = None,
) -> Path:
    """Write an OM of an ONNX file; varying sizes must be covered by ``gears`` or ``shapes``.

    ``kind``: ``static``, ``batch`` (a gear is ``[rows]``), ``image`` (``[height, width]``),
    ``dims`` (the sizes of all inputs), ``free`` (sizes stay open). Output sizes are found by
    running it.
    """
    om = _file_form()
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    inputs = [_described(node, (shapes or {}).get(node.name)) for node in session.get_inputs()]
    open_ = any(d < 0 for one in inputs for d in one["shape"])
    if kind == "static" and open_:
        raise NotCompiled("an input has a size that varies")
    outputs = [_described(node, None) for node in session.get_outputs()]
    definition = om.Definition(
        soc, kind, [list(g) for g in gears], inputs, outputs, sleep_ms, dynamic_aipp
    )
    for number, one in enumerate(outputs):
        one["shapes"] = (
            [one["shape"]]
            if kind == "free"
            else [_run(session, definition, gear)[number] for gear in (definition.gears or [[]])]
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(om.pack(definition, onnx.load(str(model)).SerializeToString()))
    return out


def write_air(model: Path, out: Path) -> Path:
    """Write what stands for an AIR file: a message whose field 1 is an ONNX model."""
    content = onnx.load(str(model)).SerializeToString()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(b"\x0a" + _varint(len(content)) + content)
    return out


def read_air(path: Path) -> bytes:
    """Return the ONNX model of a file that ``write_air`` wrote."""
    content = path.read_bytes()
    start = next(at for at in range(1, 11) if content[at] < 0x80) + 1
    return content[start:]


def _varint(number: int) -> bytes:
    digits = []
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])


def _described(node: Any, shape: list[int] | None) -> dict[str, Any]:
    element = node.type[len("tensor(") : -1]
    if element not in _ACL_TYPES:
        raise NotCompiled(f"tensor {node.name} holds {element}")
    sizes = [d if isinstance(d, int) else -1 for d in node.shape]
    return {"name": node.name, "dtype": _ACL_TYPES[element], "shape": shape or sizes}


def _run(session: Any, definition: Any, gear: list[int]) -> list[list[int]]:
    """Return the outputs' sizes at a gear."""
    feeds = {}
    at = 0
    for node, one in zip(session.get_inputs(), definition.inputs, strict=True):
        element = node.type[len("tensor(") : -1]
        shape = list(one["shape"])
        if definition.kind == "batch":
            shape = [gear[0] if d < 0 else d for d in shape]
        elif definition.kind == "dims":
            shape = gear[at : at + len(shape)]
            at += len(shape)
        elif definition.kind == "image":
            sizes = iter(gear)
            shape = [next(sizes) if d < 0 else d for d in shape]
        feeds[node.name] = np.ones(shape, _NUMPY.get(element, element))
    return [list(result.shape) for result in session.run(None, feeds)]
