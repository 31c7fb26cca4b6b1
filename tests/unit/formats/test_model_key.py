"""Keys of encrypted models: where they may lie, how they may be written, what is never said."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from serving.errors import LoadError
from serving.formats.model_key import key_for, read_key
from serving.inspection import KeySource

KEY = bytes(range(200, 216))
TEXT = b"0123456789ABCDEF"


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (KEY, KEY),
        (TEXT + b"\n", TEXT),
        (TEXT * 2 + b"\r\n", TEXT * 2),
        (b"hex:" + KEY.hex().encode(), KEY),
        (b"hex:" + KEY.hex().encode() + b"\n", KEY),
        (b"base64:" + base64.b64encode(TEXT + TEXT[:8]), TEXT + TEXT[:8]),
    ],
)
def test_key_is_read_from_file_and_environment(
    content: bytes, key: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_bytes(content)
    assert read_key(KeySource(file=str(tmp_path / "key"))) == key
    monkeypatch.setitem(os.environb, b"NET_KEY", content)
    assert read_key(KeySource(env="NET_KEY")) == key


@pytest.mark.parametrize(
    "content", [b"", b"short", TEXT + b"x", b"hex:" + b"zz" * 16, b"base64:!", bytes(17)]
)
def test_what_is_no_key_is_refused_without_showing_it(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(LoadError) as caught:
        read_key(KeySource(file=str(tmp_path / "key")))
    assert caught.value.code == "wrong_key"
    assert caught.value.given == f"{len(content)} bytes"
    assert not content or content.decode() not in str(caught.value)


def test_missing_variable_is_not_named_for_it_may_be_the_key_itself() -> None:
    with pytest.raises(LoadError) as caught:
        read_key(KeySource(env="ABCDEF0123456789"))
    assert caught.value.code == "key_missing"
    assert "ABCDEF" not in str(caught.value)


@pytest.mark.parametrize("place", ["missing", "folder", "pipe"])
def test_key_file_that_is_none_is_refused_without_its_path(place: str, tmp_path: Path) -> None:
    if place == "folder":
        (tmp_path / place).mkdir()
    elif place == "pipe":
        os.mkfifo(tmp_path / place)
    with pytest.raises(LoadError) as caught:
        read_key(KeySource(file=str(tmp_path / place)))
    assert caught.value.code == "key_missing"
    assert str(tmp_path) not in str(caught.value)


def test_mode_must_be_that_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environb, b"NET_KEY", TEXT)
    (tmp_path / "m.mindir").write_bytes(b"\xd9\x5e\x3a\x7f" + bytes(60))
    assert key_for(tmp_path / "m.mindir", KeySource("NET_KEY", mode="AES-CBC")) == TEXT
    assert key_for(tmp_path / "m.mindir", KeySource("NET_KEY")) == TEXT
    with pytest.raises(LoadError, match='expected AES-GCM.*given AES-CBC.*"AES-CBC"'):
        key_for(tmp_path / "m.mindir", KeySource("NET_KEY", mode="AES-GCM"))


def test_encrypted_file_without_a_named_key_says_how_to_name_one(tmp_path: Path) -> None:
    (tmp_path / "m.mindir").write_bytes(b"\xd8\x5e\x3a\x7f")
    with pytest.raises(LoadError, match="key_env or key_file in servable.toml") as caught:
        key_for(tmp_path / "m.mindir", None)
    assert caught.value.code == "key_missing"
