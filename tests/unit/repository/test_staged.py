"""Servables that a ``servable_config.py`` makes: what is a version, and what a change of one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving.repository.observation import Observation, Source, observe
from serving.repository.scanner import ServableScan, scan


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


def write(file: Path, text: str = "x") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def scanned(root: Path) -> ServableScan:
    (found,) = scan(root).servables
    return found


def source(root: Path, version: int = 1, before: Observation | None = None) -> Source:
    seen = observe(root, before)
    assert seen is not None
    return seen.offers["m"].sources[version]


def test_servable_without_models_is_version_1(root: Path) -> None:
    write(root / "m" / "servable_config.py")
    found = scanned(root)
    assert (found.reason, found.code) == ("", root / "m")
    assert [(v.version, v.path) for v in found.versions] == [(1, root / "m")]


def test_version_folders_are_versions_whatever_they_hold(root: Path) -> None:
    write(root / "m" / "servable_config.py")
    write(root / "m" / "2" / "a.mindir")
    write(root / "m" / "2" / "b.mindir")
    (root / "m" / "10").mkdir()
    write(root / "m" / "tools" / "__init__.py")
    found = scanned(root)
    assert [(v.version, v.path) for v in found.versions] == [
        (2, root / "m" / "2"),
        (10, root / "m" / "10"),
    ]
    assert found.notes == ()


def test_servable_config_that_leads_elsewhere_is_refused(root: Path, tmp_path: Path) -> None:
    (root / "m").mkdir(parents=True)
    (root / "m" / "servable_config.py").symlink_to(write(tmp_path / "outside.py"))
    assert "leaves the model directory" in scanned(root).reason
    (root / "m" / "servable_config.py").unlink()
    (root / "m" / "servable_config.py").mkdir()
    assert "is a folder, not a file" in scanned(root).reason


def test_model_that_leads_elsewhere_refuses_its_version(root: Path, tmp_path: Path) -> None:
    write(root / "m" / "servable_config.py")
    write(root / "m" / "1" / "a.mindir")
    (root / "m" / "2").mkdir()
    (root / "m" / "2" / "a.mindir").symlink_to(write(tmp_path / "outside.mindir"))
    found = scanned(root)
    assert found.available == {1}
    assert "leaves the model directory" in found.version(2).reason


@pytest.mark.parametrize(
    ("file", "text", "note"),
    [
        ("servable.toml", 'model_file = "a.onnx"', "model_file is not looked at"),
        ("servable.toml", "[[warmup]]\ngenerate = true", "warmup is not looked at"),
        ("config.pbtxt", "max_batch_size: 4", "what it says of inputs and outputs"),
    ],
)
def test_settings_that_have_no_place_are_named(root: Path, file: str, text: str, note: str) -> None:
    write(root / "m" / "servable_config.py")
    write(root / "m" / file, text)
    (said,) = scanned(root).notes
    assert note in said
    assert scanned(root).triton is None


@pytest.mark.parametrize("text", ["[stages]\nworkers = 2", "[methods]\nhidden = true"])
def test_settings_of_functions_are_named_where_there_are_none(root: Path, text: str) -> None:
    write(root / "m" / "1" / "model.onnx")
    write(root / "m" / "servable.toml", text)
    (said,) = scanned(root).notes
    table = text.partition("]")[0][1:]
    assert said == (
        f"{table} is not looked at: there is no servable_config.py beside servable.toml"
    )
    write(root / "m" / "servable_config.py")
    assert scanned(root).notes == ()


@pytest.mark.parametrize(
    "file", ["servable_config.py", "helper.py", "pack/inner.py", "vocabulary.txt", "1/a.mindir"]
)
def test_source_changes_with_its_code_and_its_models(root: Path, file: str) -> None:
    for name in ("servable_config.py", "helper.py", "pack/inner.py", "vocabulary.txt"):
        write(root / "m" / name)
    write(root / "m" / "1" / "a.mindir")
    write(root / "m" / "2" / "a.mindir")
    before, other = source(root), source(root, 2)
    assert before.unchanged()
    write(root / "m" / file, "something else")
    assert not before.unchanged()
    assert source(root) != before
    assert (source(root, 2) == other) is file.startswith("1/"), "only 1's own model is 1's alone"


@pytest.mark.parametrize(
    "file", ["notes.md", "serving.log", "__pycache__/x.pyc", ".hidden.py", "3/other.mindir"]
)
def test_source_is_the_same_whatever_else_lies_there(root: Path, file: str) -> None:
    write(root / "m" / "servable_config.py")
    write(root / "m" / "1" / "a.mindir")
    before = source(root)
    write(root / "m" / file)
    assert source(root) == before


def test_source_without_version_folders_takes_in_models_beside_the_code(root: Path) -> None:
    write(root / "m" / "servable_config.py")
    model = write(root / "m" / "a.onnx")
    before = source(root)
    write(model, "another model")
    assert source(root) != before


def test_settings_change_the_source_and_the_version_policy_does_not(root: Path) -> None:
    write(root / "m" / "servable_config.py")
    write(root / "m" / "1" / "a.mindir")
    before = source(root)
    write(root / "m" / "servable.toml", 'versions = "all"')
    assert source(root) == before
    write(root / "m" / "servable.toml", "[stages]\nworkers = 2")
    assert source(root) != before


def test_code_is_at_rest_once_two_looks_agree(root: Path) -> None:
    write(root / "m" / "servable_config.py")
    first = observe(root)
    assert first is not None
    assert first.offers["m"].at_rest == {1}
    write(root / "m" / "helper.py", "half of it")
    second = observe(root, first)
    assert second is not None
    assert second.offers["m"].at_rest == set()
    third = observe(root, second)
    assert third is not None
    assert third.offers["m"].at_rest == {1}


def test_code_that_is_being_copied_is_not_at_rest(root: Path) -> None:
    write(root / "m" / "servable_config.py")
    seen = observe(root)
    assert seen is not None
    part = write(root / "m" / "helper.py.part")
    for size in range(3):
        write(part, "x" * (size + 2))
        os.utime(part, ns=(size, size))
        seen = observe(root, seen)
        assert seen is not None
        assert seen.offers["m"].at_rest == set()
