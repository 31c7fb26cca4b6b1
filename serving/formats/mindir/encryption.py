"""Decrypts files that MindSpore wrote with ``enc_key``: MindIR, split weights, checkpoints.

A file is a row of blocks, numbers little-endian, no part aligned (seen in files of 2.0.0 and
2.10.0, and in mindspore/core/utils/crypto.cc)::

    u32 magic | 16 bytes tag, AES-GCM only | i32 block bytes | i32 iv bytes | iv |
    i32 cipher bytes | cipher

Block bytes counts what follows it. AES-GCM uses the first 12 bytes of the iv as its nonce and
authenticates nothing else; the CBC modes pad as PKCS #7 says.
"""

from __future__ import annotations

import struct
from typing import Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from serving.errors import LoadError
from serving.formats.mindir.broken import broken

AES_GCM, AES_CBC, SM4_CBC = 0x7F3A5ED8, 0x7F3A5ED9, 0x7F3A5EDA
_TAG_BYTES, _NONCE_BYTES, _BLOCK_BITS = 16, 12, 128
_MAX_IV_BYTES = 64


def is_encrypted(head: bytes | memoryview) -> bool:
    """Return whether a file that begins with ``head`` (4 bytes do) is encrypted."""
    return len(head) >= 4 and struct.unpack_from("<I", head)[0] in (AES_GCM, AES_CBC, SM4_CBC)


def decrypt(data: bytes | memoryview, key: bytes) -> bytes:
    """Return the plain content; raises ``LoadError`` for a wrong key or a damaged file."""
    try:
        return b"".join(_blocks(memoryview(data), key))
    except struct.error as error:
        raise broken("its encrypted content is cut short") from error
    except (InvalidTag, ValueError) as error:
        raise LoadError(
            "the encrypted file does not open with this key",
            code="wrong_key",
            expected="the key (16, 24 or 32 bytes; 16 for SM4) that it was exported with",
            given=f"a key of {len(key)} bytes",
            fix="check the key; if it is right, copy the file again",
        ) from error


def _blocks(data: memoryview, key: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        (magic,) = struct.unpack_from("<I", data, at)
        at += 4
        if magic not in (AES_GCM, AES_CBC, SM4_CBC):
            raise broken("its encrypted content holds a block of an unknown kind")
        tag = b""
        if magic == AES_GCM:
            tag, at = _take(data, at, _TAG_BYTES)
        (_, iv_bytes) = struct.unpack_from("<ii", data, at)
        if not 0 < iv_bytes <= _MAX_IV_BYTES:
            raise broken("its encrypted content has an impossible size")
        iv, at = _take(data, at + 8, iv_bytes)
        (cipher_bytes,) = struct.unpack_from("<i", data, at)
        cipher, at = _take(data, at + 4, cipher_bytes)
        yield _plain(magic, key, iv, tag, cipher)


def _take(data: memoryview, at: int, count: int) -> tuple[bytes, int]:
    if count < 0 or at + count > len(data):
        raise struct.error
    return bytes(data[at : at + count]), at + count


def _plain(magic: int, key: bytes, iv: bytes, tag: bytes, cipher: bytes) -> bytes:
    if magic == AES_GCM:
        opened = Cipher(algorithms.AES(key), modes.GCM(iv[:_NONCE_BYTES], tag)).decryptor()
        return opened.update(cipher) + opened.finalize()
    algorithm = algorithms.AES(key) if magic == AES_CBC else algorithms.SM4(key)
    chain = Cipher(algorithm, modes.CBC(iv)).decryptor()
    padded = chain.update(cipher) + chain.finalize()
    unpadder = padding.PKCS7(_BLOCK_BITS).unpadder()
    return unpadder.update(padded) + unpadder.finalize()
