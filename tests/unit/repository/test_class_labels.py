"""Names of classes beside a servable's versions: read by line, or said to be unusable."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.repository.class_labels import MAX_BYTES, read_class_labels
from serving.repository.scanner import scan
from serving.repository.triton_folder import read_folder
from tests import models

CONFIG = 'output {{ name: "y" label_filename: "{name}" }}'


def read(folder: Path, name: str = "names.txt") -> tuple[object, str]:
    triton = read_folder(CONFIG.format(name=name).encode(), "m/config.pbtxt", "m")
    labels, notes = read_class_labels(triton, folder, "m", folder.resolve())
    return dict(labels), " ".join(notes)


@pytest.mark.parametrize("text", ["cat\ndog: big\n", "cat\r\ndog: big"])
def test_labels_are_lines(tmp_path: Path, text: str) -> None:
    (tmp_path / "names.txt").write_text(text, newline="")
    assert read(tmp_path) == ({"y": ("cat", "dog: big")}, "")


def test_output_without_a_file_has_no_labels(tmp_path: Path) -> None:
    assert read(tmp_path, "") == ({}, "")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "No such file or directory"),
        (lambda path: path.mkdir(), "it is not a file"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "it is not UTF-8 text"),
        (lambda path: path.write_bytes(b"x" * (MAX_BYTES + 1)), "it is larger than 4 MiB"),
        (lambda path: path.symlink_to("/etc/hostname"), "a link out of the model directory"),
    ],
    ids=["missing", "folder", "bytes", "large", "outside"],
)
def test_file_that_cannot_be_used_is_named(tmp_path: Path, make: object, said: str) -> None:
    assert callable(make)
    make(tmp_path / "names.txt")
    labels, note = read(tmp_path)
    assert labels == {}
    assert note.startswith("m/names.txt, the label_filename of output 'y', is not used: ")
    assert said in note


def test_file_is_looked_for_in_the_servables_folder_only(tmp_path: Path) -> None:
    assert "the name of a file in the servable's folder" in read(tmp_path, "../names.txt")[1]


def test_scan_brings_labels_and_notes(tmp_path: Path) -> None:
    models.identity(tmp_path / "m/1/model.onnx", "FP32", ("n", 3))
    (tmp_path / "m/config.pbtxt").write_text(CONFIG.format(name="names.txt"))
    (found,) = scan(tmp_path).servables
    assert found.class_labels == ()
    assert any("label_filename" in note for note in found.notes)
    (tmp_path / "m/names.txt").write_text("cat\n")
    (found,) = scan(tmp_path).servables
    assert found.class_labels == (("y", ("cat",)),)
    assert found.notes == ()
