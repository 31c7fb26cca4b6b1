"""Turns results into a table for people (Markdown) and one for programs (JSON)."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import Plan, Result, Row
from benchmarks.scaling import Scaling

PACKAGES = ("onnxruntime", "uvicorn", "uvloop", "httptools", "grpcio", "protobuf", "numpy")
ECHO_OF = {"rest-json": "asgi", "v2-json": "asgi", "v2-binary": "asgi", "grpc": "grpcio"}


def machine() -> dict[str, Any]:
    """Describe where this ran: processor, cores this process may use, versions."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def share_of_echo(row: Row, echoes: Sequence[Row]) -> float | None:
    """Return the row's rate over the echo's with the same body and concurrency, if measured."""
    for other in echoes:
        same = (other.wire, other.connections, other.streams)
        if same == (row.wire, row.connections, row.streams):
            return row.rate / other.rate
    return None


def to_json(
    results: Sequence[Result], plan: Plan, scaling: Scaling | None = None
) -> dict[str, Any]:
    """Return everything that was measured, shares included, in a form that JSON can hold."""
    found = []
    for result in results:
        plain = dataclasses.asdict(result)
        for row, shown in zip(result.rows, plain["rows"], strict=True):
            shown["share_of_echo"] = share_of_echo(row, result.echoes)
            shown["share_of_limit"] = row.rate / result.limit.rate
        found.append(plain)
    plan_shown = {"seconds": plan.seconds, "runs": plan.runs}
    told: dict[str, Any] = {"machine": machine(), "plan": plan_shown, "results": found}
    if scaling is not None:
        told["scaling"] = {**dataclasses.asdict(scaling), "ratio": scaling.ratio}
    return told


def to_markdown(results: Sequence[Result], plan: Plan, scaling: Scaling | None = None) -> str:
    """Return the whole report."""
    about = machine()
    packages = ", ".join(f"{name} {about[name]}" for name in PACKAGES)
    lines = [
        "# Benchmark results",
        "",
        f"{about['cpu']}, {about['cores']} cores; {about['system']}; Python {about['python']}; "
        f"{packages}.",
        "",
        f"Load from `wrk` and `h2load` on the same cores; {plan.runs} x {plan.seconds:g} s a row, "
        "medians; answers compared with ONNX Runtime before every run. Rates differ from machine "
        "to machine: read the shares. *Share of echo*: the same body sent to a server made of the "
        "same library that only returns it (uvicorn ASGI for HTTP, grpc.aio for gRPC). *Share of "
        "limit*: bare ONNX Runtime in a loop, at its best batch size, with as many one-thread "
        "processes as the server has workers. *c* is connections x requests open on each. *Other "
        "load* is what the rest of the machine was doing meanwhile, in cores: a row with more "
        "than 0.1 there is too low.",
    ]
    for result in results:
        lines += ["", *_section(result)]
    if scaling is not None:
        lines += ["", *scaling_section(scaling)]
    return "\n".join(lines) + "\n"


def scaling_section(scaling: Scaling) -> list[str]:
    """Return the lines on what a second worker brings."""
    lines = [
        f"## {scaling.name}, two workers against one",
        "",
        f"2 workers / 1 worker = **{scaling.ratio:.2f}** in requests/s, {scaling.clients} clients, "
        f"{scaling.wire}. The master and the load generator need cores too: with fewer than four "
        "this says more about the machine than about the server.",
        "",
        "| workers | req/s (all runs) | p50 ms | p99 ms | CPU us/req | errors | other load |",
        "|" + " --- |" * 7,
    ]
    for workers, row in ((1, scaling.one), (2, scaling.two)):
        runs = "/".join(_rate(rate) for rate in row.rates)
        lines.append(
            f"| {workers} | **{_rate(row.rate)}** ({runs}) | {row.p50_ms:.3g} | {row.p99_ms:.3g} "
            f"| {row.cpu_us:.0f} | {row.errors} | {row.other_cores:.2f} |"
        )
    return lines


def _section(result: Result) -> list[str]:
    limit = result.limit
    lines = [
        f"## {result.name}, {result.workers} worker{'s' if result.workers > 1 else ''}",
        "",
        f"Limit of the engine: {_rate(limit.rate)} rows/s at batch {limit.batch} ("
        + ", ".join(f"{batch}: {_rate(rate)}" for batch, rate in limit.rates.items())
        + ").",
    ]
    if result.rows:
        lines += ["", *_table("server", result.rows, result)]
    if result.echoes:
        lines += ["", *_table("echo", result.echoes, None)]
    if result.memory:
        lines += ["", *_processes(result)]
    return lines


def _table(title: str, rows: Sequence[Row], result: Result | None) -> list[str]:
    heads = [
        title,
        "c",
        "req/s (all runs)",
        "p50 ms",
        "p99 ms",
        "CPU us/req",
        "errors",
        "other load",
    ]
    heads += ["share of echo", "share of limit"] if result else []
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for row in rows:
        name = row.wire if result else f"{ECHO_OF[row.wire]}, {row.wire} body"
        runs = "/".join(_rate(rate) for rate in row.rates)
        cells = [name, f"{row.connections}x{row.streams}", f"**{_rate(row.rate)}** ({runs})"]
        cells += [f"{row.p50_ms:.3g}", f"{row.p99_ms:.3g}", f"{row.cpu_us:.0f}", str(row.errors)]
        cells.append(f"{row.other_cores:.2f}")
        if result:
            share = share_of_echo(row, result.echoes)
            cells.append("" if share is None else _percent(share))
            cells.append(_percent(row.rate / result.limit.rate))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _processes(result: Result) -> list[str]:
    parts = ", ".join(f"{role} {pss:.0f} MiB" for role, _, pss in result.memory)
    total = sum(pss for _, _, pss in result.memory)
    if result.engine_mappings:
        names = ", ".join(Path(f).name for f in result.engine_mappings)
        proof = f"**The master maps engine files: {names}.**"
    else:
        proof = "No file of onnxruntime or onnx is mapped into the master."
    return [
        f"Ready after {result.ready_s:.2f} s, first right answer after "
        f"{result.first_answer_s:.2f} s. Memory after the load (PSS): {parts}; "
        f"{total:.0f} MiB in all. {proof}",
    ]


def _rate(rate: float) -> str:
    if rate >= 10_000:
        return f"{rate / 1000:.1f}k"
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{share * 100:.2g}%"
