"""Configs of several directories and versions become one repository, with the script's settings."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from serving.api.selection import Selection, Terms
from serving.api.start_config import ServableStartConfig, Wanted, merge
from serving.repository.observation import Observation, Offer
from serving.repository.version_policy import LatestVersions, SpecificVersions
from tests import models

TERMS = Terms(max_queue_size=321)
STAGES = "from serving import register\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two directories: ``one`` with ``sums`` (versions 1, 2, 10), ``two`` with ``code``."""
    for version in (1, 2, 10):
        models.add(tmp_path / "one" / "sums" / str(version) / "model.onnx")
    models.add(tmp_path / "one" / "unwanted" / "1" / "model.onnx")
    (tmp_path / "two" / "code").mkdir(parents=True)
    (tmp_path / "two" / "code" / "servable_config.py").write_text(STAGES)
    return tmp_path


def config(directory: Path, name: str, **more: object) -> ServableStartConfig:
    return ServableStartConfig(str(directory), name, **more)


def seen(selection: Selection, before: Observation | None = None) -> dict[str, Offer]:
    found = selection(before)
    assert found is not None
    return dict(found.offers)


def test_merge_joins_what_is_said_of_one_servable(folder: Path) -> None:
    one = folder / "one"
    (found,) = merge(
        [
            config(one, "sums", version_number=1, device_ids=(2, 0), num_parallel_workers=2),
            config(one, "sums", version_number=10, device_ids=3, num_parallel_workers=5),
        ]
    )
    assert found == Wanted(one, "sums", (1, 10), (2, 0, 3), 2, None, "AES-GCM")


@pytest.mark.parametrize(
    ("devices", "total", "workers"),
    [(None, 0, 1), (None, 4, 4), ((0,), 0, 1), ((0,), 4, 3), ((0, 1), 2, 1), ((0, 1), 1, 1)],
)
def test_merge_leaves_the_workers_that_devices_do_not_take(
    folder: Path, devices: tuple[int, ...] | None, total: int, workers: int
) -> None:
    made = config(folder / "one", "sums", device_ids=devices, num_parallel_workers=total)
    (found,) = merge([made])
    assert found.workers == workers


def test_merge_takes_the_newest_version_beside_a_chosen_one(folder: Path) -> None:
    one = folder / "one"
    (found,) = merge([config(one, "sums"), config(one, "sums", version_number=2)])
    assert found.versions == (2, 10)


def test_merge_refuses_two_places_and_two_keys(folder: Path) -> None:
    shutil.copytree(folder / "one", folder / "copy")
    with pytest.raises(RuntimeError, match="The servable directory of servable name sums is diff"):
        merge([config(folder / "one", "sums"), config(folder / "copy", "sums")])
    with pytest.raises(RuntimeError, match="The dec key or dec mode of servable name sums is diff"):
        merge([config(folder / "one", "sums", dec_key=b"k" * 16), config(folder / "one", "sums")])


def test_merge_refuses_a_folder_that_is_not_there_or_holds_nothing(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="Check servable config failed, directory '.*/nope' not"):
        merge([config(folder / "one", "nope")])
    (folder / "one" / "empty").mkdir()
    with pytest.raises(RuntimeError, match="file '.*/empty/servable_config.py' not exist"):
        merge([config(folder / "one", "empty")])


def test_selection_offers_what_is_wanted_from_wherever_it_is(folder: Path) -> None:
    selection = Selection(
        [Wanted(folder / "one", "sums", (1, 10)), Wanted(folder / "two", "code")], TERMS
    )
    offers = seen(selection)
    assert sorted(offers) == ["code", "sums"]
    assert offers["sums"].servable.settings.versions == SpecificVersions((1, 10))
    assert offers["code"].servable.settings.versions == LatestVersions(1)
    assert offers["code"].servable.code == folder / "two" / "code"


def test_selection_puts_the_script_above_defaults_and_files_above_the_script(folder: Path) -> None:
    want = Wanted(folder / "two", "code", devices=(3, 1), workers=4)
    settings = seen(Selection([want], TERMS))["code"].sources[1].settings
    assert (settings.stages.workers, settings.stages.device_id) == (4, 3)
    assert settings.max_queue_size == 321
    (folder / "two" / "code" / "servable.toml").write_text(
        "max_queue_size = 7\n[stages]\nworkers = 2\n"
    )
    settings = seen(Selection([want], TERMS))["code"].sources[1].settings
    assert (settings.stages.workers, settings.max_queue_size) == (2, 7)


def test_selection_sees_nothing_new_until_a_file_changes(folder: Path) -> None:
    selection = Selection([Wanted(folder / "one", "sums")], TERMS)
    first = selection(None)
    assert selection(first) is None
    models.add(folder / "one" / "unwanted" / "2" / "model.onnx")
    assert selection(first) is None, "it looked at what nobody wants"
    models.add(folder / "one" / "sums" / "11" / "model.onnx")
    offers = seen(selection, first)
    assert sorted(offers["sums"].sources) == [1, 2, 10, 11]


@pytest.mark.parametrize("name", ["code", "plain"])
def test_selection_gives_a_folder_without_versions_the_number_asked_for(
    folder: Path, name: str
) -> None:
    models.add(folder / "two" / "plain" / "model.onnx")
    offer = seen(Selection([Wanted(folder / "two", name, (7,))], TERMS))[name]
    assert list(offer.sources) == [7]
    assert (offer.at_rest, offer.there) == (frozenset({7}), frozenset({7}))
    assert [v.version for v in offer.servable.versions] == [7]


def test_selection_does_not_rename_a_version_that_has_a_folder(folder: Path) -> None:
    models.add(folder / "two" / "first" / "1" / "model.onnx")
    offer = seen(Selection([Wanted(folder / "two", "first", (7,))], TERMS))["first"]
    assert list(offer.sources) == [1]


def test_selection_lends_the_key_in_a_file_without_a_name_until_closed(folder: Path) -> None:
    selection = Selection([Wanted(folder / "one", "sums", key=b"k" * 16, mode="AES-CBC")], TERMS)
    settings = seen(selection)["sums"].sources[10].settings
    assert settings.key is not None
    assert settings.dec_mode == "AES-CBC"
    file = Path(settings.key.file)
    assert file.read_bytes() == b"hex:" + (b"k" * 16).hex().encode()
    assert os.stat(file).st_mode & 0o777 == 0o600
    selection.close()
    assert not file.exists()
