"""The commonest JSON body of a V2 call, kept as a frame: one input, its numbers in one flat list.

Clients write the same body again and again, and only the numbers in it change: what stands before
and behind them is understood once, as in ``predict_frame``. Whatever does not fit a frame is left
to ``v2_plain`` and ``v2_codec``; all of them read the same from what they can read.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from serving.frontends.rest.plain_numbers import Packer, packer
from serving.frontends.rest.v2_plain import LARGEST_BYTES, Plain
from serving.request import Description
from serving.tensor import Tensor

_LONGEST_START = 512
_MOST_FRAMES = 2048
_DATA = re.compile(rb'"data"[ \t\r\n]*:[ \t\r\n]*\Z')


class Frame(NamedTuple):
    """What stands behind the numbers, and what the whole means but for them."""

    end: bytes
    description: Description
    plain: Plain
    packer: Packer


_frames: dict[tuple[int, bytes], Frame] = {}


def find(body: bytes, description: Description) -> tuple[Frame, int] | None:
    """Return the frame of a body, and where its numbers begin."""
    at = body.rfind(b"[")
    frame = _frames.get((id(description), body[:at])) if at <= _LONGEST_START else None
    if frame is None or frame.description is not description or not body.endswith(frame.end):
        return None
    return None if len(body) > LARGEST_BYTES else (frame, at)


def read(body: bytes, description: Description) -> Plain | None:
    """Return what a body says, if it fits a frame."""
    found = find(body, description)
    if found is None:
        return None
    frame, at = found
    text = body[at : len(body) - len(frame.end)]
    array = frame.packer.rows((text[1:-1],)) if text.endswith(b"]") else None
    if array is None:
        return None
    (like,) = frame.plain.inputs
    tensor = Tensor(like.name, like.dtype, like.shape, array)
    return Plain((tensor,), frame.plain.outputs, "")


def remember(body: bytes, description: Description, plain: Plain) -> None:
    """Keep the frame of a body that ``v2_plain`` has read, if its last list is its numbers.

    Those are what ``"data":`` stands before: ``v2_plain`` reads nothing with escapes in it, so that
    no string can hold those letters. Ids differ from call to call.
    """
    at = body.rfind(b"[")
    if len(plain.inputs) != 1 or plain.id or at > _LONGEST_START or not _DATA.search(body[:at]):
        return
    (tensor,) = plain.inputs
    packs = packer(tensor.shape, tensor.dtype)
    if packs is None or not tensor.shape or b'"id"' in body:
        return
    if len(_frames) >= _MOST_FRAMES:
        _frames.clear()
    like = Tensor(tensor.name, tensor.dtype, tensor.shape)
    end = body[body.index(b"]", at) + 1 :]
    kept = Plain((like,), plain.outputs, "")
    _frames[id(description), body[:at]] = Frame(end, description, kept, packs)
