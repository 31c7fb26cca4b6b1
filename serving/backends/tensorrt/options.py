"""What a servable may ask of TensorRT, by the names that ``docs/tensorrt.md`` gives.

One table for builder and worker: each takes its own part, and a name that neither knows is an
error for both.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Dict, Mapping, Tuple

from serving.backends.base import BackendError

Range = Tuple[Tuple[int, ...], Tuple[int, ...], Tuple[int, ...]]
"""The smallest, usual and largest shape of an input."""

PROFILE = "profile."
_KNOWN = (
    "precision", "memory_pool_mb", "optimization_level", "hardware_compatibility",
    "compute_capability", "cuda_graphs", "engine_host_code",
)  # fmt: skip
_PRECISIONS = ("as_exported", "fp16", "bf16")


@dataclass(frozen=True)
class Options:
    """Build: precision, pool, level, compatibility, profiles. Run: graphs, host code."""

    precision: str = "as_exported"
    memory_pool_mb: int = 0
    optimization_level: int = -1
    hardware_compatibility: str = "none"
    compute_capability: str = ""
    cuda_graphs: bool = True
    engine_host_code: bool = False
    profiles: Mapping[str, Range] = field(default_factory=dict)

    @staticmethod
    def parse(told: Mapping[str, str]) -> "Options":
        """Read settings; raises BackendError naming the option, what it takes and what it got."""
        profiles: Dict[str, Range] = {}
        for key, text in told.items():
            if key.startswith(PROFILE):
                profiles[key[len(PROFILE) :]] = _range(key, text)
            elif key not in _KNOWN:
                near = difflib.get_close_matches(key, _KNOWN, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(_KNOWN)}"
                raise BackendError(f"TensorRT has no option {key!r} ({hint})")
        return Options(
            _choice(told, "precision", _PRECISIONS),
            _number(told, "memory_pool_mb", 0, 1, 1 << 20),
            _number(told, "optimization_level", -1, 0, 5),
            _choice(told, "hardware_compatibility", ("none", "ampere_plus", "same_capability")),
            told.get("compute_capability", ""),
            _choice(told, "cuda_graphs", ("on", "off")) == "on",
            _choice(told, "engine_host_code", ("refuse", "allow")) == "allow",
            profiles,
        )


def _choice(told: Mapping[str, str], key: str, known: Tuple[str, ...]) -> str:
    given = told.get(key, known[0])
    if given not in known:
        raise BackendError(f"TensorRT option {key!r} takes {' or '.join(known)}, given {given!r}")
    return given


def _number(told: Mapping[str, str], key: str, default: int, least: int, most: int) -> int:
    if key not in told:
        return default
    text = told[key]
    if not text.isdigit() or not least <= int(text) <= most:
        raise BackendError(
            f"TensorRT option {key!r} takes a number from {least} to {most}, given {text!r}"
        )
    return int(text)


def _range(key: str, text: str) -> Range:
    """Read ``1x16,8x128,32x512``: the smallest, usual and largest shape."""
    try:
        shapes = [tuple(int(size) for size in part.split("x")) for part in text.split(",")]
        smallest, usual, largest = shapes
        if not len(smallest) == len(usual) == len(largest):
            raise ValueError
        if not all(0 <= a <= b <= c for a, b, c in zip(smallest, usual, largest)):
            raise ValueError
    except ValueError:
        raise BackendError(
            f"TensorRT option {key!r} takes the smallest, usual and largest shape of the input, "
            f"such as '1x16,8x128,32x512', given {text!r}"
        ) from None
    return smallest, usual, largest
