"""NaN and the infinities as bare words, which JSON has not and TensorFlow Serving reads and writes.

Source: "JSON conformance" in g3doc/api_rest.md of its repository. Python's ``json`` writes and
reads the same words.
"""

from __future__ import annotations

import re

import numpy as np

from serving.frontends.rest import json_answer
from serving.tensor import BF16, Array, Tensor, bf16_to_float32

_WORD = re.compile(rb"NaN|Inf(?:inity)?")
_NULL = re.compile(b"null")


def quoted(body: bytes) -> bytes:
    """Return a JSON text whose bare words stand in quotes, as ``json_tensor`` reads them.

    Whether a word is within a string is told by the quotes before it, which are counted: to match
    strings would keep other threads waiting for as long as a large body takes.
    """
    if b"NaN" not in body and b"Inf" not in body:
        return body
    pieces: list[bytes] = []
    at, in_string = 0, False
    for found in _WORD.finditer(body):
        before, word, at = body[at : found.start()], found[0], found.end()
        in_string ^= _quotes(before) % 2 == 1
        if not in_string:
            sign = b"-" if before.endswith(b"-") else b""
            before = before.removesuffix(b"-")
            word = b'"NaN"' if word == b"NaN" else b'"%bInfinity"' % sign
        pieces += (before, word)
    pieces.append(body[at:])
    return b"".join(pieces)


def _quotes(text: bytes) -> int:
    """Return how many strings begin or end in a text; an escaped quote does neither."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    return text.count(b'"')


def numbers(tensor: Tensor) -> Array:
    """Return a tensor's array as numbers that ``text`` writes (BF16 as the floats it means)."""
    assert tensor.array is not None
    array = np.ascontiguousarray(tensor.array).reshape(tensor.shape)
    return bf16_to_float32(array) if tensor.dtype is BF16 else array


def text(array: Array) -> bytes:
    """Write an array; floats with the fewest digits that read back the same, all with a point."""
    written = json_answer.dumps(json_answer.plain(array))
    if array.dtype.kind != "f" or b"null" not in written:
        return written
    # Only what is not finite was written as null, in this order.
    flat = array.reshape(-1)
    words = iter([_word(float(value)) for value in flat[~np.isfinite(flat)]])
    return _NULL.sub(lambda _: next(words), written)


def rows(array: Array) -> list[bytes]:
    """Write the rows of an array with an axis at least."""
    found = json_answer.rows(array) if array.size else None
    if found is None:  # some of it JSON does not have, or there is nothing in it
        return [text(np.asarray(row)) for row in array]
    before, texts, after = found
    return [before + row + after for row in texts]


def _word(value: float) -> bytes:
    if value != value:
        return b"NaN"
    return b"Infinity" if value > 0 else b"-Infinity"
