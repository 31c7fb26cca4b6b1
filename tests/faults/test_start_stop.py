"""A server that lives in a script's process can be started and stopped again and again."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_CYCLES = 30
_MOST_KIB = 16 << 10
"""What half of the cycles may add: heaps move by some MiB, a core that stays is one each."""


@pytest.mark.timeout(400)
def test_start_stop_leaves_nothing_behind() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "tests.faults.start_stop", str(_CYCLES)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=380,
    )
    print(told.stdout)
    assert told.returncode == 0, told.stderr
    last = told.stdout.splitlines()[-1]
    found = re.fullmatch(
        r"the second 15 cycles: (\d+) processes left, ([+-]\d+) descriptors, ([+-]\d+) threads, "
        r"([+-]\d+) KiB",
        last,
    )
    assert found is not None, last
    processes, descriptors, threads, kib = map(int, found.groups())
    assert (processes, descriptors, threads) == (0, 0, 0), told.stdout
    assert kib < _MOST_KIB, told.stdout
