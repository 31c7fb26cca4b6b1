"""What a process owes the master."""

from __future__ import annotations

import subprocess
import sys

import pytest


def score_after(own: int, wanted: int) -> int:
    program = (
        "from pathlib import Path; from serving.worker.parent import offer_to_the_oom_killer\n"
        f"Path('/proc/self/oom_score_adj').write_text('{own}')\n"
        f"offer_to_the_oom_killer({wanted})\n"
        "print(Path('/proc/self/oom_score_adj').read_text())"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return int(told.stdout)


@pytest.mark.parametrize(("own", "wanted", "then"), [(100, 500, 500), (900, 500, 900)])
def test_process_offers_itself_to_the_oom_killer_and_never_takes_back(
    own: int, wanted: int, then: int
) -> None:
    assert score_after(own, wanted) == then


def test_process_whose_master_has_died_leaves_at_once() -> None:
    program = (
        "from serving.worker.parent import die_with_the_master\n"
        "die_with_the_master(1 << 22)\nprint('still here')"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout == ""
