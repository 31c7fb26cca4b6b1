"""Reads the key of an encrypted model from where it lies; no message ever holds a part of it."""

from __future__ import annotations

import base64
import binascii
import os
import stat
import struct
from pathlib import Path

from serving.errors import LoadError
from serving.inspection import DEC_MODES, KeySource

KEY_BYTES = (16, 24, 32)
_MAX_FILE_BYTES = 4096
_MAGICS = dict(zip((0x7F3A5ED8, 0x7F3A5ED9, 0x7F3A5EDA), DEC_MODES, strict=True))
_FORMS = (
    "16, 24 or 32 bytes (16 for SM4-CBC), as they are or written as hex:... or base64:..."
)  # fmt: skip


def key_for(path: Path, source: KeySource | None) -> bytes:
    """Return the key for an encrypted file; raises ``LoadError`` that says what is missing."""
    if source is None:
        raise LoadError(
            "the MindIR file is encrypted and no key is given",
            code="key_missing",
            fix="name it: key_env or key_file in servable.toml, --key-env or --key-file of the "
            "command",
        )
    with path.open("rb") as file:
        mode = _MAGICS.get(struct.unpack("<I", file.read(4).ljust(4, b"\0"))[0], "")
    if source.mode and mode and source.mode != mode:
        raise LoadError(
            "the MindIR file is encrypted in another mode",
            code="wrong_key",
            expected=f"{source.mode}, as dec_mode says",
            given=mode,
            fix=f'set dec_mode to "{mode}", or leave it out',
        )
    return read_key(source)


def read_key(source: KeySource) -> bytes:
    """Return the key itself; raises ``LoadError`` when it is not there or is no key."""
    text = _from_environment(source.env) if source.env else _from_file(source.file)
    where = "the variable for the key" if source.env else "the key file"
    key = _plain(text)
    if key is None and text.endswith(b"\n"):
        key = _plain(text.rstrip(b"\r\n"))
    if key is None:
        raise LoadError(
            f"{where} does not hold a key", code="wrong_key", expected=_FORMS,
            given=f"{len(text)} bytes",
        )  # fmt: skip
    return key


def _plain(text: bytes) -> bytes | None:
    if len(text) in KEY_BYTES:
        return text
    form, _, rest = text.partition(b":")
    try:
        if form == b"hex":
            key = bytes.fromhex(rest.decode("ascii"))
        elif form == b"base64":
            key = base64.b64decode(rest, validate=True)
        else:
            return None
    except (ValueError, binascii.Error):
        return None
    return key if len(key) in KEY_BYTES else None


def _from_environment(name: str) -> bytes:
    value = os.environb.get(os.fsencode(name))
    if value is None:
        raise LoadError(
            # Without its name: some will have written the key itself there.
            "the variable that is to hold the key is not set",
            code="key_missing",
            fix="set it in the environment; key_env (--key-env) is its name, not the key",
        )
    return value


def _from_file(name: str) -> bytes:
    try:
        with open(name, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise LoadError("the key file is not a plain file", code="key_missing")
            return file.read(_MAX_FILE_BYTES)
    except OSError as error:
        told = error.strerror or type(error).__name__
        raise LoadError(
            f"the key file cannot be read: {told}",
            code="key_missing",
            fix="see that the path is right and that the server's user may read it",
        ) from None


def _without_waiting(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NONBLOCK)  # a pipe without a writer would wait for ever
