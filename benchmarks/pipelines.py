"""What more stage workers bring, and whether a slow method delays a fast one.

    python -m benchmarks.pipelines
    python -m benchmarks.pipelines --only waiting --seconds 2

Methods of a ``servable_config.py`` without models, asked over ``POST /predict`` by clients that
wait for each answer: a function that computes in pure Python, with one and with two stage workers;
one that waits, with one and with four; and a fast one, alone and while clients of a slow method of
the same servable keep asking, or, for what the machine alone costs it, ask another server on the
same cores. Every answer is compared with what the function gives here. The client, the master and
the stage workers share the cores: with fewer than four, the ratio of the computing function says as
much about the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from benchmarks.processes import Running, serving
from benchmarks.watch import percentile
from serving.bench.connection import Answer, HttpConnection

SCENES = ("computing", "waiting", "slow-and-fast")
_MODULUS = 2**31 - 1
_SEEDS = range(1, 9)
_FAST_PAUSE_S = 0.002
_WARM_UP_S = 1.0

FUNCTIONS = '''
import time

from serving import register


def churn(seed, rounds):
    """Work in pure Python: the interpreter's lock is held all the time."""
    value = int(seed)
    for _ in range(int(rounds)):
        value = value * 48271 % 2147483647
    return value


def nap(seconds, seed):
    time.sleep(float(seconds))
    return int(seed) + 1


def step(seed):
    return int(seed) + 2


@register.register_method(output_names=["y"])
def compute(seed, rounds):
    return register.add_stage(churn, seed, rounds, outputs_count=1)


@register.register_method(output_names=["y"])
def wait(seconds, seed):
    return register.add_stage(nap, seconds, seed, outputs_count=1)


@register.register_method(output_names=["y"])
def fast(seed):
    return register.add_stage(step, seed, outputs_count=1)
'''


@dataclass(frozen=True)
class Question:
    """A request as it goes over the wire, and the value that its answer must hold."""

    data: bytes
    expected: int

    def right(self, answer: Answer) -> bool:
        """Return whether the answer holds it."""
        return answer.good and json.loads(answer.body)["instances"] == [{"y": self.expected}]


@dataclass
class Seen:
    """Latencies in milliseconds of right answers, and what was told instead of others."""

    ms: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0
    cpu_s: float = 0.0
    own_s: float = 0.0

    @property
    def cpu_ms(self) -> float:
        """CPU time of all processes of the server for each right answer."""
        return self.cpu_s / max(1, len(self.ms)) * 1e3

    @property
    def own_ms(self) -> float:
        """CPU time of this process, which asks and compares, for each right answer."""
        return self.own_s / max(1, len(self.ms)) * 1e3

    @property
    def rate(self) -> float:
        """Right answers a second."""
        return len(self.ms) / self.seconds


@dataclass(frozen=True)
class Verdict:
    """A ratio held against its aim, and all that went wrong on the way."""

    lines: tuple[str, ...]
    good: bool


def churn(seed: int, rounds: int) -> int:
    """Do here what the servable's function of that name does; powers, so it takes no time."""
    return seed * pow(48271, rounds, _MODULUS) % _MODULUS


def rounds_for(milliseconds: float) -> int:
    """Return how many rounds of ``churn`` take so long here; the best of five tries counts."""
    space: dict[str, Callable[[int, int], int]] = {}
    start, end = FUNCTIONS.index("def churn"), FUNCTIONS.index("def nap")
    exec(FUNCTIONS[start:end], space)
    rounds, took = 50_000, []
    for _ in range(5):
        began = time.perf_counter()
        space["churn"](1, rounds)
        took.append(time.perf_counter() - began)
    return max(1, round(rounds * milliseconds / 1e3 / min(took)))


def lay_out(repository: Path, workers: Sequence[int]) -> Path:
    """Write the servable ``stages<n>`` for each number of workers; return the repository."""
    for number in workers:
        folder = repository / f"stages{number}"
        folder.mkdir(parents=True)
        (folder / "servable_config.py").write_text(FUNCTIONS)
        (folder / "servable.toml").write_text(f"[stages]\nworkers = {number}\n")
    return repository


def question(servable: str, method: str, expected: int, **inputs: float) -> Question:
    """Return a request for one instance."""
    asked = {"servable": servable, "method": method, "instances": [inputs]}
    body = json.dumps(asked).encode()
    head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    return Question(head + body, expected)


def computing(servable: str, rounds: int) -> list[Question]:
    """Return questions for the function that computes."""
    return [
        question(servable, "compute", churn(seed, rounds), seed=seed, rounds=rounds)
        for seed in _SEEDS
    ]


def waiting(servable: str, ms: float) -> list[Question]:
    """Return questions for the function that waits."""
    return [question(servable, "wait", seed + 1, seconds=ms / 1e3, seed=seed) for seed in _SEEDS]


def quick(servable: str) -> list[Question]:
    """Return questions for the fast function."""
    return [question(servable, "fast", seed + 2, seed=seed) for seed in _SEEDS]


async def ask(
    port: int,
    questions: Sequence[Question],
    seen: Seen,
    stop: asyncio.Event,
    pause_s: float = 0.0,
) -> None:
    """Ask one question after the other, each once the last is answered, until told to stop."""
    connection, loop, number = HttpConnection("127.0.0.1", port), asyncio.get_running_loop(), 0
    while not stop.is_set():
        asked = questions[number % len(questions)]
        number += 1
        heard: asyncio.Future[Answer] = loop.create_future()
        began = time.perf_counter()
        connection.send(asked.data, heard.set_result)
        answer = await heard
        if asked.right(answer):
            seen.ms.append((time.perf_counter() - began) * 1e3)
        else:
            seen.wrong.append(f"{answer.status} {answer.body[:200]!r}, not {asked.expected}")
            await asyncio.sleep(0.1)
        if pause_s:
            await asyncio.sleep(pause_s)
    connection.close()


async def load(
    port: int,
    clients: int,
    questions: Sequence[Question],
    seconds: float,
    pause_s: float = 0.0,
    cpu: Callable[[], float] = lambda: 0.0,
) -> Seen:
    """Warm up, then ask for so long; ``cpu`` tells the CPU seconds of the server so far."""
    seen, stop = Seen(), asyncio.Event()
    asking = [
        asyncio.create_task(ask(port, questions, seen, stop, pause_s)) for _ in range(clients)
    ]
    await asyncio.sleep(_WARM_UP_S)
    seen.ms.clear()
    used, own, began = cpu(), time.process_time(), time.perf_counter()
    await asyncio.sleep(seconds)
    counted, seen.seconds = list(seen.ms), time.perf_counter() - began
    seen.cpu_s, seen.own_s = cpu() - used, time.process_time() - own
    stop.set()
    await asyncio.gather(*asking)
    seen.ms[:] = counted
    return seen


async def more_workers(
    running: Running,
    title: str,
    workers: Sequence[int],
    aim: float,
    given: argparse.Namespace,
    questions: Callable[[str], list[Question]],
) -> Verdict:
    """Ask the same of servables with few and with more stage workers."""
    heads = "stage workers | req/s | p50 ms | p99 ms | CPU ms/req | of the clients | wrong"
    lines = [f"### {title}", "", f"| {heads} |", "|" + " --- |" * 7]
    rates: list[float] = []
    wrong: list[str] = []
    for number in workers:
        asked = questions(f"stages{number}")
        seen = await load(running.rest_port, given.clients, asked, given.seconds, cpu=running.cpu_s)
        rates.append(seen.rate)
        wrong += seen.wrong
        lines.append(
            f"| {number} | {seen.rate:.1f} | {percentile(seen.ms, 0.5):.1f} "
            f"| {percentile(seen.ms, 0.99):.1f} | {seen.cpu_ms:.2f} | {seen.own_ms:.2f} "
            f"| {len(seen.wrong)} |"
        )
    ratio = rates[-1] / rates[0] if rates[0] else float("nan")
    lines += ["", f"{workers[-1]} / {workers[0]} stage workers: **{ratio:.2f}** (aim: {aim} or "
              f"more), {given.clients} clients.", "", *wrong[:5]]  # fmt: skip
    return Verdict(tuple(lines), not wrong)


async def slow_and_fast(port: int, other: int, rounds: int, given: argparse.Namespace) -> Verdict:
    """Ask for the fast method alone, beside clients of a slow one, and of one on another server."""
    lines = [
        "### a fast method beside a slow one",
        "",
        "| stage workers | the slow method | fast alone: p50 ms | p99 ms | beside: p50 ms | p99 ms "
        "| p99 beside / alone | slow req/s | slow elsewhere: p99 ms | p99 beside / elsewhere |",
        "|" + " --- |" * 10,
    ]
    wrong: list[str] = []
    for number in (2, 1):
        servable = f"stages{number}"
        slow = {
            f"waits {given.slow_ms:g} ms": waiting(servable, given.slow_ms),
            f"computes {given.slow_ms:g} ms": computing(servable, rounds),
        }
        for name, questions in slow.items():
            alone = await load(port, 1, quick(servable), given.seconds, _FAST_PAUSE_S)
            pairs = [
                await asyncio.gather(
                    load(slow_port, given.slow_clients, questions, given.seconds),
                    load(port, 1, quick(servable), given.seconds, _FAST_PAUSE_S),
                )
                for slow_port in (port, other)
            ]
            (busy, beside), (_, control) = pairs
            wrong += [text for seen in (alone, *pairs[0], *pairs[1]) for text in seen.wrong]
            cells = [percentile(s.ms, share) for s in (alone, beside) for share in (0.5, 0.99)]
            shown = " | ".join(f"{ms:.2f}" for ms in cells)
            elsewhere = percentile(control.ms, 0.99)
            lines.append(
                f"| {number} | {name} | {shown} | **{cells[3] / cells[1]:.2f}** | {busy.rate:.1f} "
                f"| {elsewhere:.2f} | **{cells[3] / elsewhere:.2f}** |"
            )
    lines += ["", "Aim: 1.5 or less with 2 stage workers. One worker can only do one thing at a "
              f"time. {given.slow_clients} clients ask for the slow method, one for the fast one, "
              f"{_FAST_PAUSE_S * 1e3:g} ms after each answer. Wrong answers: {len(wrong)}.",
              "", *wrong[:5]]  # fmt: skip
    return Verdict(tuple(lines), not wrong)


async def scenes(running: Running, repository: Path, given: argparse.Namespace) -> bool:
    """Run what was asked for; print; return whether every answer was right."""
    port, verdicts = running.rest_port, []
    print(f"{len(os.sched_getaffinity(0))} cores, {given.seconds:g} s a row\n")
    if "computing" in given.only:
        questions = functools.partial(computing, rounds=rounds_for(given.compute_ms))
        title = f"a function that computes for {given.compute_ms:g} ms in pure Python"
        verdicts.append(await more_workers(running, title, (1, 2), 1.6, given, questions))
        print("\n".join(verdicts[-1].lines), flush=True)
    if "waiting" in given.only:
        questions = functools.partial(waiting, ms=given.wait_ms)
        title = f"a function that waits for {given.wait_ms:g} ms"
        verdicts.append(await more_workers(running, title, (1, 4), 3.5, given, questions))
        print("\n".join(verdicts[-1].lines), flush=True)
    if "slow-and-fast" in given.only:
        with serving(repository) as another:
            rounds = rounds_for(given.slow_ms)
            verdicts.append(await slow_and_fast(port, another.rest_port, rounds, given))
        print("\n".join(verdicts[-1].lines), flush=True)
    return all(verdict.good for verdict in verdicts)


def main() -> None:
    """Run the scenes; exit status 1 when an answer was wrong. Aims missed are shown, not judged."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipelines", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", nargs="+", choices=SCENES, default=SCENES)
    parser.add_argument("--seconds", type=float, default=5, help="how long each row is measured")
    parser.add_argument("--clients", type=int, default=16, help="of the first two scenes")
    parser.add_argument("--slow-clients", type=int, default=4)
    parser.add_argument("--compute-ms", type=float, default=5)
    parser.add_argument("--wait-ms", type=float, default=20)
    parser.add_argument("--slow-ms", type=float, default=50)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        repository = lay_out(Path(folder), (1, 2, 4))
        with serving(repository) as running:
            right = uvloop.run(scenes(running, repository, given))
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()
