"""What ``atc`` prints, for people: progress while it runs, and the reason when it fails. Pure.

Its errors carry codes, whose texts differ from release to release; what to do is told by the code.
"""

from __future__ import annotations

import re
import signal
from typing import Dict, List

from serving.errors import LoadError

_CODE = re.compile(r"\b(E[A-Z]?\d{4,5})\b:?\s*(.*)")
_PATH = re.compile(r"(?:/[^/\s:'\"\]]+)+/")
_MOST_TEXT = 300
_LINES_KEPT = 400

_SIZES = "check input_shape and the gears in [options.ascend], or leave them out"
_GEARS = "check batch_sizes and max_batch_size of the servable, or the gears in [options.ascend]"
FIXES: Dict[str, str] = {
    "E10001": "check the value; [options.ascend] of the servable or the server holds it",
    "E10002": _SIZES,
    "E10005": "write true or false",
    "E10006": "write 0 or 1",
    "E10007": "give the parameter in [options.ascend] arguments",
    "E10009": "keep one of dynamic_batch_size, dynamic_image_size and dynamic_dims",
    "E10012": "let the first size of a batched input vary when exporting, or give input_shape "
    "with -1 there",
    "E10013": "check the value; it is out of range",
    "E10014": "check the value",
    "E10016": "check the operator's name; mind that export may have renamed it",
    "E10017": "check the operator's name; mind that export may have renamed it",
    "E10018": "with dynamic_batch_size only the batch may be -1: give the other sizes in "
    "input_shape, or use dynamic_dims",
    "E10031": "let the first size of a batched input vary when exporting, or give input_shape "
    "with -1 there",
    "E10035": _GEARS + "; atc wants two at least",
    "E10036": _GEARS + "; these are too many",
    "E10039": _GEARS + "; one is there twice",
}
_OPERATORS = "the operator is not in this CANN for this chip: upgrade CANN, or export it otherwise"


class Output:
    """The lines that were printed, the last of them at least."""

    def __init__(self) -> None:
        self._lines: List[str] = []

    def add(self, line: str) -> str:
        """Keep a line; returns it as progress for people, empty if it tells none."""
        line = line.strip()
        if not line.strip("."):
            return ""
        self._lines.append(line)
        del self._lines[:-_LINES_KEPT]
        return "" if _CODE.search(line) else _plain(line)

    def failure(self, status: int) -> LoadError:
        """Return why it ended without a model; ``status`` is negative for a signal."""
        if status < 0:
            return LoadError(
                f"atc was ended by {_signal(-status)}{self._last()}",
                code="build_failed",
                fix="look for lack of memory; atc's own log is in ~/ascend/log",
            )
        for index, line in enumerate(self._lines):
            found = _CODE.search(line)
            if found:
                code, text = found.group(1), found.group(2)
                more = self._lines[index + 1 : index + 3] if len(text) < 20 else []
                told = _plain(" ".join([text, *more]))[:_MOST_TEXT]
                return LoadError(f"atc: {code}: {told}", code="build_failed", fix=_fix(code))
        return LoadError(
            f"atc ended with status {status}{self._last()}",
            code="build_failed",
            fix="run atc by hand with --log=info; its own log is in ~/ascend/log",
        )

    def _last(self) -> str:
        return f"; its last words: {_plain(self._lines[-1])}" if self._lines else ""


def _fix(code: str) -> str:
    if code in FIXES:
        return FIXES[code]
    return _OPERATORS if code.startswith(("E19", "EZ3", "EZ9")) else "see atc's own log"


def _plain(text: str) -> str:
    """Return a line without folders, which are nobody's business, and not too long."""
    return _PATH.sub("", " ".join(text.split()))[:_MOST_TEXT]


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
