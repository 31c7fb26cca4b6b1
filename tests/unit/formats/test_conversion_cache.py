"""The cache of converted models: whole or not there, within its limit, never what is in use."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from serving.artifact import Artifact, Conversion, Format
from serving.formats.conversion_cache import MODEL, ConversionCache
from serving.inspection import hold_folder

KNOWN = Artifact(Format.MINDIR, backend="onnxruntime", producer="MindSpore 2.10.0")


def put(cache: ConversionCache, identity: str, size: int = 100) -> int:
    with cache.draft() as draft:
        (draft.folder / MODEL).write_bytes(bytes(size))
        artifact = replace(KNOWN, conversion=Conversion("", identity, 1.5))
        kept, held = cache.keep(draft, artifact)
    assert kept.conversion is not None
    assert Path(kept.conversion.path).stat().st_size == size
    return held


def drop(cache: ConversionCache, *identities: str) -> None:
    for identity in identities:
        os.close(put(cache, identity))


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def has(cache: ConversionCache, identity: str) -> bool:
    found = cache.find(identity)
    if found is not None:
        os.close(found[1])
    return found is not None


def test_entry_is_found_again_with_what_was_known(tmp_path: Path) -> None:
    drop(ConversionCache(tmp_path / "mindir", 1 << 20), "one")
    found = ConversionCache(tmp_path / "mindir", 1 << 20).find("one")
    assert found is not None
    artifact, held = found
    os.close(held)
    made = Conversion(str(tmp_path / "mindir" / "one" / MODEL), "one", 1.5, cached=True)
    assert artifact == replace(KNOWN, conversion=made)


def test_folder_is_for_its_owner_only(tmp_path: Path) -> None:
    drop(ConversionCache(tmp_path / "a" / "mindir", 1 << 20), "one")
    assert (tmp_path / "a" / "mindir").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a" / "mindir" / "one").stat().st_mode & 0o777 == 0o700


def test_draft_that_is_not_kept_leaves_nothing(tmp_path: Path) -> None:
    cache = ConversionCache(tmp_path, 1 << 20)
    with cache.draft() as draft:
        (draft.folder / MODEL).write_bytes(b"half")
        assert names(tmp_path) == [draft.folder.name]
    assert names(tmp_path) == []


@pytest.mark.parametrize("damage", ["shorter", "no model", "no artifact", "no json"])
def test_entry_that_is_not_whole_is_not_found_and_is_removed(tmp_path: Path, damage: str) -> None:
    cache = ConversionCache(tmp_path, 1 << 20)
    drop(cache, "one", "two")
    model, told = tmp_path / "one" / MODEL, tmp_path / "one" / "artifact.json"
    if damage == "shorter":
        os.truncate(model, 50)
    elif damage == "no model":
        model.unlink()
    elif damage == "no artifact":
        told.unlink()
    else:
        told.write_text("[]")
    assert not has(cache, "one")
    assert names(tmp_path) == ["two"]
    drop(cache, "one")
    assert has(cache, "one")


def test_longest_unused_entries_go_first(tmp_path: Path) -> None:
    cache = ConversionCache(tmp_path, 12_000)
    for age, identity in enumerate(("new", "middle", "old")):
        os.close(put(cache, identity, 3000))
        moment = time.time() - 100 * (age + 1)
        os.utime(tmp_path / identity, (moment, moment))
    assert has(cache, "old")  # used: now the newest
    os.close(put(cache, "next", 3000))
    assert names(tmp_path) == ["new", "next", "old"]


def test_entry_in_use_is_not_deleted(tmp_path: Path) -> None:
    cache = ConversionCache(tmp_path, 5000)
    held = put(cache, "used", 3000)
    os.close(put(cache, "next", 3000))
    assert names(tmp_path) == ["next", "used"]
    os.close(held)
    os.close(put(cache, "third", 3000))
    assert names(tmp_path) == ["third"]


def test_entry_that_is_being_deleted_cannot_be_held(tmp_path: Path) -> None:
    (tmp_path / "entry").mkdir()
    held = hold_folder(tmp_path / "entry")
    assert held is not None
    os.close(held)
    assert hold_folder(tmp_path / "none") is None


def test_second_writer_of_the_same_model_takes_the_firsts(tmp_path: Path) -> None:
    cache = ConversionCache(tmp_path, 1 << 20)
    with cache.draft() as slower:
        (slower.folder / MODEL).write_bytes(bytes(100))
        drop(cache, "one")
        before = (tmp_path / "one" / MODEL).stat().st_ino
        artifact = replace(KNOWN, conversion=Conversion("", "one"))
        kept, held = cache.keep(slower, artifact)
        os.close(held)
    assert kept.conversion is not None
    assert kept.conversion.cached
    assert (tmp_path / "one" / MODEL).stat().st_ino == before
    assert names(tmp_path) == ["one"]


def test_drafts_of_killed_writers_are_removed_and_others_are_not(tmp_path: Path) -> None:
    cache = ConversionCache(tmp_path, 1 << 20)
    long_ago = time.time() - 3600
    with cache.draft() as running:
        (tmp_path / "draft-dead").mkdir()
        (tmp_path / "draft-dead" / MODEL).write_bytes(b"half")
        (tmp_path / "draft-newborn").mkdir()
        for name in ("draft-dead", running.folder.name):
            os.utime(tmp_path / name, (long_ago, long_ago))
        drop(cache, "one")
        assert names(tmp_path) == sorted(["draft-newborn", running.folder.name, "one"])
