"""Draws latency over throughput, one mark for each load: PNG, SVG, or a page with all figures."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serving.bench.point import HEADER, PERCENTILES, Point, notes, row
from serving.errors import ConfigError

ENDINGS = (".png", ".svg", ".html")

_PAGE = """<!doctype html><meta charset="utf-8"><title>{title}</title>
<style>body{{font:15px/1.5 system-ui;max-width:60em;margin:2em auto;padding:0 1em;color:#222}}
table{{border-collapse:collapse}}th,td{{text-align:right;padding:.2em .9em;border-bottom:1px solid
#ddd}}svg{{max-width:100%;height:auto}}</style>
<h1>{title}</h1><p>{about}</p>{drawing}<table><tr>{head}</tr>{rows}</table>{notes}
"""


def check_name(file: Path) -> None:
    """Raise ConfigError for a name that is not one of a plot."""
    if file.suffix.lower() not in ENDINGS:
        raise ConfigError(
            f"--plot {file} says not what to draw",
            where="--plot",
            expected=f"a name ending in {', '.join(ENDINGS)}",
        )


def write(file: Path, points: Sequence[Point], about: Mapping[str, Any]) -> None:
    """Draw into a file. Raises ConfigError when it cannot be written."""
    ending = file.suffix.lower()
    try:
        if ending == ".html":
            file.write_text(_page(points, about), encoding="utf-8")
        else:
            file.write_bytes(_drawing(points, about, ending[1:]))
    except OSError as error:
        raise ConfigError(f"--plot {file} cannot be written: {error.strerror}") from None


def _title(about: Mapping[str, Any]) -> str:
    return f"{about['servable']} over {about['protocol']}"


def _drawing(points: Sequence[Point], about: Mapping[str, Any], kind: str) -> bytes:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    rates = [p.rate for p in points]
    for percent in PERCENTILES[:3]:
        name = f"p{percent:g}"
        axes.plot(rates, [p.latency_ms[name] for p in points], marker="o", label=name)
    for p in points:
        axes.annotate(
            p.load.text, (p.rate, p.latency_ms["p50"]), textcoords="offset points", xytext=(4, -12)
        )
    axes.set(xlabel="requests/s answered", ylabel="latency, ms", title=_title(about))
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    drawn = io.BytesIO()
    figure.savefig(drawn, format=kind, dpi=120)
    pyplot.close(figure)
    return drawn.getvalue()


def _page(points: Sequence[Point], about: Mapping[str, Any]) -> str:
    drawing = _drawing(points, about, "svg").decode()
    cells = ["".join(f"<td>{html.escape(c)}</td>" for c in row(p)) for p in points]
    said = "".join(f"<li>{html.escape(note)}</li>" for note in notes(points))
    return _PAGE.format(
        title=html.escape(_title(about)),
        about=html.escape(", ".join(f"{k}: {v}" for k, v in about.items())),
        drawing=drawing[drawing.index("<svg") :],
        head="".join(f"<th>{html.escape(name)}</th>" for name in HEADER),
        rows="".join(f"<tr>{line}</tr>" for line in cells),
        notes=f"<ul>{said}</ul>" if said else "",
    )
