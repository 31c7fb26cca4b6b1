"""What TensorRT says is kept by thread, and told to whoever's call failed."""

from __future__ import annotations

import logging
import threading

import pytest

from serving.backends.tensorrt.library import Log


def test_log_tells_what_was_said_since_a_mark() -> None:
    log = Log()
    log.hear("ERROR", "before")
    mark = log.mark()
    log.hear("WARNING", "only a warning")
    log.hear("ERROR", "[a.cpp::f::1] one")
    log.hear("INTERNAL_ERROR", "two")
    log.hear("ERROR", "two")
    assert log.since(mark) == "one; two"
    assert log.since(log.mark()) == ""


def test_log_tells_a_thread_its_own_words_first() -> None:
    log = Log()
    mark = log.mark()
    other = threading.Thread(target=log.hear, args=("ERROR", "of another thread"))
    other.start()
    other.join()
    assert log.since(mark) == "of another thread"
    log.hear("ERROR", "of this thread")
    assert log.since(mark) == "of this thread"


def test_log_takes_every_message_for_a_sign_of_life() -> None:
    log, heard = Log(), []
    log.alive = lambda: heard.append(1)
    for severity in ("VERBOSE", "INFO", "WARNING", "ERROR"):
        log.hear(severity, "text")
    assert len(heard) == 4


def test_log_passes_on_errors_without_source_lines(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "serving.tensorrt"):
        Log().hear("ERROR", "[runtime.cpp::parsePlan::314] it is old")
    assert caplog.messages == ["TensorRT: it is old"]
