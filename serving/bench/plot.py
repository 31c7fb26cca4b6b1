"""Draws latency over throughput, one mark for each load: PNG, SVG, or a page with all figures.

Points with ``names`` of their own are settings under one load: they are drawn as bars.
"""

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


def write(
    file: Path, points: Sequence[Point], about: Mapping[str, Any], names: Sequence[str] = ()
) -> None:
    """Draw into a file; ``names`` stand for the points' loads. Raises ConfigError."""
    ending = file.suffix.lower()
    try:
        if ending == ".html":
            file.write_text(_page(points, about, names), encoding="utf-8")
        else:
            file.write_bytes(_drawing(points, about, names, ending[1:]))
    except OSError as error:
        raise ConfigError(f"--plot {file} cannot be written: {error.strerror}") from None


def _title(about: Mapping[str, Any]) -> str:
    return f"{about['servable']} over {about['protocol']}"


def _drawing(
    points: Sequence[Point], about: Mapping[str, Any], names: Sequence[str], kind: str
) -> bytes:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure = _bars(points, names, _title(about)) if names else _curve(points, _title(about))
    drawn = io.BytesIO()
    figure.savefig(drawn, format=kind, dpi=120)
    pyplot.close(figure)
    return drawn.getvalue()


def _curve(points: Sequence[Point], title: str) -> Any:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    rates = [p.rate for p in points]
    for percent in PERCENTILES[:3]:
        name = f"p{percent:g}"
        axes.plot(rates, [p.latency_ms[name] for p in points], marker="o", label=name)
    for p in points:
        axes.annotate(
            p.load.text, (p.rate, p.latency_ms["p50"]), textcoords="offset points", xytext=(4, -12)
        )
    axes.set(xlabel="requests/s answered", ylabel="latency, ms", title=title)
    axes.set_yscale("log")
    _plain_numbers(axes.yaxis)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    return figure


def _bars(points: Sequence[Point], names: Sequence[str], title: str) -> Any:
    from matplotlib import pyplot

    figure, (rates, latencies) = pyplot.subplots(
        1, 2, sharey=True, figsize=(9, 1.6 + 0.28 * len(points)), layout="constrained"
    )
    places = range(len(points))
    rates.barh(places, [p.rate for p in points], color="tab:gray")
    rates.set_yticks(places, names)
    rates.invert_yaxis()
    rates.set(xlabel="requests/s answered")
    for percent in PERCENTILES[:3]:
        name = f"p{percent:g}"
        latencies.plot([p.latency_ms[name] for p in points], places, "o", label=name)
    latencies.set(xlabel="latency, ms")
    latencies.set_xscale("log")
    _plain_numbers(latencies.xaxis)
    latencies.legend()
    for axes in (rates, latencies):
        axes.grid(visible=True, axis="x", which="both", alpha=0.3)
    figure.suptitle(title)
    return figure


def _plain_numbers(axis: Any) -> None:
    """Mark a logarithmic axis at 1, 2, 5, 10, ... as people write them."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _page(points: Sequence[Point], about: Mapping[str, Any], names: Sequence[str]) -> str:
    drawing = _drawing(points, about, names, "svg").decode()
    lines = [row(p) for p in points]
    if names:
        lines = [[name, *line[1:]] for name, line in zip(names, lines, strict=True)]
    cells = ["".join(f"<td>{html.escape(c)}</td>" for c in line) for line in lines]
    said = "".join(f"<li>{html.escape(note)}</li>" for note in notes(points))
    return _PAGE.format(
        title=html.escape(_title(about)),
        about=html.escape(", ".join(f"{k}: {v}" for k, v in about.items())),
        drawing=drawing[drawing.index("<svg") :],
        head="".join(f"<th>{html.escape(name)}</th>" for name in _header(names)),
        rows="".join(f"<tr>{line}</tr>" for line in cells),
        notes=f"<ul>{said}</ul>" if said else "",
    )


def _header(names: Sequence[str]) -> tuple[str, ...]:
    return ("SETTING", *HEADER[1:]) if names else HEADER
