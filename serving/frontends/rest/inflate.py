"""Unpack compressed request bodies without ever holding more than the limit allows.

Content codings are those of RFC 9110 section 8.4.1: ``gzip`` (RFC 1952, members may follow one
another) and ``deflate`` (the zlib format of RFC 1950; bare RFC 1951 data, which many clients
send under that name, is recognised too).
"""

from __future__ import annotations

import zlib

from serving.errors import InvalidRequest, TooLarge, UnsupportedMedia

_STEP = 1 << 20
_SLICE = 1 << 14
"""Bytes given to zlib at a time: it copies what it leaves, so a large slice costs a square."""

_MAX_MEMBERS = 1 << 14
_GZIP_WINDOW = 31
_ZLIB_WINDOW = 15


def inflate(body: bytes, encoding: bytes, limit: int) -> bytes:
    """Return the body as it was before ``encoding`` (the Content-Encoding header's value).

    ``limit`` bounds the unpacked size in bytes. Raises UnsupportedMedia for a coding that is
    not read here, TooLarge past the limit, InvalidRequest for damaged or unfinished data.
    """
    coding = encoding.strip().lower()
    if coding in (b"", b"identity"):
        return body
    if coding in (b"gzip", b"x-gzip"):
        return _unpack(body, _GZIP_WINDOW, limit)
    if coding == b"deflate":
        return _unpack(body, _ZLIB_WINDOW if _is_zlib(body) else -_ZLIB_WINDOW, limit)
    raise UnsupportedMedia(
        "the body's content coding is not read here",
        code="unsupported_encoding",
        where="header Content-Encoding",
        expected="gzip, deflate or identity",
        given=repr(encoding[:40].decode("latin-1")),
    )


def _is_zlib(body: bytes) -> bool:
    """Return whether the first two bytes are a zlib header (method 8, check divisible by 31)."""
    return len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] * 256 + body[1]) % 31 == 0


def _unpack(body: bytes, window: int, limit: int) -> bytes:
    parts: list[bytes] = []
    room = limit + 1
    start, rest = 0, b""
    for _ in range(_MAX_MEMBERS):
        unpacker = zlib.decompressobj(window)
        while not unpacker.eof:
            if not rest:
                rest = body[start : start + _SLICE]
                start += len(rest)
            part, tail = _step(unpacker, rest, min(_STEP, room))
            if not part and not rest and not unpacker.eof:
                raise _damaged("the data ends too early")
            rest = tail
            room -= len(part)
            if room <= 0:
                raise TooLarge(
                    "the body unpacks to more than this server accepts",
                    code="unpacked_too_large",
                    where="body",
                    expected=f"at most {limit} bytes",
                    fix="send fewer rows at once, or raise --max-request-mb",
                )
            parts.append(part)
        rest = unpacker.unused_data
        if not rest and start >= len(body):
            return b"".join(parts)
        if window != _GZIP_WINDOW:
            raise _damaged("more data follows its end")
    raise _damaged(f"it has more than {_MAX_MEMBERS} members")


def _step(unpacker: zlib._Decompress, data: bytes, most: int) -> tuple[bytes, bytes]:
    try:
        return unpacker.decompress(data, most), unpacker.unconsumed_tail
    except zlib.error:
        raise _damaged("the data is damaged") from None


def _damaged(problem: str) -> InvalidRequest:
    return InvalidRequest(
        f"the compressed body cannot be unpacked: {problem}",
        code="bad_compression",
        where="body",
        fix="the body must be what Content-Encoding says, complete",
    )
