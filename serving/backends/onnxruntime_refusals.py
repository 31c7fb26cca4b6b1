"""What it means when ONNX Runtime does not load a model, and the way out; pure, Python 3.9."""

from __future__ import annotations

import re
from typing import Tuple

_LOADING = re.compile(r"^Load model from .*? failed: ?")
_OLDER = "export it for an older one, or install a newer onnxruntime"
_MEANINGS: Tuple[Tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"Opset (\d+) is under development.*for domain (\S+) is till opset (\d+)"),
        "opset {0} of {1} is newer than ONNX Runtime {version} knows, which is up to {2} "
        f"({_OLDER})",
    ),
    (
        re.compile(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)"),
        "the file is of IR version {0}, newer than ONNX Runtime {version} knows, which is up to "
        f"{{1}} ({_OLDER})",
    ),
    (
        re.compile(r"([^\s:]*:\w+)\(-?\d+\) is not a registered function/op"),
        "ONNX Runtime has no operator {0} (export the model with standard operators: libraries "
        "of custom ones are not loaded)",
    ),
    (
        re.compile(r"Failed to construct locale with name: ?((\w+)[^\s:]*)"),
        "the model changes the case of words by the locale {0}, which this machine lacks (on "
        "Debian and Ubuntu: apt-get install locales, then localedef -i {1} -f UTF-8 {0})",
    ),
    (
        re.compile(r"No Op registered for (\w+) with domain_version of (\d+)"),
        "ONNX Runtime {version} has no operator {0} in opset {1} (export the model with standard "
        "operators of its opset)",
    ),
)


def explained(text: str, version: str) -> str:
    """Return the engine's text on a model that it did not load, in words that lead on.

    ``version`` is the engine's. What is not known keeps the engine's own words.
    """
    return lacking(text, version) or _LOADING.sub("ONNX Runtime refuses the model: ", text)


def lacking(text: str, version: str) -> str:
    """Return what the engine has nothing of, or is too old for; empty for any other text."""
    for pattern, meaning in _MEANINGS:
        found = pattern.search(text)
        if found:
            return meaning.format(*found.groups(), version=version)
    return ""
