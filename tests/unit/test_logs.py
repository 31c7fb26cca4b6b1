"""Log lines as text and JSON, and lines of workers relayed."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving import logs

Start = Callable[..., io.StringIO]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that configures logging into a buffer; put the root logger back after."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def configure(form: str, level: str = "debug", process: str = "master") -> io.StringIO:
        stream = io.StringIO()
        logs.configure(form, level, process, stream)
        return stream

    yield configure
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def documents(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


LOG = logging.getLogger("serving.somewhere")


def test_text_line_is_time_level_process_message_and_fields(start: Start) -> None:
    stream = start("text")
    LOG.info("loaded %s", "it", extra={"servable": "digits", "version": 2, "took_s": 0.25})
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d{3} INFO  master    loaded it servable=digits version=2 took_s=0\.25\n",
        stream.getvalue(),
    )


def test_text_levels_take_the_same_room(start: Start) -> None:
    stream = start("text")
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        LOG.log(level, "here")
    assert {line.index("here") for line in stream.getvalue().splitlines()} == {29}


def test_text_value_with_spaces_or_quotes_is_quoted(start: Start) -> None:
    stream = start("text")
    LOG.info("x", extra={"a": "two words", "b": 'say "hi"', "c": "", "d": None, "e": "k=v"})
    assert stream.getvalue().endswith('x a="two words" b="say \\"hi\\"" c="" e="k=v"\n')


def test_text_cannot_be_forged_by_a_value(start: Start) -> None:
    stream = start("text")
    LOG.info("model %s", "a\n12:00:00.000 ERROR master    broken\x1b[2J", extra={"id": "1\n2"})
    first, second = stream.getvalue().splitlines()
    assert first.endswith('model a id="1\\n2"')
    assert second == "    12:00:00.000 ERROR master    broken\\x1b[2J"


def test_text_exception_is_indented_beneath(start: Start) -> None:
    stream = start("text")
    try:
        raise KeyError("lost")
    except KeyError:
        LOG.exception("it broke")
    head, *trace = stream.getvalue().splitlines()
    assert head.endswith("it broke")
    assert trace[0] == "    Traceback (most recent call last):"
    assert trace[-1] == "    KeyError: 'lost'"


def test_json_line_is_one_object_with_the_fields(start: Start) -> None:
    stream = start("json", process="worker-3")
    LOG.warning("slow", extra={"servable": "digits", "version": 2, "request_id": "abc"})
    (line,) = documents(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "warning",
        "logger": "serving.somewhere",
        "process": "worker-3",
        "message": "slow",
        "servable": "digits",
        "version": 2,
        "request_id": "abc",
    }


def test_json_time_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    record = logging.makeLogRecord({"msg": "x", "levelname": "INFO"})
    record.created, record.msecs = 86399.5, 500.0
    line = json.loads(logs.JsonFormatter("master").format(record))
    monkeypatch.undo()
    time.tzset()
    assert line["time"] == "1970-01-01T23:59:59.500Z"


def test_json_exception_is_a_field_and_the_line_stays_one(start: Start) -> None:
    stream = start("json")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        LOG.exception("it\nbroke")
    (line,) = documents(stream)
    assert line["message"] == "it\nbroke"
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("ValueError: two\nlines")


def test_json_holds_what_json_cannot(start: Start) -> None:
    stream = start("json")
    odd = {"nan": float("nan"), "path": Path("/x"), "list": [float("inf")], "raw": b"\xff"}
    LOG.info("\u4e2d \udcff", extra={"odd": odd, "time": "mine"})
    raw = stream.getvalue()
    assert raw.isascii()
    line = json.loads(raw, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert line["odd"] == {"nan": "nan", "path": "/x", "list": ["inf"], "raw": "b'\\xff'"}
    assert line["time_"] == "mine"
    assert line["time"] != "mine"


def test_level_is_the_least_that_is_written(start: Start) -> None:
    stream = start("text", "warning")
    LOG.info("no")
    LOG.warning("yes")
    assert [line.split()[-1] for line in stream.getvalue().splitlines()] == ["yes"]


def test_configure_again_replaces_the_first(start: Start) -> None:
    first = start("text")
    second = start("json")
    LOG.info("once")
    assert first.getvalue() == ""
    assert len(documents(second)) == 1


def test_warnings_module_is_logged(start: Start) -> None:
    stream = start("json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old thing", UserWarning, stacklevel=1)
        logging.captureWarnings(False)
    (line,) = documents(stream)
    assert (line["logger"], line["level"]) == ("py.warnings", "warning")
    assert "old thing" in line["message"]


@pytest.mark.parametrize(("form", "level"), [("xml", "info"), ("text", "loud")])
def test_configure_refuses_unknown_words(form: str, level: str) -> None:
    with pytest.raises(ValueError, match="is not one of"):
        logs.configure(form, level, "master")


def test_relay_keeps_time_level_logger_and_fields(start: Start) -> None:
    worker = start("json", process="worker")
    try:
        raise RuntimeError("engine")
    except RuntimeError:
        LOG.error("run failed", exc_info=True, extra={"servable": "digits", "rows": 3})
    written = worker.getvalue()
    master = start("json")
    logs.relay(written.encode(), "worker-1")
    expected = json.loads(written)
    expected["process"] = "worker-1"
    assert documents(master) == [expected]


def test_relay_into_text_names_the_worker(start: Start) -> None:
    stream = start("text")
    line = {"level": "info", "logger": "serving.worker", "message": "100% ready", "servable": "d"}
    logs.relay(json.dumps(line).encode() + b"\n", "worker-0")
    assert stream.getvalue().endswith(" INFO  worker-0  100% ready servable=d\n")


@pytest.mark.parametrize(
    "line",
    [
        b"terminate called after throwing 100% of it",
        b"{not json",
        b'{"message": 5, "level": "info"}',
        b'{"message": "x", "level": "loud"}',
        b'{"message": "x"}',
        b"[" * 5000,
    ],
)
def test_relay_of_any_other_line_is_a_warning_as_it_is(start: Start, line: bytes) -> None:
    stream = start("json")
    logs.relay(line + b"\n", "worker-0")
    (got,) = documents(stream)
    assert (got["level"], got["process"]) == ("warning", "worker-0")
    assert got["message"] == line.decode()


def test_relay_drops_blank_lines_and_lower_levels(start: Start) -> None:
    stream = start("json", "info")
    logs.relay(b"\n", "worker-0")
    logs.relay(b'{"message": "x", "level": "debug", "logger": "a"}', "worker-0")
    assert documents(stream) == []


def test_relay_cuts_a_line_without_end(start: Start) -> None:
    stream = start("json")
    logs.relay(b"x" * 100_000, "worker-0")
    (line,) = documents(stream)
    assert line["message"].endswith(f"... ({100_000 - 16384} bytes more)")
    assert len(line["message"]) < 17_000


def test_relay_cannot_overwrite_the_records_own_fields(start: Start) -> None:
    stream = start("json")
    forged = {"message": "x", "level": "info", "logger": "a", "args": [1], "origin_process": "m"}
    logs.relay(json.dumps(forged).encode(), "worker-0")
    (line,) = documents(stream)
    assert (line["message"], line["process"]) == ("x", "worker-0")


def test_logs_keep_to_python_3_9() -> None:
    assert logs.__file__ is not None
    ast.parse(Path(logs.__file__).read_text(), feature_version=(3, 9))
