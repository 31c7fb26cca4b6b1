"""The command ``python -m benchmarks``: measure, print, and write the results down.

    python -m benchmarks                        # everything: about 25 minutes
    python -m benchmarks --quick                # one run of a second each: about 4 minutes
    python -m benchmarks --only tiny,lenet --wires rest-json,grpc
    python -m benchmarks --floors               # engine and echoes, without the server
    python -m benchmarks --scaling              # only: two workers against one; writes no file

Needs ``wrk`` and ``h2load`` (Debian: wrk, nghttp2-client). Run it from the project's root.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from pathlib import Path

from benchmarks.load import LoadFailed, MissingGenerator, require_generators
from benchmarks.measure import Plan, Result, measure
from benchmarks.processes import NotStarted
from benchmarks.report import scaling_section, to_json, to_markdown
from benchmarks.scaling import MODEL, Scaling, measure_scaling
from benchmarks.wires import WrongAnswer
from benchmarks.workloads import WORKLOADS, prepare

HERE = Path(__file__).resolve().parent
WIRES = ("rest-json", "v2-json", "v2-binary", "grpc")


def names(known: tuple[str, ...], text: str) -> frozenset[str]:
    """Return the names in a list with commas; raises ArgumentTypeError for one not known."""
    chosen = frozenset(filter(None, text.split(",")))
    if unknown := chosen - set(known):
        raise argparse.ArgumentTypeError(f"no {', '.join(sorted(unknown))}: {', '.join(known)}")
    return chosen


def _arguments() -> argparse.Namespace:
    models = tuple(w.name for w in WORKLOADS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=5, help="length of a run (default 5)")
    parser.add_argument("--runs", type=int, default=3, help="runs a point (default 3)")
    parser.add_argument("--quick", action="store_true", help="the same as --seconds 1 --runs 1")
    parser.add_argument(
        "--only",
        type=lambda text: names(models, text),
        default=frozenset(models),
        help=f"models, with commas: {','.join(models)}",
    )
    parser.add_argument(
        "--wires",
        type=lambda text: names(WIRES, text),
        default=frozenset(WIRES),
        help=f"wire formats, with commas: {','.join(WIRES)}",
    )
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--floors", action="store_true", help="leave the server out")
    parts.add_argument(
        "--scaling",
        action="store_true",
        help=f"measure only what a second worker brings, on {MODEL}, and write no file",
    )
    arguments_of_cache(parser)
    parser.add_argument(
        "--out", type=Path, default=HERE / "RESULTS.md", help="Markdown; .json goes beside it"
    )
    return parser.parse_args()


def arguments_of_cache(parser: argparse.ArgumentParser) -> None:
    """Add where the server's command and what is kept between runs are found."""
    parser.add_argument(
        "--server",
        default=str(Path(sys.executable).with_name("serving")),
        help="the command before 'start' (default: serving, of this Python)",
    )
    argument_of_cache(parser)


def argument_of_cache(parser: argparse.ArgumentParser) -> None:
    """Add where what is kept between runs is found."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or tempfile.gettempdir()) / "serving-benchmarks"
    parser.add_argument("--cache", type=Path, default=cache, help="where models are kept")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _faults(results: list[Result], scaling: Scaling | None) -> list[str]:
    found = [
        f"{r.name} {row.wire} {row.connections}x{row.streams}: {row.errors} errors"
        for r in results
        for row in (*r.echoes, *r.rows)
        if row.errors
    ]
    if scaling is not None:
        rows = ((1, scaling.one), (2, scaling.two))
        found += [f"{scaling.name}, {n} worker(s): {r.errors} errors" for n, r in rows if r.errors]
    return found + [f"{r.name}: the master maps an engine" for r in results if r.engine_mappings]


def main() -> int:
    """Run what was asked for; 0 if every answer was right and the master holds no engine."""
    asked = _arguments()
    seconds, runs = (1.0, 1) if asked.quick else (asked.seconds, asked.runs)
    command = None if asked.floors else shlex.split(asked.server)
    plan = Plan(seconds, runs, command, asked.wires)
    results: list[Result] = []
    scaling: Scaling | None = None
    chosen = {MODEL} if asked.scaling else asked.only
    try:
        require_generators()
        for work in WORKLOADS:
            if work.name not in chosen:
                continue
            case = prepare(work, asked.cache)
            if not asked.scaling:
                results.append(measure(case, plan, _say))
            if work.name == MODEL and command is not None:
                scaling = measure_scaling(case, plan, _say)
    except (MissingGenerator, NotStarted, LoadFailed, WrongAnswer) as error:
        _say(f"error: {error}")
        return 1
    finally:
        # What was measured before a failure took minutes: it is kept.
        if results:
            text = to_markdown(results, plan, scaling)
            asked.out.write_text(text)
            as_json = json.dumps(to_json(results, plan, scaling), indent=1)
            asked.out.with_suffix(".json").write_text(as_json + "\n")
            print(text)
        elif scaling is not None:
            print("\n".join(scaling_section(scaling)))
    faults = _faults(results, scaling)
    for fault in faults:
        _say(f"error: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
