"""The claim that matters: a graph that is accepted gives each row the answer it gets alone."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.formats.batch_axis import prove
from tests.unit.formats.nets import rows_agree
from tests.unit.formats.random_graphs import Growth


def test_accepted_graphs_give_rows_alone_what_they_get_together() -> None:
    verdicts: Counter[bool] = Counter()

    @settings(
        max_examples=150,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.data())
    def grow_and_compare(data: st.DataObject) -> None:
        growth = Growth(data.draw)
        for _ in range(data.draw(st.integers(2, 9))):
            growth.grow()
        for name in growth.grown():
            net = growth.net(name)
            batched = prove(net).batched
            verdicts[batched] += 1
            if batched:
                rows_agree(net, growth.feeds)

    grow_and_compare()
    assert verdicts[True] > 100
    assert verdicts[False] > 100
