"""Reads the names of classes that a ``config.pbtxt`` gives to elements of outputs, by file.

``output { label_filename }`` names a file in the servable's folder with a label on each line, that
of element 0 first. One that is not there, or not what it should be, keeps nothing from being
served: a note says what is wrong, and classes are answered without their names.
"""

from __future__ import annotations

from pathlib import Path

from serving.repository.companion import read_companion
from serving.repository.triton_folder import TritonFolder

MAX_BYTES = 4 << 20

ClassLabels = tuple[tuple[str, tuple[str, ...]], ...]
"""The labels of each output that has some, by its name."""


def read_class_labels(
    triton: TritonFolder, folder: Path, servable: str, root: Path
) -> tuple[ClassLabels, tuple[str, ...]]:
    """Return the labels of a servable's outputs, and notes on what is wrong.

    Files that lie outside ``root``, where a link may lead, are not read.
    """
    found, notes = [], []
    for output in triton.config.output:
        if not output.label_filename:
            continue
        try:
            found.append((output.name, _read(folder, output.label_filename, root)))
        except ValueError as error:
            notes.append(
                f"{servable}/{output.label_filename}, the label_filename of output "
                f"{output.name!r}, is not used: {error}"
            )
    return tuple(found), tuple(notes)


def _read(folder: Path, name: str, root: Path) -> tuple[str, ...]:
    if "/" in name or "\0" in name:
        raise ValueError("it must be the name of a file in the servable's folder")
    data = read_companion(folder / name, root, MAX_BYTES)
    try:
        return tuple(data.decode().splitlines())
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
