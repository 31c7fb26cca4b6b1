"""Writes metrics in Prometheus' text format, version 0.0.4.

Not OpenMetrics, which Prometheus would prefer if it were offered: there a counter's name must end
in ``_total``, and the names that Triton's dashboards ask for do not.

Source of the format: Prometheus' "Exposition formats".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Literal, NamedTuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]


class Sample(NamedTuple):
    """One number of a family; ``suffix`` is what its name has beyond the family's."""

    labels: Labels
    value: float
    suffix: str = ""


class Family(NamedTuple):
    """Samples that mean the same thing; ``meaning`` is one line for people."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    samples: Sequence[Sample]


def histogram(
    labels: Labels, bounds: Sequence[float], counts: Sequence[int], total: float
) -> list[Sample]:
    """Return a histogram's samples; ``counts`` has one more entry than ``bounds``, for the rest.

    ``total`` is the sum of what was observed.
    """
    edges = [*map(_number, bounds), "+Inf"]
    sums = list(accumulate(counts))
    return [
        *(
            Sample((*labels, ("le", edge)), up_to, "_bucket")
            for edge, up_to in zip(edges, sums, strict=True)
        ),
        Sample(labels, total, "_sum"),
        Sample(labels, sums[-1], "_count"),
    ]


def text(families: Iterable[Family]) -> str:
    """Return the families as one document."""
    lines: list[str] = []
    for name, kind, meaning, samples in families:
        lines.append(f"# HELP {name} {meaning}")
        lines.append(f"# TYPE {name} {kind}")
        lines += [f"{name}{s.suffix}{_labels(s.labels)} {_number(s.value)}" for s in samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join([f'{name}="{_escaped(value)}"' for name, value in labels]) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
