"""When waiting for more requests is worth a hope."""

import random

import pytest

from serving.scheduling.company import Company


def burst(company: Company, at: float, callers: int, gap_s: float) -> None:
    """Callers who were answered come back one after the other; the first is sent at once."""
    for number in range(callers):
        company.arrived(at + number * gap_s, number + 1)
        if number == 0:
            company.left(at, 1, 0.001)


def test_company_is_not_expected_by_a_lone_caller() -> None:
    company = Company()
    for turn in range(100):
        company.arrived(turn * 0.01, 1)
        assert company.expected(1) == 0
        company.left(turn * 0.01, 1, 0.001)


def test_company_is_expected_when_callers_come_back_together() -> None:
    company = Company()
    for turn in range(12):
        burst(company, turn * 0.01, 8, 0.0002)
    assert company.expected(1) == 7
    assert company.expected(8) == 0


def test_company_is_not_expected_from_callers_who_take_their_time() -> None:
    company = Company()
    for turn in range(20):
        burst(company, turn * 0.1, 8, 0.005)
    assert company.expected(1) == 0


def test_company_that_stays_away_is_given_up_and_may_be_won_back() -> None:
    company = Company()
    for turn in range(12):
        burst(company, turn * 0.01, 8, 0.0002)
    company.in_vain(1)
    assert company.expected(1) == 0  # nobody else is known now
    for turn in range(12):
        burst(company, 1 + turn * 0.01, 4, 0.0002)
    assert company.expected(1) == 3


@pytest.mark.parametrize(("rate", "most"), [(125, 0), (800, 40)])
def test_company_is_rarely_expected_from_callers_at_random(rate: int, most: int) -> None:
    """The next arrival falls within 1 ms for one in eight, or for every other one."""
    company, source, now, waits = Company(), random.Random(5), 0.0, 0
    for _ in range(2000):
        now += source.expovariate(rate)
        inside = source.choice((1, 1, 1, 2, 2, 3))
        company.arrived(now, inside)
        if company.expected(inside):
            waits += 1
            company.in_vain(inside)
        else:
            company.left(now, inside, 0.001)
    assert waits <= most
