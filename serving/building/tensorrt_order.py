"""What is to be built: the question of ``serving.building.tensorrt`` as a type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.backends.tensorrt.options import Options
from serving.errors import LoadError
from serving.tensor import BatchAxes, Signature


@dataclass(frozen=True)
class Order:
    """An ONNX file and how it will be asked to run. ``folder`` is None when only asked about."""

    source: Path
    signature: Signature
    batch: BatchAxes
    max_batch_size: int
    batch_sizes: tuple[int, ...]
    options: Options
    folder: Path | None = None

    @staticmethod
    def from_json(told: Mapping[str, Any]) -> Order:
        """Read a question; raises KeyError, TypeError, ValueError, LoadError or BackendError."""
        if told["format"] != "onnx" or told["signature"] is None:
            raise LoadError(
                f"TensorRT engines are built of ONNX models, not of {told['format']!r} files",
                code="unsupported_format",
            )
        largest = int(told["max_batch_size"])
        sizes = sorted({int(size) for size in told["batch_sizes"] or (largest,)})
        if sizes[0] < 1:
            raise ValueError("batch sizes begin at 1")
        folder = told.get("folder")
        return Order(
            Path(told["source"]),
            Signature.from_json(told["signature"]),
            BatchAxes.from_json(told["batch"]),
            largest,
            tuple(sizes),
            Options.parse(told["options"]),
            None if folder is None else Path(folder),
        )
