"""What ``benchmarks.tuning`` makes of tunings: the table, and whether settings were the same."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import tuning

NOW = {"max_batch_size": 32, "threads": None, "workers": 1}
TWO = {**NOW, "workers": 2}


def told(after: dict[str, Any], *points: tuple[dict[str, Any], float, float]) -> dict[str, Any]:
    return {
        "before": NOW, "after": after, "better": after != NOW,
        "last": {"rounds": 2} if after != NOW else None,
        "measurements": [
            {"setting": setting, "point": {"rate": rate, "latency_ms": {"p99": p99_ms}}}
            for setting, rate, p99_ms in points
        ],
    }  # fmt: skip


BETTER = told(TWO, (NOW, 9000, 1), (NOW, 1000, 10), (TWO, 1500, 8), (TWO, 1700, 6), (NOW, 1000, 20))
ALIKE = told(NOW, (NOW, 900, 10), (NOW, 1000, 12), (NOW, 1100, 14))


def test_a_row_holds_the_medians_of_the_last_comparison():
    assert tuning.row(BETTER) == ["1,000", "1,600", "+60%", "15.0", "7.0", "5", "workers = 2"]


def test_a_row_without_a_change_holds_the_medians_of_all():
    assert tuning.row(ALIKE) == ["1,000", "1,000", "+0%", "12.0", "12.0", "3", "as it is"]


def test_the_report_says_where_settings_were_the_same_and_where_not():
    text = tuning.report({"lenet": [ALIKE, ALIKE], "digits": [BETTER, ALIKE]})
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {10}
    assert len(table) == 2 + 4
    assert "- lenet: the same each time: as it is (2 of 2)" in text
    assert "- digits: UNEQUAL: workers = 2 (1 of 2); as it is (1 of 2)" in text


@pytest.mark.parametrize(("second", "code"), [(ALIKE, 0), (BETTER, 1)])
def test_the_exit_code_says_whether_settings_were_stable(monkeypatch, tmp_path, second, code):
    runs = iter([ALIKE, second])
    monkeypatch.setattr(tuning, "tune", lambda *given: next(runs))
    arguments = ["--only", "digits", "--runs", "2", "--cache", str(tmp_path)]
    assert tuning.main(arguments) == code


def test_a_tuning_that_fails_says_what_it_printed(capfd, tmp_path):
    with pytest.raises(tuning.TuningFailed, match="tuning digits ended with 4"):
        tuning.tune("digits", tmp_path / "nowhere", ["--max-time-s", "1"])
