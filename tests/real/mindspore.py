"""ONNX files that MindSpore wrote, with MindSpore's own answer; see tests/data/mindspore."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from tests.real.real_model import Infer, RealModel

_DATA = Path(__file__).parents[1] / "data" / "mindspore"


def _lenet(version: str) -> RealModel:
    def place(_: Path, folder: Path) -> None:
        shutil.copyfile(_DATA / f"lenet_{version}.onnx", folder / "model.onnx")

    return RealModel(f"mindspore_{version}", place, _ask)


def _ask(_: Path, infer: Infer) -> None:
    with np.load(_DATA / "lenet.npz") as stored:
        x, y = stored["x"], stored["y"]
    (answer,) = infer({"x": x}).values()
    assert np.abs(answer.array() - y).max() <= 1e-5 * np.abs(y).max()


MODELS = (_lenet("2.0.0"), _lenet("2.10.0"))
