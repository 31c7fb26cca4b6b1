"""A request is found again by what stands around its numbers, however many forms there are."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from serving.frontends.rest import stencil
from serving.frontends.rest.inference_route import find
from serving.frontends.rest.lane import Head
from serving.frontends.rest.row_form import Cut, RowForm
from serving.frontends.rest.stencil import Stencil, Stencils


def form() -> RowForm:
    """A form that is only told from others."""
    return cast(RowForm, object())


def head(length: int) -> Head:
    found = find(b"/predict")
    assert found is not None
    return Head(found, {}, length, True)


def learn(stencils: Stencils, begin: bytes, numbers: bytes, end: bytes) -> RowForm:
    """Learn a request that has a head of four bytes."""
    whole, made = begin + numbers + end, form()
    body = len(whole) - 4
    stencils.learn(whole, head(body), 4, Cut(made, len(begin) - 4, len(end)))
    return made


def found(stencils: Stencils, data: bytes) -> RowForm | None:
    there = stencils.find(data)
    return None if there is None else there.form


def test_hundred_servables_with_requests_of_one_length_are_told_apart() -> None:
    stencils = Stencils()
    begins = [b"head:servable-%03d[" % number for number in range(100)]
    forms = [learn(stencils, begin, b"1,2", b"]") for begin in begins]
    for begin, made in zip(begins, forms, strict=True):
        assert found(stencils, begin + b"7,8" + b"]") is made
        assert found(stencils, begin + b"7,8" + b"}") is None
    assert found(stencils, b"head:servable-100[7,8]") is None


def test_forms_that_begin_alike_are_told_apart_by_their_ends() -> None:
    stencils = Stencils()
    ends = [b"]%d" % number for number in range(stencil._MOST_ALIKE)]
    forms = [learn(stencils, b"head[", b"1", end) for end in ends]
    assert [found(stencils, b"head[9" + end) for end in ends] == forms


def test_form_that_does_not_hold_any_more_is_forgotten() -> None:
    stencils = Stencils()
    first = learn(stencils, b"head:a[", b"1", b"]")
    second = learn(stencils, b"head:b[", b"1", b"]")
    stencils.forget(first)
    assert found(stencils, b"head:a[2]") is None
    assert found(stencils, b"head:b[2]") is second


def test_what_is_remembered_has_a_limit() -> None:
    stencils = Stencils()
    for number in range(3 * stencil._MOST):
        learn(stencils, b"head:%05d[" % number, b"1", b"]")
    kept = [by for lengths in stencils._known.values() for by in lengths.values()]
    assert sum(map(len, kept)) <= stencil._MOST
    assert found(stencils, b"head:%05d[2]" % number) is not None


PIECES = st.text("ab[", max_size=4).map(str.encode)


@given(st.lists(st.tuples(PIECES, PIECES, PIECES), min_size=1, max_size=12), st.data())
def test_what_is_found_fits(requests: list[tuple[bytes, bytes, bytes]], data: Any) -> None:
    stencils = Stencils()
    for begin, numbers, end in requests:
        learn(stencils, b"head" + begin, numbers, end)
    latest = b"head" + b"".join(requests[-1])
    assert stencils.find(latest) is not None
    asked = data.draw(st.sampled_from([b"head" + b"".join(request) for request in requests]))
    there: Stencil | None = stencils.find(asked)
    if there is not None:
        assert asked.startswith(there.begin)
        assert asked.endswith(there.end)
        assert len(there.begin) + len(there.end) <= len(asked)
        assert (there.text_at, there.text_end) == (len(there.begin), len(asked) - len(there.end))
