"""``serving bench`` against a real ``serving start``, over every protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from serving.bench import sweep
from serving.bench.point import Point
from serving.cli import main
from serving.exit_codes import ExitCode
from tests.server import ServerProcess, serving

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving(ROOT / "servables", tmp_path_factory.mktemp("server")) as running:
        yield running


def bench(server: ServerProcess, *arguments: str) -> Result:
    urls = ("--url", server.base, "--grpc-url", server.grpc)
    short = ("--duration-s", "0.4", "--warm-up-s", "0.1")
    return CliRunner().invoke(main, ["bench", *arguments, *urls, *short])


@pytest.mark.parametrize("protocol", ["predict", "v2-json", "v2-binary", "grpc"])
def test_bench_measures_over_each_protocol(server, tmp_path, protocol):
    file = tmp_path / "out.json"
    result = bench(
        server, "digits", "--protocol", protocol, "--concurrency", "1,8", "--json", str(file)
    )
    assert result.exit_code == 0, result.output
    told = json.loads(file.read_text())
    assert told["inputs"] == "its example"
    assert [p["load"]["clients"] for p in told["points"]] == [1, 8]
    for p in told["points"]:
        assert p["answers"] > 0
        assert (p["wrong"], p["errors"]) == (0, {})
        assert p["rate"] == pytest.approx(p["answers"] / 0.4)
        assert 0 < p["latency_ms"]["p50"] <= p["latency_ms"]["p99"]
        assert sum(p["batches"].values()) > 0


@pytest.mark.parametrize("servable", ["penguins", "language"])
def test_bench_makes_up_inputs_for_any_signature(server, servable):
    result = bench(
        server, servable, "--protocol", "v2-binary", "--rows", "3", "--concurrency", "2",
        "--json", "-",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    assert told["inputs"] == "made up"
    (p,) = told["points"]
    assert p["row_rate"] == pytest.approx(3 * p["rate"])
    assert p["wrong"] == 0


def test_bench_sends_at_a_rate_in_an_open_loop(server, tmp_path):
    page = tmp_path / "out.html"
    result = bench(server, "digits", "--rate", "100", "--plot", str(page))
    assert result.exit_code == 0, result.output
    assert "100/s" in result.output
    assert "<svg" in page.read_text()


def test_bench_sends_the_inputs_of_a_file(server):
    sample = ROOT / "servables" / "language" / "sample.json"
    result = bench(server, "language", "--inputs", str(sample), "--concurrency", "2")
    assert result.exit_code == 0, result.output
    assert f"inputs: {sample}" in result.output


def test_bench_says_what_servables_there_are(server):
    result = bench(server, "digit")
    assert result.exit_code != 0
    assert "did you mean 'digits'" in result.output


def test_bench_says_that_no_server_is_there():
    result = CliRunner().invoke(main, ["bench", "digits", "--url", "http://127.0.0.1:9"])
    assert result.exit_code == ExitCode.NO_SERVER.value
    assert "start one with `serving start`" in result.output


def test_bench_tells_errors_of_the_server_instead_of_figures(server):
    result = bench(server, "digits", "--shape", "image:1,3,3", "--concurrency", "1")
    assert result.exit_code != 0
    assert "the first request was not answered: 4" in result.output


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--rate", "0"),
        ("--concurrency", "1.5"),
        ("--shape", "x"),
        ("--shape", "1,128"),
        ("--whole", "3"),
        ("--whole", "5:2"),
        ("--rate", ""),
        ("--json", "/nowhere/x.json"),
        ("--plot", "/nowhere/x.png"),
    ],
)
def test_bench_refuses_options_that_mean_nothing(option, value):
    result = CliRunner().invoke(main, ["bench", "digits", option, value])
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.output


def test_bench_makes_inputs_up_where_that_is_asked_for_and_not_beside_given_ones(server):
    result = bench(server, "digits", "--whole", "0:9", "--concurrency", "1")
    assert result.exit_code == 0, result.output
    assert "inputs: made up" in result.output
    sample = str(ROOT / "servables" / "digits" / "sample.json")
    result = bench(server, "digits", "--inputs", sample, "--rows", "2")
    assert result.exit_code == ExitCode.USAGE.value
    assert "--rows, --shape and --whole are for inputs that are made up" in result.output


@pytest.mark.parametrize("done", [0, 1])
def test_bench_that_is_interrupted_shows_what_it_has(server, monkeypatch, done):
    whole = sweep.measure

    def measure(plan: sweep.Plan, points: list[Point]) -> None:
        whole(replace(plan, loads=plan.loads[:done]), points)
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "measure", measure)
    result = bench(server, "digits", "--concurrency", "3,5")
    assert result.exit_code == 130
    assert f"Stopped after {done} of 2 loads" in result.output
    assert ("ROWS/RUN" in result.output) == bool(done)


def test_bench_wants_a_port_of_grpc(server):
    wrong = ("--url", server.base, "--protocol", "grpc", "--grpc-url", "localhost")
    result = CliRunner().invoke(main, ["bench", "digits", *wrong])
    assert result.exit_code == ExitCode.USAGE.value
    assert "such as localhost:5500" in result.output
