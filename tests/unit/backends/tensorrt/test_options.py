"""Options: what each takes, and how a wrong one is told."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from serving.backends.base import BackendError
from serving.backends.tensorrt.options import Options


def test_options_without_any_are_the_defaults() -> None:
    assert Options.parse({}) == Options()
    assert Options().cuda_graphs


def test_options_are_read_by_their_kinds() -> None:
    told = {
        "precision": "bf16",
        "memory_pool_mb": "512",
        "cuda_graphs": "off",
        "engine_host_code": "allow",
        "profile.ids": "1x16,8x128,32x512",
    }
    assert Options.parse(told) == Options(
        precision="bf16",
        memory_pool_mb=512,
        cuda_graphs=False,
        engine_host_code=True,
        profiles={"ids": ((1, 16), (8, 128), (32, 512))},
    )


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"precison": "fp16"}, "no option 'precison' .*did you mean 'precision'"),
        ({"precision": "fp8"}, "'precision' takes as_exported or fp16 or bf16, given 'fp8'"),
        ({"memory_pool_mb": "-1"}, "'memory_pool_mb' takes a number from 1"),
        ({"optimization_level": "6"}, "'optimization_level' takes a number from 0 to 5"),
        ({"profile.x": "1x2,3x4"}, "'profile.x' takes the smallest, usual and largest shape"),
        ({"profile.x": "1x2,3,4x4"}, "given '1x2,3,4x4'"),
        ({"profile.x": "8,4,16"}, "given '8,4,16'"),
        ({"profile.x": "1,x,2"}, "given '1,x,2'"),
    ],
)
def test_options_that_are_wrong_are_named(told: dict[str, str], words: str) -> None:
    with pytest.raises(BackendError, match=words):
        Options.parse(told)


def test_options_are_all_documented() -> None:
    page = (Path(__file__).parents[4] / "docs" / "tensorrt.md").read_text()
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| `")]
    documented = {row.strip("`") for row in rows}
    known = {field.name for field in fields(Options)} - {"profiles"}
    assert documented == known | {"profile.<input>"}
