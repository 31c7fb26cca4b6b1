"""What two looks at a model directory tell: what changed, and what has come to rest."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from serving.errors import ConfigError
from serving.repository.observation import Observation, observe


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "models"
    root.mkdir()
    return root


def write(file: Path, text: str = "model") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def look(root: Path, before: Observation | None = None) -> Observation:
    seen = observe(root, before)
    assert seen is not None
    return seen


def again(root: Path, before: Observation) -> Observation:
    """Look once more, also where nothing is new."""
    return observe(root, before) or before


def settled(root: Path) -> Observation:
    return look(root)


def test_observation_first_look_takes_all_as_at_rest(root: Path) -> None:
    write(root / "m" / "1" / "model.onnx")
    offer = look(root).offers["m"]
    assert offer.at_rest == {1}
    assert offer.sources[1].path == root / "m" / "1" / "model.onnx"


def test_observation_says_nothing_where_nothing_changed(root: Path) -> None:
    write(root / "m" / "1" / "model.onnx")
    assert observe(root, settled(root)) is None


def test_observation_new_files_rest_once_a_look_later_they_are_the_same(root: Path) -> None:
    before = settled(root)
    file = write(root / "m" / "1" / "model.onnx", "one")
    first = look(root, before)
    assert first.offers["m"].at_rest == frozenset()
    file.write_text("one and more")
    second = look(root, first)
    assert second.offers["m"].at_rest == frozenset()
    third = look(root, second)
    assert third.offers["m"].at_rest == {1}
    assert observe(root, third) is None


def test_observation_a_folder_that_was_moved_in_rests_at_once(root: Path) -> None:
    write(root / "m" / "1" / "model.onnx")
    before = settled(root)
    draft = write(root.parent / "draft" / "model.onnx").parent
    # Until the clock of the file system has moved on, a rename cannot be told from a copy.
    mark = root.parent / "mark"
    while True:
        mark.touch()
        if mark.stat().st_ctime_ns > (draft / "model.onnx").stat().st_ctime_ns:
            break
    draft.rename(root / "m" / "2")
    assert look(root, before).offers["m"].at_rest == {1, 2}


def test_observation_a_moved_folder_with_an_unfinished_file_does_not_rest(root: Path) -> None:
    write(root / "m" / "1" / "model.onnx")
    before = settled(root)
    draft = write(root.parent / "draft" / "model.onnx").parent
    write(draft / "model.onnx.data.part")
    draft.rename(root / "m" / "2")
    assert look(root, before).offers["m"].at_rest == {1}


def test_observation_a_changed_file_is_another_source_and_a_hidden_one_is_not(root: Path) -> None:
    file = write(root / "m" / "1" / "model.onnx")
    before = settled(root)
    source = before.offers["m"].sources[1]
    write(root / "m" / "1" / ".model.onnx.swp")
    touched = again(root, look(root, before))
    assert touched.offers["m"].sources[1] == source
    assert source.unchanged()
    write(root / "m" / "1" / "model.onnx.data")
    assert look(root, touched).offers["m"].sources[1] != source
    os.utime(file, ns=(1, 1))
    assert not source.unchanged()


def test_observation_settings_change_a_source_and_the_version_policy_does_not(root: Path) -> None:
    write(root / "m" / "1" / "model.onnx")
    before = settled(root)
    source = before.offers["m"].sources[1]
    toml = write(root / "m" / "servable.toml", 'versions = "all"\n')
    policy = look(root, before)
    assert policy.offers["m"].sources[1] == source
    toml.write_text("max_batch_size = 3\n")
    assert look(root, policy).offers["m"].sources[1] != source


def test_observation_a_version_is_gone_only_at_the_second_look(root: Path) -> None:
    write(root / "m" / "1" / "model.onnx")
    write(root / "m" / "2" / "model.onnx")
    before = settled(root)
    shutil.rmtree(root / "m" / "2")
    first = look(root, before)
    assert first.offers["m"].there == {1, 2}
    second = look(root, first)
    assert second.offers["m"].there == {1}
    assert observe(root, second) is None


def test_observation_a_servable_is_gone_only_at_the_second_look(root: Path) -> None:
    write(root / "m" / "1" / "model.onnx")
    write(root / "n" / "1" / "model.onnx")
    before = settled(root)
    shutil.rmtree(root / "m")
    first = look(root, before)
    assert first.offers["m"].there == {1}
    second = look(root, first)
    assert "m" not in second.offers
    assert observe(root, second) is None


def test_observation_a_bare_file_is_watched_with_what_lies_beside_it(root: Path) -> None:
    write(root / "m.onnx")
    write(root / "m2.onnx")
    data = write(root / "m.onnx.data")
    before = settled(root)
    data.write_text("other weights")
    after = look(root, before)
    assert after.offers["m"].sources[1] != before.offers["m"].sources[1]
    assert after.offers["m2"].sources[1] == before.offers["m2"].sources[1]


def test_observation_does_not_follow_links_out_of_the_directory(root: Path, tmp_path: Path) -> None:
    write(root / "m" / "1" / "model.onnx")
    outside = write(tmp_path / "outside" / "file").parent
    (root / "m" / "1" / "data").symlink_to(outside)
    before = settled(root)
    write(outside / "another")
    assert observe(root, before) is None


def test_observation_refuses_a_directory_that_lost_its_volume(root: Path) -> None:
    write(root / "m" / "1" / "model.onnx")
    before = settled(root)
    shutil.rmtree(root / "m")
    with pytest.raises(ConfigError, match="mount the volume again"):
        observe(root, replace(before, device=before.device + 1))
    assert look(root, before).offers["m"].there == {1}
