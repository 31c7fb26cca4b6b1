"""The errors that the importer raises, each with what a person can do about it."""

from __future__ import annotations

from serving.errors import LoadError


def broken(why: str) -> LoadError:
    """Return the error for a file that contradicts itself or the format; ``why`` is a sentence."""
    return LoadError(
        f"the MindIR file is damaged: {why}",
        code="broken_model",
        fix="copy or export it again",
    )


def unsupported(what: str) -> LoadError:
    """Return the error for a sound file that uses what the importer lacks."""
    return LoadError(
        f"the MindIR file cannot be converted: {what}",
        code="unsupported_operator",
        fix="export the network as ONNX (mindspore.export(..., file_format='ONNX'))",
    )
