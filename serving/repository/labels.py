"""Names for versions: ``[labels] stable = 3`` in ``servable.toml``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set

from serving.errors import ConfigError

EXPECTED = "a table {name = version, ...}"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
_NAMES = "letters, digits, '_', '-' and '.', a letter first, 63 at most"

Labels = Mapping[str, int]
NONE: Labels = {}


def is_label(text: str) -> bool:
    """Return whether a text may be a label; a version's number never is."""
    return _NAME.fullmatch(text) is not None


def parse_labels(value: object) -> Labels:
    """Read the TOML value of ``labels``. Raises ConfigError naming the key inside it."""
    if not isinstance(value, dict):
        raise _wrong("labels", EXPECTED, value)
    for name, version in value.items():
        if not is_label(name):
            raise _wrong("labels", f"names of {_NAMES}", name)
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise _wrong(f"labels.{name}", "the number of a version, 1 or more", version)
    return dict(sorted(value.items()))


def offered(labels: Labels, ready: Set[int], before: Labels) -> Labels:
    """Return the labels that may be asked for now, given those of a moment ago.

    A label moves when the version it is to name is ready. Until then it stays where it was, if
    that version still serves: whoever asks for ``stable`` is answered all the while.
    """
    found: dict[str, int] = {}
    for name, version in labels.items():
        if version in ready:
            found[name] = version
        elif before.get(name) in ready:
            found[name] = before[name]
    return found


def problems(labels: Labels, wanted: Set[int], available: Set[int], policy: object) -> list[str]:
    """Say of each label that cannot be offered why, whatever becomes of loading."""
    said = []
    for name, version in labels.items():
        if version not in available:
            said.append(f"label {name!r} is for version {version}, which is not there")
        elif version not in wanted:
            said.append(
                f"label {name!r} is for version {version}, which is not wanted by "
                f"versions = {policy}"
            )
    return said


def _wrong(key: str, expected: str, given: object) -> ConfigError:
    return ConfigError(
        f"key {key!r} has a wrong value", where=key, expected=expected, given=repr(given)[:60]
    )
