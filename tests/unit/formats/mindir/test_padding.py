"""Margins of tensors are those that numpy makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

import numpy as np
import pytest

from tests.unit.formats.mindir.agreement import check, check_refused, numbers

MODES = {"constant": "constant", "reflect": "reflect", "edge": "edge", "circular": "wrap"}


def of_last(numbers: Sequence[int], rank: int) -> list[tuple[int, int]]:
    """Return a pair for each axis of a list of pairs that begins with the last axis."""
    pairs = [(numbers[i], numbers[i + 1]) for i in range(0, len(numbers), 2)][::-1]
    return [(0, 0)] * (rank - len(pairs)) + pairs


def test_pad_has_a_pair_for_each_axis(tmp_path: Path) -> None:
    x, pairs = numbers(2, 3, 4), ((1, 0), (0, 2), (3, 1))
    check(tmp_path, "Pad", [x], np.pad(x, pairs), {"paddings": pairs})


@pytest.mark.parametrize("mode", sorted(MODES))
@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_pad_v3_pads_the_last_axes(tmp_path: Path, mode: str, contiguous: bool, dtype: str) -> None:
    x = (numbers(2, 3, 6, 7) * 10).astype(dtype)
    paddings = (1, 2, 0, 3)
    filling: Any = {"constant_values": 7} if mode == "constant" else {}
    want = np.pad(x, of_last(paddings, 4), MODES[mode], **filling)
    written = paddings if contiguous else (1, 0, 2, 3)
    attributes = {"mode": mode, "paddings_contiguous": contiguous}
    value: Any = {"value": 7.0 if dtype == "float32" else 7} if mode == "constant" else {}
    check(tmp_path, "PadV3", [x], want, attributes, paddings=written, **value)


def test_pad_v3_takes_away_below_zero(tmp_path: Path) -> None:
    x = numbers(2, 6, 7)
    want = np.pad(x, ((0, 0), (0, 0), (0, 2)))[:, :-3, 1:]
    attributes = {"mode": "constant", "paddings_contiguous": True}
    check(tmp_path, "PadV3", [x], want, attributes, paddings=(-1, 2, 0, -3), value=0.0)


def test_pad_v3_refuses_to_take_away_from_a_mirror_image(tmp_path: Path) -> None:
    x = numbers(2, 6)
    attributes = {"mode": "reflect", "paddings_contiguous": True}
    check_refused(tmp_path, "takes away", "PadV3", [x], x, attributes, paddings=(-1, 1))


@pytest.mark.parametrize("mode", ["REFLECT", "SYMMETRIC"])
def test_mirror_pad_repeats_the_edge_only_if_symmetric(tmp_path: Path, mode: str) -> None:
    x, pairs = numbers(2, 3, 6, 7), ((0, 0), (1, 0), (1, 2), (3, 5))
    want = np.pad(x, pairs, mode.lower())
    check(tmp_path, "MirrorPad", [x], want, {"mode": mode}, paddings=np.array(pairs))


def test_constant_pad_of_mint_takes_a_value(tmp_path: Path) -> None:
    x = numbers(2, 3, 4)
    want = np.pad(x, of_last((1, 2, 0, 3), 3), constant_values=2.5)
    check(tmp_path, "ConstantPadND", [x], want, padding=(1, 2, 0, 3), value=2.5)


@pytest.mark.parametrize(("kind", "mode"), [("Reflection", "reflect"), ("Replication", "edge")])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_pads_of_mint_mirror_or_repeat(tmp_path: Path, kind: str, mode: Any, rank: int) -> None:
    x = numbers(1, 2, *(5, 6, 7)[-rank:])
    padding = (1, 2, 0, 3, 2, 1)[: 2 * rank]
    want = np.pad(x, of_last(padding, x.ndim), mode)
    check(tmp_path, f"{kind}Pad{rank}D", [x], want, padding=padding)
