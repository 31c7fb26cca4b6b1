"""What holds for every test: how many run side by side, and what a slow machine may not fail."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes is a fact about the machine and what else it does, not about the code.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

# A shell has its background jobs ignore Ctrl-C, and nohup the end of the terminal: what tests start
# would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Tests run side by side, so that what gives way to all other servers hardly gets a turn.
os.environ.setdefault("SERVING_WORKER_NICE", "0")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many processes ``-n auto`` means: one more than cores, as many tests wait."""
    del config
    return len(os.sched_getaffinity(0)) + 1
