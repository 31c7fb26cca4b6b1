"""``serving tune``: find the settings with which a servable is fastest on this machine."""

from __future__ import annotations

import contextlib
import math
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serving.cli.bench_inputs import input_options, requests, require_packages
from serving.cli.live_line import LiveLine
from serving.cli.number_list import Numbers
from serving.cli.options import MODEL_DIR_HELP, ModelDir, Seconds, Whole, option
from serving.cli.report import columns, figures_options, write_json
from serving.errors import ConfigError

if TYPE_CHECKING:
    from serving.request import Description
    from serving.tensor import Tensor
    from serving.tune.machine import Machine
    from serving.tune.overlay import Subject
    from serving.tune.report import Typical
    from serving.tune.session import Result, Wish

_MOST_WORKERS = 64
_MOST_FRONTENDS = 64
_CORES_FOR_TWO = 4
"""A second front end takes a core of its own, beside those of workers and clients."""

_NOISY = 0.1

_EPILOG = """
\b
Examples:
  serving tune --model-dir servables digits --latency-ms 20
  serving tune --model-dir servables digits --concurrency 16 --workers 1,2,4 --write
  serving tune --model-dir servables digits --rate 500 --plot digits.html
  serving tune --model-dir models mine --inputs traffic.npz --protocol grpc --max-time-s 900

\b
It starts a server of its own, on free ports and a copy of the servable, and measures settings
under load: max_batch_size, max_queue_delay_ms, threads (keys of servable.toml), --workers and
--frontends of the server. What serves now is not touched, but stop other work on the machine: it
would be measured too.

\b
What is best:
  --concurrency N   most requests a second from N clients, each of which sends its next request
                    when it has its answer; that is the shortest mean latency for them, too
  --rate R          the shortest p99 when R requests a second come, whatever the server does
  --latency-ms MS   the same among the settings whose p99 is MS at most

\b
All values of one setting are measured in turns, round after round, so that a machine that gets
faster or slower touches all alike. One takes the place of another only when it was better in most
rounds, by 5 % at least (10 % in p99) and by more than the noise; what is set stays among equals,
then the plainest: the default, fewer workers. At the end, before and after are measured in turns
once more. The difference for servable.toml is printed; --write makes it, leaving all else in the
file as it is. Exit code 10: nothing meets --latency-ms; 130: Ctrl-C, which writes nothing.

\b
Inputs are, in this order: those of --inputs (what `serving predict` takes: .json, .npz, .npy, a
picture, ...); the example that lies beside the servable; made up from its signature, as they are
whenever --rows, --shape or --whole is given.

\b
The forecast at the end is an upper bound, from costs that were measured: what more workers, and
front ends on cores of their own, would bring. Lines below it hold it against what was measured.
"""


@click.command(
    "tune",
    epilog=_EPILOG,
    short_help="Find the best settings of a servable on this machine.",
    context_settings={"max_content_width": 100},
)
@click.argument("servable")
@option("model-dir", MODEL_DIR_HELP, metavar="DIR", type=ModelDir(), required=True)
@click.option(
    "--latency-ms", type=click.FloatRange(min=0, min_open=True), metavar="MS",
    help="The p99 that must be kept, in milliseconds.",
)  # fmt: skip
@click.option(
    "--concurrency", type=Whole(1, 10_000), metavar="N",
    help="Clients of a closed loop.  [default: 64]",
)  # fmt: skip
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True, max=1e6), metavar="R",
    help="In place of clients: requests a second of an open loop.",
)  # fmt: skip
@click.option(
    "--workers", type=Numbers(whole=True, most=_MOST_WORKERS), metavar="N,N,...",
    help="Numbers of workers to try; the first is what you have now.  [default: 1, and up to the "
    "cores in doubles]",
)  # fmt: skip
@click.option(
    "--frontends", type=Numbers(whole=True, most=_MOST_FRONTENDS), metavar="N,N,...",
    help="Numbers of front-end processes to try; the first is what you have now.  [default: 1, and "
    "2 on four cores and more]",
)  # fmt: skip
@input_options
@click.option(
    "--max-time-s", type=Seconds(min=1), default=300.0, show_default=True, metavar="S",
    help="About how long it may take; what was not tried by then is not.",
)  # fmt: skip
@click.option(
    "--duration-s", type=Seconds(min=0.1), metavar="S",
    help="Length of each measurement.  [default: long enough for 1,000 answers]",
)  # fmt: skip
@click.option(
    "--write/--dry-run", default=False, show_default=True,
    help="Change servable.toml, or print what would change.",
)  # fmt: skip
@figures_options("Draw every setting, latency over throughput: .png, .svg, or .html with a table.")
@click.pass_context
def tune_command(
    ctx: click.Context,
    servable: str,
    model_dir: Path,
    latency_ms: float | None,
    concurrency: int | None,
    rate: float | None,
    workers: tuple[int, ...] | None,
    frontends: tuple[int, ...] | None,
    protocol: str,
    inputs: str | None,
    rows: int,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    whole: tuple[int, int],
    max_time_s: float,
    duration_s: float | None,
    write: bool,
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    """Find the settings with which SERVABLE is fastest here, under your load and latency target."""
    if concurrency is not None and rate is not None:
        raise click.UsageError("give --concurrency or --rate, not both")
    packages = {"hdrh": "hdrhistogram", "tomlkit": "tomlkit"}
    require_packages("tune", packages | ({"matplotlib": "matplotlib"} if plot_file else {}))
    from serving.bench import plot
    from serving.bench.load import Load
    from serving.tune.machine import this_machine
    from serving.tune.report import RULE
    from serving.tune.session import Session, Telling, Wish

    if plot_file is not None:
        plot.check_name(plot_file)
    subject = _subject(model_dir, servable, write)
    machine = this_machine()
    load = Load(rate=rate) if rate is not None else Load(clients=concurrency or 64)
    numbers = tuple(dict.fromkeys(workers or ())) or _doubles(machine.cores)
    fronts = tuple(dict.fromkeys(frontends or ())) or _fronts(machine.cores)
    wish = Wish(load, protocol, latency_ms, numbers, fronts, max_time_s, duration_s)
    quiet = json_file is not None and str(json_file) == "-"
    line = LiveLine()

    def say(text: str) -> None:
        line.clear()
        if not quiet:
            click.echo(text)

    def made(known: Description) -> tuple[list[list[Tensor]], str]:
        return requests(known, inputs, rows, dict(shapes), whole)

    say(f"{servable} version {subject.version}: {_wish_text(wish)}")
    say(f"{RULE}; this takes {wish.max_time_s:g} s at most, Ctrl-C ends it")
    try:
        with (
            _sigterm_as_interrupt(),
            tempfile.TemporaryDirectory(prefix="serving-tune-") as scratch,
        ):
            telling = Telling(line.tell, say)
            result = Session(subject, wish, machine, made, telling, Path(scratch)).run()
    except KeyboardInterrupt:
        line.clear()
        click.echo("Stopped: nothing was written.", err=True)
        ctx.exit(128 + signal.SIGINT)
    line.clear()
    _Ending(result, subject, machine, write, say).tell()
    if json_file is not None:
        write_json(json_file, _document(result, machine))
    if plot_file is not None:
        _draw(plot_file, result)
    _check_target(result)


def _subject(model_dir: Path, servable: str, write: bool) -> Subject:
    from serving.tune.overlay import find

    subject = find(model_dir, servable)
    if write and subject.folder is None:
        raise ConfigError(
            f"servable {servable!r} is a bare file, with no folder for a servable.toml",
            where="--write",
            fix=f"move it to {servable}/1/ in the model directory",
        )
    return subject


def _fronts(cores: int) -> tuple[int, ...]:
    return (1, 2) if cores >= _CORES_FOR_TWO else (1,)


def _interrupt(*_: object) -> None:
    """End as Ctrl-C does, which a shell has its background jobs ignore."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)


def _doubles(cores: int) -> tuple[int, ...]:
    return tuple(1 << p for p in range(cores.bit_length()) if 1 << p <= cores)


def _wish_text(wish: Wish) -> str:
    from serving.tune.report import About

    about = About("", 0, wish.protocol, "", wish.load, wish.target_ms)
    return f"{about.goal_text}, {about.load_text} over {wish.protocol}"


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end the tuning as Ctrl-C does: its server is stopped first."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Ending:
    """Tells what came of it and, if that was asked for, writes it."""

    def __init__(
        self, result: Result, subject: Subject, machine: Machine, write: bool, say: Any
    ) -> None:
        from serving.tune.report import typical

        self._result = result
        self._subject = subject
        self._machine = machine
        self._write = write
        self._say = say
        outcome = result.outcome
        rounds = outcome.last.rounds if outcome.last and outcome.better else 0
        self._before = typical(result.measured, result.start, rounds)
        better = outcome.better
        self._after = typical(result.measured, outcome.setting, rounds) if better else None

    def tell(self) -> None:
        """Print tables, forecast, and what to set."""
        from serving.tune import report

        result, say = self._result, self._say
        say("")
        self._table(report.comparison(self._before, self._after))
        if result.outcome.better and result.outcome.last:
            say(f"after beside before: {report.last_text(result.outcome.last)}")
        for setting, problem in result.problems.items():
            say(f"note: with {report.short(setting, result.start)}: {problem}")
        if not result.outcome.complete:
            say("note: the time was over before all was tried; --max-time-s gives more")
        self._noise()
        self._forecast()
        if not result.outcome.met:
            return  # the error says it
        if self._after is None:
            say("\nNothing that was tried is surely better than what is set: leave it so.")
            return
        self._settings(self._after)

    def _noise(self) -> None:
        from serving.tune.report import last_text

        outcome = self._result.outcome
        if outcome.noise > _NOISY:
            differ = math.expm1(outcome.noise)
            told = f"by {differ:.0%}" if differ < 1 else f"{1 + differ:.1f} times"
            self._say(
                f"note: two measurements of one setting differ {told} here, so that only larger "
                "gains are seen: is other work going on?"
            )
        if outcome.last and not outcome.better:
            self._say(
                "note: in the last comparison the best that was found was "
                f"{last_text(outcome.last)}, which may be chance"
            )

    def _forecast(self) -> None:
        from serving.tune.report import prediction_lines

        found, say = self._result.prediction, self._say
        if found is None:
            say(f"note: no forecast: {self._result.reason}")
            return
        costs, table, checks = prediction_lines(found)
        say(f"\nForecast, not measured: requests/s of {found.load.clients} clients at most,")
        say("and the limit, with cores for everything")
        self._table(table)
        for text in costs:
            say(f"from: {text}")
        for text in checks:
            say(f"here, with {self._machine.cores} cores: {text}")

    def _settings(self, after: Typical) -> None:
        from serving.tune import settings_file
        from serving.tune.report import comments
        from serving.tune.setting import SERVABLE_KEYS, SERVER_KEYS, text

        subject, say = self._subject, self._say
        changes = after.setting.changes(self._result.start)
        server = {name: changes[name] for name in SERVER_KEYS if name in changes}
        if server:
            flags = " ".join(text(name, value) for name, value in server.items())
            lines = ", ".join(f"{name} = {value}" for name, value in server.items())
            say(f"\nFor the server: serving start {flags} (or {lines} in the file of --config)")
        keys = {name: changes[name] for name in SERVABLE_KEYS if name in changes}
        if not keys:
            return
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        told = comments(self._result.about, self._machine.text, when, self._before, after)
        data = subject.data or b""
        changed = settings_file.edited(data, keys, told, subject.file)
        if self._write and subject.folder is not None:
            settings_file.replace(subject.folder, subject.data, changed)
            say(f"\nWritten to {subject.file}:")
        else:
            say(f"\nFor {subject.file}; --write makes this change:")
        say(settings_file.difference(data, changed, subject.file))

    def _table(self, lines: Sequence[Sequence[str]]) -> None:
        for text in columns([list(line) for line in lines]):
            self._say(text)


def _check_target(result: Result) -> None:
    """Raise ConfigError when no setting that was measured meets the target."""
    from serving.bench.point import milliseconds
    from serving.tune.report import each, figure, short, typical

    if result.outcome.met:
        return
    settings = [setting for setting, _ in each(result.measured)]
    best = min((typical(result.measured, s) for s in settings), key=lambda t: t.p99_ms)
    p99 = f"{milliseconds(best.p99_ms)} ms"
    assert result.about.target_ms is not None
    if best.p99_ms <= result.about.target_ms:
        raise ConfigError(
            f"no setting was shown to keep a p99 of {result.about.target_ms:g} ms in this time; "
            "nothing was written",
            code="target_missed",
            given=f"{p99} now and then ({short(best.setting, result.start)})",
            fix="a longer --max-time-s, and no other work on the machine",
        )
    raise ConfigError(
        f"no setting that was measured keeps a p99 of {result.about.target_ms:g} ms; nothing was "
        "written",
        code="target_missed",
        given=f"at best {p99} at {figure(best.rate)} requests/s "
        f"({short(best.setting, result.start)})",
        fix="a smaller --concurrency or --rate, a faster model, or a longer target",
    )


def _document(result: Result, machine: Machine) -> dict[str, Any]:
    from serving.tune.report import document

    return document(
        result.about, asdict(machine), result.outcome, result.start, result.measured,
        result.decisions, result.prediction,
    )  # fmt: skip


def _draw(file: Path, result: Result) -> None:
    from serving.bench import plot
    from serving.tune.report import each, short

    pairs = each(result.measured)
    about = {
        "servable": result.about.servable,
        "protocol": result.about.protocol,
        "load": result.about.load_text,
        "wanted": result.about.goal_text,
    }
    names = [short(setting, result.start) for setting, _ in pairs]
    plot.write(file, [point for _, point in pairs], about, names)
