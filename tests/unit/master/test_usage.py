"""Processor time and memory are those that the system tells other readers."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil

from serving.master.usage import usage_of


def test_usage_is_that_of_the_process() -> None:
    own = psutil.Process()
    before = own.cpu_times()
    usage = usage_of(os.getpid())
    after = own.cpu_times()
    assert usage is not None
    tick = 0.011
    assert before.user + before.system - tick <= usage.cpu_s <= after.user + after.system + tick
    assert abs(usage.rss_bytes - own.memory_info().rss) < 64 << 20
    assert usage.rss_bytes > 1 << 20
    assert abs(usage.started_s - own.create_time()) < 2
    assert usage.started_s < time.time()


def test_usage_reads_a_process_with_any_name() -> None:
    program = "import ctypes; ctypes.CDLL(None).prctl(15, b') R 1 (x', 0, 0, 0); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        usage = usage_of(process.pid)
        assert psutil.Process(process.pid).name() == ") R 1 (x"
        assert usage is not None
        assert abs(usage.started_s - psutil.Process(process.pid).create_time()) < 2
        process.communicate(b"\n")


def test_usage_of_a_process_that_is_gone_is_none() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert usage_of(process.pid) is None
