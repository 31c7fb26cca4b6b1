"""Editing a servable.toml: only what was asked for changes, and never by halves."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import ConfigError
from serving.tune.settings_file import difference, edited, replace

MINE = b"""\
# The team's model; ask Wei before changing anything.
max_batch_size = 8   # latency!

versions = { latest = 2 }

[labels]  # where clients are
stable = 1

[[warmup]]
file = "morning.json"
"""
TOLD = ("measured today", "on this machine")


def test_edit_keeps_comments_order_and_tables():
    after = edited(MINE, {"max_batch_size": 64, "max_queue_delay_ms": 0.5}, TOLD, "m")
    assert (
        after
        == b"""\
# The team's model; ask Wei before changing anything.
# tune: measured today
# tune: on this machine
max_batch_size = 64   # latency!

versions = { latest = 2 }
max_queue_delay_ms = 0.5

[labels]  # where clients are
stable = 1

[[warmup]]
file = "morning.json"
"""
    )


def test_second_edit_takes_the_place_of_the_first_ones_comments():
    once = edited(MINE, {"max_batch_size": 64}, TOLD, "m")
    twice = edited(once, {"max_batch_size": 16}, ("measured again",), "m")
    assert twice.count(b"# tune: ") == 1
    assert b"# tune: measured again\nmax_batch_size = 16   # latency!\n" in twice


def test_edit_of_nothing_begins_a_file():
    after = edited(b"", {"max_batch_size": 64}, TOLD, "m")
    assert after == b"# tune: measured today\n# tune: on this machine\nmax_batch_size = 64\n"


def test_edit_takes_a_key_out_for_automatic():
    after = edited(b"max_queue_delay_ms = 2.0\n[labels]\na = 1\n", {"max_queue_delay_ms": None},
                   TOLD, "m")  # fmt: skip
    assert tomllib.loads(after.decode()) == {"labels": {"a": 1}}
    assert after.index(b"# tune") < after.index(b"[labels]")


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbfmax_batch_size = 8\r\nversions = \"all\"\r\n",
        b"threads = 1",
        b"\"max_batch_size\" = 8\n",
        b"batch_axes = \"none\"\n[stages]\nworkers = 2\n",
        b"batch_axes = { inputs = { max_batch_size = 0 }, outputs = { y = 0 } }\n",
    ],
)  # fmt: skip
def test_edit_changes_the_keys_and_no_other(data):
    before = tomllib.loads(data.decode("utf-8-sig"))
    after = edited(data, {"max_batch_size": 64}, TOLD, "m")
    assert tomllib.loads(after.decode("utf-8-sig")) == {**before, "max_batch_size": 64}
    assert after.startswith(b"\xef\xbb\xbf") == data.startswith(b"\xef\xbb\xbf")
    assert after.count(b"\r\n") == (after.count(b"\n") if b"\r\n" in data else 0)


@given(
    st.dictionaries(st.sampled_from(["threads", "max_queue_size", "max_batch_size"]),
                    st.integers(1, 9)),
    st.lists(st.sampled_from(["# a note", "", "# tune: old", "#max_batch_size = 3"]), max_size=4),
    st.sampled_from([None, 0.5]),
)  # fmt: skip
def test_edit_says_what_was_asked_for_whatever_was_there(keys, between, delay):
    lines = [*between, *(f"{key} = {value}" for key, value in keys.items()), *between]
    data = "\n".join([*lines, "[labels]", "x = 1"]).encode()
    changes = {"max_batch_size": 2, "max_queue_delay_ms": delay}
    after = edited(data, changes, TOLD, "m").decode()
    wanted = {**keys, "max_batch_size": 2, "labels": {"x": 1}}
    assert tomllib.loads(after) == (
        wanted if delay is None else {**wanted, "max_queue_delay_ms": delay}
    )
    assert after.count("# tune: ") == len(TOLD)
    assert after.count("# a note") == data.count(b"# a note")


def test_edit_refuses_a_file_that_it_would_change_elsewhere():
    data = b'model_file = """\n# tune: no comment\nx"""\n'
    with pytest.raises(ConfigError, match="cannot be changed") as error:
        edited(data, {"threads": 1}, TOLD, "m/servable.toml")
    assert "by hand" in error.value.fix


def test_difference_shows_old_and_new_lines():
    after = edited(MINE, {"max_batch_size": 64}, TOLD, "m")
    shown = difference(MINE, after, "m/servable.toml").splitlines()
    assert "-max_batch_size = 8   # latency!" in shown
    assert "+max_batch_size = 64   # latency!" in shown
    assert difference(MINE, MINE, "m") == ""


def test_replace_puts_the_whole_file_in_place_and_keeps_its_mode(tmp_path: Path):
    file = tmp_path / "servable.toml"
    file.write_bytes(MINE)
    file.chmod(0o640)
    replace(tmp_path, MINE, b"threads = 1\n")
    assert file.read_bytes() == b"threads = 1\n"
    assert file.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["servable.toml"]


def test_replace_begins_a_file_and_follows_a_link(tmp_path: Path):
    replace(tmp_path, None, b"threads = 1\n")
    assert (tmp_path / "servable.toml").read_bytes() == b"threads = 1\n"
    shared = tmp_path / "shared.txt"
    shared.write_bytes(MINE)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "servable.toml").symlink_to(shared)
    replace(tmp_path / "m", MINE, b"threads = 2\n")
    assert shared.read_bytes() == b"threads = 2\n"
    assert (tmp_path / "m" / "servable.toml").is_symlink()


@pytest.mark.parametrize("before", [None, b"threads = 2\n"])
def test_replace_refuses_a_file_that_was_changed_meanwhile(tmp_path: Path, before):
    (tmp_path / "servable.toml").write_bytes(MINE)
    with pytest.raises(ConfigError, match="was changed while this measured"):
        replace(tmp_path, before, b"threads = 1\n")
    assert (tmp_path / "servable.toml").read_bytes() == MINE


def test_replace_says_that_a_folder_is_gone(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be written: No such file"):
        replace(tmp_path / "gone", None, b"")
