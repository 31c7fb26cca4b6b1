"""What CANN answers, as values or as exceptions: every call's code is looked at here.

Three classes. A code of 1xxxxx is a mistake in what was asked: that request, or that model, fails.
Lack of memory passes. A fault of the device (507xxx), or a context, stream or handle that is no
longer known (107002, 107003, 107017), leaves nothing that this process could trust: the worker ends
and another takes its place.
"""

from __future__ import annotations

import logging
import re
from typing import Any

import acl

from serving.backends.ascend.constants import ERRORS
from serving.backends.base import BackendError, DeviceLost, MemoryExhausted

_log = logging.getLogger("serving.worker")

_EXHAUSTED = {200000, 207001, 207018, 245000}
_LOST = {100001, 107002, 107003, 107017, 107020, 207004, 545601}
_MOST_WORDS = 300


def check(call: str, code: int) -> None:
    """Raise what a code means; 0 is success."""
    if code:
        raise failure(call, code)


def value(call: str, answer: Any) -> Any:
    """Return the value of an answer ``(value, code)``."""
    result, code = answer
    check(call, code)
    return result


def handle(call: str, made: int) -> int:
    """Return a handle that came without a code; 0 means that there was no memory for it."""
    if not made:
        raise MemoryExhausted(f"CANN could not make what {call} makes{_words()}")
    return made


def released(call: str, code: int) -> bool:
    """Tell if something was given up; a refusal is logged and never raised, for others follow."""
    if code:
        _log.warning("%s", failure(call, code))
    return not code


def failure(call: str, code: int) -> BackendError:
    """Return the exception for a code that is not 0."""
    if code in _EXHAUSTED:
        kind: Any = MemoryExhausted
    elif code in _LOST or code // 1000 == 507:
        kind = DeviceLost
    else:
        kind = BackendError
    meaning = f" ({ERRORS[code]})" if code in ERRORS else ""
    return kind(f"CANN's {call} failed with {code}{meaning}{_words()}")  # type: ignore[no-any-return]


def _words() -> str:
    """Return CANN's own words for this thread's last failure, without paths, on one line."""
    told = getattr(acl, "get_recent_err_msg", None)  # not in every release
    text = " ".join(str(told() or "").split()) if told is not None else ""
    text = re.sub(r"(?:/[\w.\-+]+){2,}/?", "…", text)
    return f": {text[:_MOST_WORDS]}" if text else ""
