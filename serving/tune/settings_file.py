"""Changes keys of a ``servable.toml`` and leaves all else in it as its owner wrote it."""

from __future__ import annotations

import contextlib
import difflib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import tomlkit
from tomlkit.exceptions import TOMLKitError

from serving.errors import ConfigError
from serving.repository.settings import SETTINGS_FILE, parse_settings, read_toml
from serving.tune.setting import Value

MARK = "# tune: "
"""How every line begins that tells of a tuning: the next one replaces them."""

_BOM = "\ufeff"


def edited(data: bytes, changes: Mapping[str, Value], told: Sequence[str], file: str) -> bytes:
    """Return the file with keys set, or taken out where the value is None.

    ``told`` goes above the first of them as comments, in place of those of an earlier tuning;
    ``file`` is its name for messages. Raises ConfigError where the file cannot be read, or where
    the result would say anything else than was asked for.
    """
    before = read_toml(data, file)
    text = data.decode("utf-8")
    bom, lines = text.startswith(_BOM), text.count("\r\n") > 0
    plain = text.removeprefix(_BOM).replace("\r\n", "\n")
    kept = "".join(line for line in plain.splitlines(True) if not line.startswith(MARK))
    try:
        document = tomlkit.parse(kept)
        for key, value in changes.items():
            if value is None:
                document.pop(key, None)
            else:
                document[key] = value
        changed = _with_comments(tomlkit.dumps(document), changes, told)
    except TOMLKitError as error:
        raise _cannot(file, str(error)) from None
    result = (
        (_BOM if bom else "") + (changed.replace("\n", "\r\n") if lines else changed)
    ).encode()
    wanted = {key: value for key, value in {**before, **changes}.items() if value is not None}
    if read_toml(result, file) != wanted:
        raise _cannot(file, "its form is too unusual")
    parse_settings(result, file)
    return result


def _with_comments(text: str, changes: Mapping[str, Value], told: Sequence[str]) -> str:
    lines = text.splitlines(True)
    place = next((i for i, line in enumerate(lines) if _sets(line, changes)), None)
    if place is None:  # all of them were taken out: at the end of what is no table
        place = next((i for i, line in enumerate(lines) if line.startswith("[")), len(lines))
    if place and not lines[place - 1].endswith("\n"):
        lines[place - 1] += "\n"
    return "".join([*lines[:place], *(f"{MARK}{line}\n" for line in told), *lines[place:]])


def _sets(line: str, keys: Mapping[str, Value]) -> bool:
    name, equals, _ = line.partition("=")
    return bool(equals) and name.strip().strip("\"'") in keys


def _cannot(file: str, why: str) -> ConfigError:
    return ConfigError(
        f"{file} cannot be changed without changing more of it: {why}",
        where=file,
        fix="set the keys by hand",
    )


def difference(before: bytes, after: bytes, file: str) -> str:
    """Return what changes, in the form of ``diff -u``; empty where nothing does."""
    old, new = (data.decode("utf-8-sig").splitlines() for data in (before, after))
    return "\n".join(difflib.unified_diff(old, new, file, file, n=2, lineterm=""))


def replace(folder: Path, before: bytes | None, after: bytes) -> None:
    """Put ``after`` in the place of a folder's ``servable.toml``, whole or not at all.

    ``before`` is what was read, None where there was no file. Raises ConfigError when it is not
    that any more, or the folder cannot be written.
    """
    file = folder / SETTINGS_FILE
    try:
        real = file.resolve()
        now = real.read_bytes() if real.exists() else None
        if now != before:
            raise ConfigError(
                f"{file} was changed while this measured: nothing was written",
                where=str(file),
                fix="run it once more, or set the keys by hand",
            )
        mode = real.stat().st_mode & 0o777 if now is not None else 0o644
        _swap(real, after, mode)
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written: {os.strerror(error.errno or 0)}",
            where=str(file),
            fix="set the keys by hand",
        ) from None


def _swap(file: Path, data: bytes, mode: int) -> None:
    # Hidden, so that a server that follows the folder does not take it for a file to come.
    number, draft = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(number, "wb") as stream:
            stream.write(data)
            os.fchmod(stream.fileno(), mode)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, file)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        raise
