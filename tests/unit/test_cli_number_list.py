"""Lists of numbers with commas, as options take them."""

from __future__ import annotations

import click
import pytest

from serving.cli.number_list import Numbers


@pytest.mark.parametrize(
    ("kind", "text", "numbers"),
    [
        (Numbers(whole=True), "8,1,8", (8, 1, 8)),
        (Numbers(whole=True, most=64), "64", (64,)),
        (Numbers(whole=False), "0.5,100", (0.5, 100.0)),
    ],
)
def test_number_list_keeps_the_order_given(
    kind: Numbers, text: str, numbers: tuple[float, ...]
) -> None:
    found = kind.convert(text, None, None)
    assert found == numbers
    assert [type(number) for number in found] == [type(number) for number in numbers]


@pytest.mark.parametrize("text", ["", "1,", "0", "-1", "1.5", "65", "two", "1;2", "inf"])
def test_number_list_of_whole_numbers_refuses_others(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a list of whole numbers from 1 to 64, "):
        Numbers(whole=True, most=64).convert(text, None, None)


@pytest.mark.parametrize("text", ["", "0", "-0.1", "nan", "inf", "1e7"])
def test_number_list_refuses_what_is_no_rate(text: str) -> None:
    with pytest.raises(click.BadParameter, match="numbers above 0, up to 1,000,000, such as"):
        Numbers(whole=False).convert(text, None, None)
