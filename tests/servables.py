"""Lays out the servables of tests/data/servables in a model repository, models included."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from onnx import helper

from tests.models.graph import build, save, value

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "tests" / "data" / "servables"
NAMES = tuple(sorted(path.parent.name for path in SOURCES.glob("*/servable_config.py")))
THEIR_IMPORT = "from mindspore_serving.server import register\n"
OWN_IMPORT = "from serving import register\n"


def lay_out(
    repository: Path, names: Iterable[str] = NAMES, *, import_line: str = THEIR_IMPORT
) -> Path:
    """Copy servables into a model repository, each under one of the import names.

    Return the repository.
    """
    for name in names:
        folder = repository / name
        shutil.copytree(SOURCES / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
        config = folder / "servable_config.py"
        text = config.read_text()
        assert text.count(THEIR_IMPORT) == 1
        config.write_text(text.replace(THEIR_IMPORT, import_line))
        _add_models(name, folder / "1")
    return repository


def _add_models(name: str, version: Path) -> None:
    """Add what lies elsewhere in the tree, or is made on the spot."""
    data = ROOT / "tests" / "data"
    if name in ("add_sub", "old_style"):
        _copy(SOURCES / "add" / "1" / "tensor_add.mindir", version / "tensor_add.mindir")
    if name == "add_sub":
        square = [value(side, "FP32", [2, 2]) for side in ("x", "y", "output")]
        nodes = [helper.make_node("Sub", ["x", "y"], ["output"])]
        save(build(nodes, square[:2], square[2:]), version / "tensor_sub.onnx")
    if name == "digits_images":
        _copy(ROOT / "servables" / "digits" / "1" / "model.onnx", version / "model.onnx")
    if name == "lenet":
        _copy(data / "mindspore" / "lenet_2.10.0.onnx", version / "lenet.onnx")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
