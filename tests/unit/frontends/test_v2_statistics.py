"""The V2 statistics document: what is told of whom, and how failures are counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serving.errors import NotFound
from serving.frontends import v2_statistics
from serving.request import Description
from serving.tensor import BatchAxes, Signature
from tests.doubles.plane import StubPlane
from tests.doubles.statistics import BUSY, IDLE, server


def plane() -> StubPlane:
    one = Description("busy", 2, Signature((), ()), BatchAxes.refused(""), 1, "", versions=(1, 2))
    stub = StubPlane(one)
    stub.told = server(replace(BUSY, version=1), BUSY, IDLE)
    return stub


async def test_v2_statistics_tells_a_version_in_triton_s_form() -> None:
    (told,) = (await v2_statistics.document(plane(), "busy", 2))["model_stats"]
    assert told == {
        "name": "busy",
        "version": "2",
        "last_inference": 1_700_000_000_123,
        "inference_count": 11,
        "execution_count": 4,
        "inference_stats": {
            "success": {"count": 5, "ns": 9_000_000},
            # 1 withdrawn, 2 late, 3 refused by the model, 15 otherwise, 20 met a full queue
            "fail": {"count": 41, "ns": 5_000},
            "queue": {"count": 5, "ns": 4_001_999},
            "compute_input": {"count": 5, "ns": 30_000},
            "compute_infer": {"count": 5, "ns": 3_000_000},
            "compute_output": {"count": 5, "ns": 60_000},
            "cache_hit": {"count": 0, "ns": 0},
            "cache_miss": {"count": 0, "ns": 0},
        },
        "batch_stats": [
            {
                "batch_size": 1,
                "compute_input": {"count": 3, "ns": 9_000},
                "compute_infer": {"count": 3, "ns": 1_500_000},
                "compute_output": {"count": 3, "ns": 12_000},
            },
            {
                "batch_size": 8,
                "compute_input": {"count": 1, "ns": 7_000},
                "compute_infer": {"count": 1, "ns": 500_000},
                "compute_output": {"count": 1, "ns": 16_000},
            },
        ],
        "memory_usage": [],
        "response_stats": {},
    }


@pytest.mark.parametrize(
    ("servable", "version", "wanted"),
    [
        (None, None, [("busy", "1"), ("busy", "2"), ("idle", "1")]),
        ("busy", None, [("busy", "1"), ("busy", "2")]),
        ("busy", 1, [("busy", "1")]),
    ],
)
async def test_v2_statistics_tells_of_those_that_were_asked_for(
    servable: str | None, version: int | None, wanted: list[tuple[str, str]]
) -> None:
    told = (await v2_statistics.document(plane(), servable, version))["model_stats"]
    assert [(model["name"], model["version"]) for model in told] == wanted


@pytest.mark.parametrize(("servable", "version"), [("bussy", None), ("busy", 9)])
async def test_v2_statistics_of_what_is_not_there_is_an_error(
    servable: str, version: int | None
) -> None:
    with pytest.raises(NotFound):
        await v2_statistics.document(plane(), servable, version)


def test_v2_statistics_counts_failures_by_triton_s_words() -> None:
    assert v2_statistics.failures(BUSY) == {
        "REJECTED": 2 + 20,
        "CANCELED": 1,
        "BACKEND": 3 + 6,
        "OTHER": 4 + 5,
    }
    assert v2_statistics.failures(IDLE) == dict.fromkeys(v2_statistics.CAUSES, 0)
