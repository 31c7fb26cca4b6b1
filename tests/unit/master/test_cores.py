"""The cores to share out: affinity and quotas, of both versions of control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving.master.cores import quota, usable_cores, within


def groups(root: Path, membership: str, files: dict[str, str]) -> float | None:
    """Lay control groups out below ``root`` and ask for the quota."""
    for name, text in files.items():
        file = root / "mount" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (root / "membership").write_text(membership)
    return quota(root / "mount", root / "membership")


def test_cores_in_a_container_are_those_of_its_quota(tmp_path: Path) -> None:
    assert groups(tmp_path, "0::/\n", {"cpu.max": "150000 100000\n"}) == 1.5


def test_cores_of_a_service_are_those_of_the_tightest_group_above_it(tmp_path: Path) -> None:
    files = {
        "system.slice/cpu.max": "200000 100000\n",
        "system.slice/serving.service/cpu.max": "max 100000\n",
        "other.slice/cpu.max": "100000 100000\n",
    }
    assert groups(tmp_path, "0::/system.slice/serving.service\n", files) == 2.0


def test_cores_of_the_first_version_are_read_too(tmp_path: Path) -> None:
    files = {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}
    memberships = "4:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n"
    assert groups(tmp_path, memberships, files) == 3.0


@pytest.mark.parametrize("text", ["max 100000\n", "", "nonsense\n", "100000 0\n"])
def test_cores_without_a_quota_are_not_bounded(tmp_path: Path, text: str) -> None:
    assert groups(tmp_path, "0::/\n", {"cpu.max": text}) is None


def test_cores_of_the_first_version_without_a_quota_are_not_bounded(tmp_path: Path) -> None:
    files = {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}
    assert groups(tmp_path, "4:cpu:/\n", files) is None


def test_cores_without_control_groups_are_not_bounded(tmp_path: Path) -> None:
    assert quota(tmp_path / "none", tmp_path / "none") is None


@pytest.mark.parametrize(
    ("cores", "limit", "left"),
    [(64, None, 64), (64, 2.0, 2), (64, 1.5, 2), (64, 0.1, 1), (2, 8, 2)],
)
def test_cores_left_by_a_quota(cores: int, limit: float | None, left: int) -> None:
    assert within(cores, limit) == left


def test_cores_here_are_at_least_one_and_at_most_the_affinity() -> None:
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))
