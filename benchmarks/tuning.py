"""``serving tune`` on three servables, again and again: before, after, and whether it is stable.

    python -m benchmarks.tuning                 # three runs each, in turns: about 12 minutes
    python -m benchmarks.tuning --only digits --runs 2

The servables are the packaged ``digits``, a LeNet, and the transformer of the other benchmarks,
with their default settings and 64 clients over ``POST /predict``. Nothing is written into them.
Needs the ``bench`` extra. Exit status 1: a tuning failed, or its runs came to different settings.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.__main__ import HERE, argument_of_cache, names
from benchmarks.processes import tie
from benchmarks.workloads import WORKLOADS, prepare

DIGITS = "digits"
OPTIONS = {DIGITS: [], "lenet": [], "transformer": ["--whole", "0:1000"]}
"""The servables, and what their inputs need to be told of."""

COLUMNS = ("before", "after", "gain", "p99 ms before", "after", "measured", "settings")


class TuningFailed(Exception):
    """A tuning ended badly; the text holds what it printed."""


def folder(name: str, cache: Path) -> Path:
    """Return the model directory of a servable, which is written where it has to be."""
    if name == DIGITS:
        return HERE.parent / "servables"
    (work,) = (w for w in WORKLOADS if w.name == name)
    return prepare(work, cache).model_dir


def tune(name: str, model_dir: Path, limits: Sequence[str]) -> dict[str, Any]:
    """Run ``serving tune`` once; returns what its ``--json`` holds. Raises TuningFailed."""
    with tempfile.TemporaryDirectory() as scratch:
        told = Path(scratch) / "told.json"
        command = [sys.executable, "-m", "serving", "tune", "--model-dir", str(model_dir), name]
        command += [*limits, "--json", str(told), *OPTIONS[name]]
        ended = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=tie(),
            check=False,
        )  # fmt: skip
        if ended.returncode or not told.exists():
            raise TuningFailed(f"tuning {name} ended with {ended.returncode}:\n{ended.stdout}")
        print(ended.stdout, file=sys.stderr, flush=True)
        found: dict[str, Any] = json.loads(told.read_text())
        return found


def setting_text(found: dict[str, Any]) -> str:
    """Return what a tuning changes, as people write it; "as it is" where it is nothing."""
    before, after = found["before"], found["after"]
    changed = [f"{k} = {v}" for k, v in after.items() if v != before[k]]
    return ", ".join(changed) or "as it is"


def row(found: dict[str, Any]) -> list[str]:
    """Return the cells of one tuning: medians of its last comparison, or of the start alone."""
    before, after = (_typical(found, found[side]) for side in ("before", "after"))
    return [
        f"{before[0]:,.0f}", f"{after[0]:,.0f}", f"{after[0] / before[0] - 1:+.0%}",
        f"{before[1]:.1f}", f"{after[1]:.1f}", str(len(found["measurements"])),
        setting_text(found),
    ]  # fmt: skip


def _typical(found: dict[str, Any], setting: dict[str, Any]) -> tuple[float, float]:
    last = found["last"]["rounds"] if found["better"] else 0
    points = [m["point"] for m in found["measurements"] if m["setting"] == setting][-last:]
    return median(p["rate"] for p in points), median(p["latency_ms"]["p99"] for p in points)


def report(runs: dict[str, list[dict[str, Any]]]) -> str:
    """Return the table as Markdown, and a line on each servable's settings."""
    lines = ["| servable | run | " + " | ".join(COLUMNS) + " |", "|" + " --- |" * 9]
    for name, each in runs.items():
        for number, found in enumerate(each, 1):
            lines.append(f"| {name} | {number} | " + " | ".join(row(found)) + " |")
    lines.append("")
    for name, each in runs.items():
        counted = Counter(map(setting_text, each))
        told = "; ".join(f"{text} ({count} of {len(each)})" for text, count in counted.items())
        lines.append(
            f"- {name}: {'the same each time' if len(counted) == 1 else 'UNEQUAL'}: {told}"
        )
    return "\n".join(lines) + "\n"


def measure(chosen: Iterable[str], runs: int, cache: Path, limits: Sequence[str]) -> bool:
    """Tune all in turns and print after each round; returns whether settings were stable."""
    folders = {name: folder(name, cache) for name in OPTIONS if name in chosen}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in folders}
    for number in range(runs):
        for name, model_dir in folders.items():
            print(f"run {number + 1} of {runs}: {name}", file=sys.stderr, flush=True)
            found[name].append(tune(name, model_dir, limits))
    print(report(found))
    return all(len(set(map(setting_text, each))) == 1 for each in found.values())


def main(arguments: Sequence[str] | None = None) -> int:
    """Tune and print; 0 if each servable came to the same settings every time."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuning", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--runs", type=int, default=3, help="tunings of each (default 3)")
    parser.add_argument("--max-time-s", type=float, default=150, help="of each (default 150)")
    parser.add_argument(
        "--duration-s", type=float, default=0.6, help="of each measurement (default 0.6)"
    )
    parser.add_argument(
        "--only", type=lambda text: names(tuple(OPTIONS), text), default=frozenset(OPTIONS),
        help=f"servables, with commas: {','.join(OPTIONS)}",
    )  # fmt: skip
    argument_of_cache(parser)
    asked = parser.parse_args(arguments)
    try:
        limits = ["--max-time-s", str(asked.max_time_s), "--duration-s", str(asked.duration_s)]
        return 0 if measure(asked.only, asked.runs, asked.cache, limits) else 1
    except TuningFailed as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
