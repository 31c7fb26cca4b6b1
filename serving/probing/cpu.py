"""Tells which ONNX Runtime a CPU worker would have."""

from __future__ import annotations

from typing import Any, Dict

from serving.probing.answering import serve


def devices() -> Dict[str, Any]:
    """Return the one device that is always there."""
    return {"devices": [{"index": 0, "name": "CPU"}], "versions": {}}


def engine() -> Dict[str, Any]:
    """Return the engine's version."""
    import onnxruntime

    return {"versions": {"onnxruntime": str(onnxruntime.__version__)}}


if __name__ == "__main__":
    serve({"devices": devices, "engine": engine})
