"""The example beside a servable: read as it is, or named in a note, never in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.repository.example import MAX_BYTES, Example, read_example
from serving.repository.scanner import scan

REQUEST = '{"servable": "a", "instances": [{"x": 1}]}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "models" / "a"
    (made / "1").mkdir(parents=True)
    (made / "1" / "model.onnx").write_bytes(b"x")
    return made


def read(folder: Path) -> tuple[Example | None, tuple[str, ...]]:
    return read_example(folder, "a", folder.parent)


def test_example_is_the_request_and_what_its_answer_holds(folder: Path) -> None:
    (folder / "sample.json").write_text(REQUEST)
    (folder / "answer.json").write_text('{"instances": [{"y": 2}]}')
    found = Example({"servable": "a", "instances": [{"x": 1}]}, {"instances": [{"y": 2}]})
    assert read(folder) == (found, ())
    (servable,) = scan(folder.parent).servables
    assert servable.example == found
    assert [v.version for v in servable.versions] == [1]


def test_example_needs_no_answer(folder: Path) -> None:
    (folder / "sample.json").write_text(REQUEST)
    example, notes = read(folder)
    assert example is not None
    assert example.to_json() == {"request": {"servable": "a", "instances": [{"x": 1}]}}
    assert notes == ()


def test_example_is_not_needed(folder: Path) -> None:
    assert read(folder) == (None, ())
    (servable,) = scan(folder.parent).servables
    assert (servable.example, servable.notes) == (None, ())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "it is not JSON"),
        (b"[]", "it is not a JSON object"),
        (b'{"servable": "a"}', "neither 'instances' nor 'inputs'"),
        (b'{"servable": "b", "inputs": {}}', 'it must say "servable": "a"'),
        (b'{"inputs": {}}', 'it must say "servable": "a"'),
        (b'{"servable": "a", "inputs": {"x": NaN}}', "NaN is no number of JSON"),
        (b'{"servable": "a", "inputs": "\xff"}', "it is not UTF-8 text"),
        (b"[" * 20_000, "it is nested too deeply"),
        (b" " * (MAX_BYTES + 1), "it is larger than 64 KiB"),
    ],
)
def test_example_that_is_none_is_named_and_the_servable_stays(
    folder: Path, content: bytes, said: str
) -> None:
    (folder / "sample.json").write_bytes(content)
    (servable,) = scan(folder.parent).servables
    assert servable.example is None
    assert servable.available == {1}
    (note,) = servable.notes
    assert note.startswith("a/sample.json is not shown as an example: ")
    assert said in note


def test_example_answer_that_is_none_is_named_and_the_request_stays(folder: Path) -> None:
    (folder / "sample.json").write_text(REQUEST)
    (folder / "answer.json").write_text("5")
    example, (note,) = read(folder)
    assert example is not None
    assert example.answer is None
    assert note == "a/answer.json is not shown with the example: it is not a JSON object"


def test_example_outside_the_model_directory_is_not_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text(REQUEST)
    (folder / "sample.json").symlink_to(tmp_path / "secret.json")
    example, (note,) = read(folder)
    assert example is None
    assert note.endswith("it is a link out of the model directory")
    assert str(tmp_path) not in note


def test_example_that_is_a_folder_or_a_broken_link_is_named(folder: Path) -> None:
    (folder / "sample.json").mkdir()
    assert read(folder)[1] == ("a/sample.json is not shown as an example: it is not a file",)
    (folder / "sample.json").rmdir()
    (folder / "sample.json").symlink_to("gone.json")
    assert "it cannot be read: No such file" in read(folder)[1][0]
