"""Prometheus' own parser reads what is written."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.frontends.rest.exposition import Family, Sample, histogram, text


@pytest.mark.parametrize(
    "name", ['a "quoted" name', "back\\slash\\n", "two\nlines", "naïve 模型", ""]
)
def test_exposition_carries_any_label_value(name: str) -> None:
    written = text([Family("m", "gauge", "One.", [Sample((("model", name), ("v", "1")), 1)])])
    (family,) = text_string_to_metric_families(written)
    assert family.samples[0].labels == {"model": name, "v": "1"}


@pytest.mark.parametrize("value", [0, 7, 2**60, 1e-9, 0.1, 1700000000.123, 12345678.0])
def test_exposition_carries_numbers_exactly(value: float) -> None:
    (family,) = text_string_to_metric_families(
        text([Family("m", "gauge", "", [Sample((), value)])])
    )
    assert family.samples[0].value == value


def test_exposition_says_what_a_metric_is() -> None:
    written = text([Family("m", "gauge", "What it is", []), Family("n", "gauge", "", [])])
    assert written.splitlines()[:2] == ["# HELP m What it is", "# TYPE m gauge"]
    assert written.endswith("\n")


def test_exposition_counts_a_histogram_s_buckets_up() -> None:
    samples = histogram((("a", "b"),), (0.5, 2), (3, 0, 4), 17.25)
    (family,) = text_string_to_metric_families(text([Family("h", "histogram", "", samples)]))
    assert family.type == "histogram"
    told = [(s.name, s.labels.get("le"), s.value) for s in family.samples]
    assert told == [
        ("h_bucket", "0.5", 3), ("h_bucket", "2", 3), ("h_bucket", "+Inf", 7),
        ("h_sum", None, 17.25), ("h_count", None, 7),
    ]  # fmt: skip
    assert all(s.labels["a"] == "b" for s in family.samples)


def test_exposition_refuses_counts_that_do_not_fit_the_bounds() -> None:
    with pytest.raises(ValueError, match="shorter|longer"):
        histogram((), (1, 2), (1, 2), 0)
