"""Which tensors lie in regions of clients passes whole; a process cannot name what is not there."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from serving.frontends.shared_memory.region import Region
from serving.gateway import afar
from serving.request import Elsewhere


def region(number: int, offset: int = 100, size: int = 50) -> Region:
    return Region("region 'r'", "/r", offset, size, os.open(os.devnull, os.O_RDWR), number)


def of(*known: Region) -> Callable[[int], Region]:
    found = {each.number: each for each in known}

    def region_of(number: int) -> Region:
        if number not in found:
            raise ValueError("unknown")
        return found[number]

    return region_of


def test_places_pass_whole_to_regions_of_the_other_side() -> None:
    here, there = (region(7), region(8)), (region(7), region(8))
    told = Elsewhere(
        {"x": here[0].span(0, 50), "\u00e9": here[1].span(3, 4)}, {"x": here[1].span(49, 1)}
    )
    found = afar.decode(afar.encode(told), of(*there))
    assert {n: (s.holder, s.fd, s.at, s.size) for n, s in found.sources.items()} == {
        "x": (there[0], there[0].fd, 100, 50), "\u00e9": (there[1], there[1].fd, 103, 4),
    }  # fmt: skip
    assert [(s.holder, s.at, s.size) for s in found.targets.values()] == [(there[1], 149, 1)]
    assert afar.encode(found) == afar.encode(told)


@pytest.mark.parametrize(("offset", "size"), [(99, 50), (101, 50), (100, 49)])
def test_place_outside_of_its_region_is_refused(offset: int, size: int) -> None:
    told = afar.encode(Elsewhere({"x": region(7, offset, 50).span(0, 50)}, {}))
    with pytest.raises(ValueError, match="outside"):
        afar.decode(told, of(region(7, 100, size)))


def test_region_that_is_not_shared_is_refused() -> None:
    told = afar.encode(Elsewhere({"x": region(7).span(0, 1)}, {}))
    with pytest.raises(ValueError, match="unknown"):
        afar.decode(told, of(region(8)))


def test_bytes_cut_short_are_refused() -> None:
    told = afar.encode(Elsewhere({"xyz": region(7).span(0, 1)}, {}))
    for length in range(1, len(told)):
        with pytest.raises(ValueError, match="cut short"):
            afar.decode(told[:length], of(region(7)))
