"""Where converted models go, and how they are kept there."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from serving.artifact import Artifact, Conversion, Format
from serving.inspection import KeySource, Question, hold_folder
from serving.repository.conversions import Conversions, Kept
from serving.repository.settings import ServableSettings

PLAIN = ServableSettings()
SECRET = ServableSettings(key_env="NET_KEY")


def converted(path: str) -> Artifact:
    return Artifact(Format.MINDIR, "onnxruntime", conversion=Conversion(path, "one"))


def ask(tmp_path: Path, settings: ServableSettings) -> Kept:
    return Conversions(tmp_path / "cache", 7).ask(tmp_path / "m.mindir", settings)


def test_question_names_the_places_and_survives_json(tmp_path: Path) -> None:
    question = ask(tmp_path, ServableSettings(key_file="/k", cache_decrypted=True)).question
    assert question.cache_dir == str(tmp_path / "cache" / "mindir")
    assert question.cache_bytes == 7 << 20
    assert question.key == KeySource(file="/k")
    assert Question.from_json(question.to_json()) == question


@pytest.mark.parametrize(
    "settings", [PLAIN, ServableSettings(key_env="NET_KEY", cache_decrypted=True)]
)
def test_memory_is_only_for_what_no_disk_may_see(
    tmp_path: Path, settings: ServableSettings
) -> None:
    assert ask(tmp_path, settings).question.private == ""


def test_model_in_memory_is_sealed_kept_and_let_go(tmp_path: Path) -> None:
    kept = ask(tmp_path, SECRET)
    private = kept.question.private
    assert private.startswith(f"/proc/{os.getpid()}/fd/")
    Path(private).write_bytes(b"model")
    kept.settle(converted(private))
    assert Path(private).read_bytes() == b"model"
    with pytest.raises(PermissionError):
        Path(private).write_bytes(b"other")
    kept.close()
    kept.close()
    assert not os.path.exists(private)


def test_memory_that_the_answer_does_not_use_is_let_go(tmp_path: Path) -> None:
    kept = ask(tmp_path, SECRET)
    kept.settle(Artifact(Format.MINDIR_ENCRYPTED, reason="another key"))
    assert not os.path.exists(kept.question.private)


def test_entry_of_the_cache_is_held_until_it_is_let_go(tmp_path: Path) -> None:
    entry = tmp_path / "cache" / "mindir" / "one"
    entry.mkdir(parents=True)
    kept = ask(tmp_path, PLAIN)
    kept.settle(converted(str(entry / "model.onnx")))
    other = os.open(entry, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    kept.close()
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert hold_folder(entry) is None  # while it is being deleted
    os.close(other)


def test_temporary_folder_is_removed_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    places = Conversions(tmp_path / "cache", 1)
    scratch = Path(places.ask(tmp_path / "m.mindir", PLAIN).question.scratch)
    assert scratch.parent == tmp_path
    (scratch / "one").mkdir(parents=True)
    (scratch / "one" / "model.onnx").write_bytes(b"model")
    places.close()
    assert os.listdir(tmp_path) == []
    places.close()


def test_system_without_a_writable_temporary_folder_is_asked_of_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", none)
    places = Conversions(tmp_path / "cache", 1)
    assert places.ask(tmp_path / "m.mindir", PLAIN).question.scratch.startswith("/tmp/serving-")
    places.close()
