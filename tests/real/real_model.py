"""What the real-model tests know of one model: how to lay it out, and what to ask it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.tensor import Array
from tests.real.engine import Output

Infer = Callable[[Mapping[str, Array]], dict[str, Output]]
"""Sends one request; the answer has been compared with the bare engine's bit for bit."""


@dataclass(frozen=True)
class RealModel:
    """``place`` writes the model into a version folder; both are given the fetched files.

    ``ask`` makes real inputs, sends them and asserts that the answers are right in their meaning.
    """

    name: str
    place: Callable[[Path, Path], None]
    ask: Callable[[Path, Infer], None]


def copied(file: str) -> Callable[[Path, Path], None]:
    """Return how to lay out a model that is served as it was fetched."""

    def place(fetched: Path, folder: Path) -> None:
        shutil.copyfile(fetched / file, folder / "model.onnx")

    return place
