"""What a run is told to copy: whose rows, from where to where, and how many files it may bring."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from serving.channel.layout import FieldShape, Layout, place
from serving.channel.messages import MAX_DATAGRAM, MOST_COPIES, Afar, Copy, Run, encode
from serving.request import Elsewhere, FileSpan
from serving.scheduling import afar
from serving.scheduling.piece import Piece
from serving.tensor import FP32, Signature, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("a", FP32, ("n", 4)), TensorSpec("b", FP32, ("n", 2))),
    (TensorSpec("y", FP32, ("n", 4)),),
)


def layout(*, known: bool = True, axis: int | None = 0) -> Layout:
    outputs = (FieldShape(FP32, (4,), axis),) if known else None
    return place(1, 8, (FieldShape(FP32, (4,), 0), FieldShape(FP32, (2,), 0)), outputs)


def span(fd: int, at: int, size: int) -> FileSpan:
    return FileSpan(None, fd, at, size)


def ticket(
    first: int,
    rows: int,
    sources: Mapping[str, FileSpan],
    targets: Mapping[str, FileSpan] | None = None,
) -> Any:
    request = SimpleNamespace(elsewhere=Elsewhere(sources, targets or {}))
    return SimpleNamespace(first=first, rows=rows, request=request, stored=())


def pieces(*tickets: Any) -> list[Piece]:
    return [Piece(ticket, 0, ticket.rows, 0) for ticket in tickets]


def test_rows_are_copied_to_where_their_request_has_them_and_back() -> None:
    one = ticket(0, 1, {"b": span(9, 100, 8)}, {"y": span(7, 0, 16)})
    two = ticket(1, 3, {"a": span(9, 500, 48), "b": span(8, 4, 24)}, {"y": span(7, 64, 99)})
    errand = afar.errand(pieces(one, two), layout(), SIGNATURE)
    # Eight rows of 16 bytes end at 128, where those of the second input begin.
    assert errand.fds == (9, 7, 8)
    assert errand.afar == Afar(
        4,
        (Copy(0, 1, 100, 128, 8), Copy(0, 0, 500, 16, 48), Copy(2, 1, 4, 136, 24)),
        (Copy(1, 0, 0, 0, 16), Copy(1, 0, 64, 16, 48)),
    )
    assert one.stored == two.stored == ("y",)


def test_part_of_a_large_request_copies_its_own_rows() -> None:
    large = ticket(0, 8, {"a": span(5, 1000, 128)}, {"y": span(6, 2000, 128)})
    errand = afar.errand([Piece(large, 3, 2, 0)], layout(), SIGNATURE)
    assert errand.afar == Afar(2, (Copy(0, 0, 1048, 48, 32),), (Copy(1, 0, 2048, 48, 32),))


@pytest.mark.parametrize(
    ("size", "how"),
    [(16, {"known": False}), (16, {"axis": 1}), (15, {})],
    ids=["of unknown size", "with rows on another axis", "too large"],
)
def test_output_that_is_not_stored_as_it_is_is_left_to_the_encoder(
    size: int, how: dict[str, Any]
) -> None:
    one = ticket(0, 1, {}, {"y": span(7, 0, size)})
    errand = afar.errand(pieces(one), layout(**how), SIGNATURE)
    assert (errand.afar.writes, errand.fds, one.stored) == ((), (), ())


def test_run_has_no_more_requests_than_their_files_can_travel_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(afar, "MOST_FDS", 3)
    apart = [ticket(0, 1, {"a": span(n, 0, 16)}, {"y": span(100, 0, 16)}) for n in range(5)]
    assert [afar.fitting(apart, most) for most in (1, 2, 5)] == [1, 2, 2]
    alike = [ticket(0, 1, {"a": span(1, 0, 16)}) for _ in range(5)]
    assert afar.fitting(alike, 4) == 4
    greedy = [ticket(0, 1, {str(n): span(n, 0, 16) for n in range(9)})]
    assert afar.fitting(greedy, 1) == 1


def test_run_has_no_more_requests_than_a_datagram_can_tell_of() -> None:
    rows = MOST_COPIES
    alike = [ticket(n, 1, {"a": span(1, 0, 16)}, {"y": span(1, 16, 16)}) for n in range(rows)]
    count = afar.fitting(alike, rows)
    assert count == MOST_COPIES // 2
    told = afar.errand(pieces(*alike[:count]), layout(), SIGNATURE).afar
    run = Run(1, 1, 1, 1, 1, 0, count, "\U0001f642" * 4096, told)
    assert 0 <= MAX_DATAGRAM - len(encode(run)) < 100
