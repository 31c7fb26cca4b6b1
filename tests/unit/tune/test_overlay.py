"""The subject of a tuning, and its copy: what is copied, what is refused, what is left alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving.errors import ConfigError, NotFound
from serving.repository.scanner import scan
from serving.tune.overlay import Overlay, find

SETTINGS = b"# mine\nmax_batch_size = 8\nversions = { latest = 2 }\n"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    root = tmp_path / "models"
    for version in ("1", "2", "10"):
        (root / "net" / version).mkdir(parents=True)
        (root / "net" / version / "model.onnx").write_bytes(b"model " + version.encode())
    (root / "net" / "servable.toml").write_bytes(SETTINGS)
    (root / "net" / "sample.json").write_text('{"servable": "net", "instances": [[1]]}')
    (root / "net" / ".git").mkdir()
    (root / "net" / ".git" / "objects").write_bytes(b"x")
    (root / "bare.onnx").write_bytes(b"bare")
    return root


def files(folder: Path) -> dict[str, bytes]:
    found = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}


def test_subject_is_the_highest_version_that_is_wanted(models: Path):
    subject = find(models, "net")
    assert (subject.name, subject.version, subject.data) == ("net", 10, SETTINGS)
    assert subject.settings.max_batch_size == 8
    (models / "net" / "servable.toml").write_text("versions = { specific = [1, 2] }\n")
    assert find(models, "net").version == 2


def test_overlay_holds_the_version_and_what_lies_beside_it(models: Path, tmp_path: Path):
    before = files(models)
    overlay = Overlay(find(models, "net"), tmp_path / "scratch")
    overlay.fill()
    overlay.settle({"max_batch_size": 64, "max_queue_delay_ms": None})
    copied = files(overlay.model_dir)
    assert set(copied) == {"net/10/model.onnx", "net/servable.toml", "net/sample.json"}
    assert copied["net/10/model.onnx"] == b"model 10"
    assert b"max_batch_size = 64" in copied["net/servable.toml"]
    assert files(models) == before


def test_overlay_without_changes_has_the_very_settings(models: Path, tmp_path: Path):
    overlay = Overlay(find(models, "net"), tmp_path / "scratch")
    overlay.fill()
    overlay.settle({"max_batch_size": 64})
    overlay.settle({})
    assert (overlay.model_dir / "net" / "servable.toml").read_bytes() == SETTINGS


def test_overlay_of_a_bare_file_is_a_folder_that_serves_the_same(models: Path, tmp_path: Path):
    subject = find(models, "bare")
    assert (subject.folder, subject.data, subject.version) == (None, None, 1)
    overlay = Overlay(subject, tmp_path / "scratch")
    overlay.fill()
    overlay.settle({"threads": 2})
    (found,) = scan(overlay.model_dir).servables
    assert (found.name, found.settings.threads, found.available) == ("bare", 2, {1})


def test_overlay_leaves_out_what_leads_out_of_the_folder(models: Path, tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (models / "net" / "notes").symlink_to(secret)
    (models / "net" / "gone").symlink_to(tmp_path / "nowhere")
    os.mkfifo(models / "net" / "pipe")
    overlay = Overlay(find(models, "net"), tmp_path / "scratch")
    overlay.fill()
    assert b"secret" not in files(overlay.model_dir).values()


def test_overlay_says_that_a_copy_has_no_room(models: Path, tmp_path: Path, monkeypatch):
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("serving.tune.overlay.shutil.disk_usage", lambda _: usage(9, 9, 4))
    with pytest.raises(ConfigError, match="has no room") as error:
        Overlay(find(models, "net"), tmp_path / "scratch").fill()
    assert "TMPDIR" in error.value.fix


def test_unknown_servable_is_named_with_the_nearest(models: Path):
    with pytest.raises(NotFound, match="no servable is called 'nett'") as error:
        find(models, "nett")
    assert error.value.fix == "did you mean 'net'?"


def test_servable_that_does_not_serve_is_refused_with_its_reason(models: Path):
    (models / "net" / "servable.toml").write_text("max_bach_size = 8\n")
    with pytest.raises(NotFound, match="max_bach_size"):
        find(models, "net")


@pytest.mark.parametrize(
    ("file", "text", "word"),
    [("config.pbtxt", 'backend: "onnxruntime"', "config.pbtxt"),
     ("servable_config.py", "", "servable_config.py")],
)  # fmt: skip
def test_servables_that_others_set_up_are_refused(models: Path, file: str, text: str, word: str):
    (models / "net" / "servable.toml").unlink()
    (models / "net" / file).write_text(text)
    with pytest.raises(ConfigError, match=word) as error:
        find(models, "net")
    assert error.value.code == "cannot_tune"
