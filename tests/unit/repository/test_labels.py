"""Labels of versions: how they are written, and which of them may be asked for."""

from __future__ import annotations

import pytest

from serving.errors import ConfigError
from serving.repository.labels import is_label, offered, problems
from serving.repository.settings import ServableSettings, parse_settings


def settings(text: str) -> ServableSettings:
    return parse_settings(text.encode(), "m/servable.toml")


def test_labels_are_read_from_their_table() -> None:
    assert settings("[labels]\nstable = 3\ncanary = 4\n").labels == {"canary": 4, "stable": 3}
    assert settings("").labels == {}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("labels = 3", "labels"),
        ("[labels]\nstable = 0", "labels.stable"),
        ("[labels]\nstable = true", "labels.stable"),
        ('[labels]\nstable = "3"', "labels.stable"),
        ("[labels]\n4 = 3", "labels"),
        ('[labels]\n"a b" = 3', "labels"),
    ],
)
def test_labels_that_cannot_be_name_their_key(text: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(text)
    assert caught.value.where == key
    assert "m/servable.toml" in str(caught.value)


def test_label_is_never_taken_for_a_number() -> None:
    assert is_label("v2")
    assert is_label("a" * 63)
    for text in ("2", "2b", "", "-a", "a/b", "a" * 64, "ä", "a\n"):
        assert not is_label(text)


def test_label_is_offered_once_its_version_is_ready() -> None:
    wanted = {"stable": 1, "canary": 2}
    assert offered(wanted, {1}, {}) == {"stable": 1}
    assert offered(wanted, {1, 2}, {"stable": 1}) == {"stable": 1, "canary": 2}
    assert offered(wanted, set(), {"stable": 1}) == {}


def test_label_stays_where_it_is_until_its_next_version_is_ready() -> None:
    assert offered({"stable": 2}, {1}, {"stable": 1}) == {"stable": 1}
    assert offered({"stable": 2}, {1, 2}, {"stable": 1}) == {"stable": 2}
    # Neither of them serves.
    assert offered({"stable": 2}, {3}, {"stable": 1}) == {}
    # Taken out of the settings.
    assert offered({}, {1}, {"stable": 1}) == {}


def test_label_for_what_will_never_serve_is_told() -> None:
    said = problems({"a": 1, "b": 2, "c": 9}, {2}, {1, 2}, "{latest = 1}")
    assert said == [
        "label 'a' is for version 1, which is not wanted by versions = {latest = 1}",
        "label 'c' is for version 9, which is not there",
    ]
