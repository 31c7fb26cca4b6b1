"""Attention and rotary positions agree with their formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.errors import LoadError
from tests.unit.formats.mindir.one_node import Array, Fixed, agrees, floats, like, run_node

BATCH, HEADS, STEPS, SEEN, WIDTH = 2, 4, 3, 5, 6
EVERYWHERE = 2**31 - 1


def attention(q: Array, k: Array, v: Array, scale: float, shift: Any, mask: Any) -> Array:
    """All of (batch, heads, steps, width)."""
    repeats = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, repeats, 1), np.repeat(v, repeats, 1)
    scores = scale * (q @ k.swapaxes(-1, -2) + (0 if shift is None else shift))
    if mask is not None:
        scores = np.where(mask.astype(bool), -np.inf, scores)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    found: Array = (shares / shares.sum(-1, keepdims=True)) @ v
    return found


def laid_out(x: Array, layout: str) -> Array:
    order = {"BNSD": (0, 1, 2, 3), "BSND": (0, 2, 1, 3), "BSH": (0, 2, 1, 3),
             "SBH": (2, 0, 1, 3)}[layout]  # fmt: skip
    x = x.transpose(order)
    return np.ascontiguousarray(x if layout.endswith("D") else x.reshape(*x.shape[:2], -1))


def score_settings(layout: Any, **change: Any) -> dict[str, Any]:
    return {
        "head_num": HEADS, "keep_prob": 1.0, "scale_value": 0.4, "pre_tokens": EVERYWHERE,
        "next_tokens": EVERYWHERE, "inner_precise": 0, "input_layout": layout, "sparse_mode": 0,
        **change,
    }  # fmt: skip


def scored(folder: Path, given: Any, y: Array, settings: dict[str, Any]) -> list[Array]:
    shares = np.zeros((BATCH, HEADS, STEPS, 8), "float32")
    stated = like(shares, shares, shares[0, 0, 0], y)
    return run_node(folder, "FlashAttentionScore", given, stated, outputs=[3], **settings)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize(
    ("layout", "written"), [("BSH", 0), ("BNSD", 1), ("SBH", 2), ("BSND", 3), ("BSH", "BSH")]
)
@pytest.mark.parametrize("with_more", [False, True])
def test_flash_attention_agrees_with_its_formula(
    tmp_path: Path, layout: str, written: Any, kv_heads: int, with_more: bool
) -> None:
    q = floats(BATCH, HEADS, STEPS, WIDTH)
    k, v = (floats(BATCH, kv_heads, SEEN, WIDTH) for _ in range(2))
    shift = floats(BATCH, HEADS, STEPS, SEEN) if with_more else None
    mask = np.triu(np.ones((STEPS, SEEN), "uint8"), 2) if with_more else None
    expected = laid_out(attention(q, k, v, 0.4, shift, mask), layout)
    none = Fixed(None)
    given = [laid_out(t, layout) for t in (q, k, v)] + [
        none if shift is None else shift, none, none, none if mask is None else mask, none, none,
        none,
    ]  # fmt: skip
    agrees(scored(tmp_path, given, expected, score_settings(written)), expected)


@pytest.mark.parametrize(("change", "why"), [
    ({"sparse_mode": 2}, "sparse_mode"), ({"keep_prob": 0.9}, "keep_prob"),
    ({"input_layout": 4}, "TND"), ({"next_tokens": 0}, "next_tokens"), ({"head_num": 5}, "heads"),
])  # fmt: skip
def test_flash_attention_beyond_the_plain_case_is_refused(
    tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    x = floats(BATCH, STEPS, HEADS * WIDTH)
    none = Fixed(None)
    mask = np.zeros((STEPS, STEPS), bool)
    given = [x, x, x, none, none, none, mask, none, none, none]
    with pytest.raises(LoadError, match=why):
        scored(tmp_path, given, x, score_settings(0, **change))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_prompt_attention_agrees_with_its_formula(tmp_path: Path, dtype: str) -> None:
    q, k, v = (floats(BATCH, HEADS, STEPS, WIDTH).astype(dtype) for _ in range(3))
    expected = attention(*(t.astype("float64") for t in (q, k, v)), 0.4, None, None)
    expected = laid_out(expected, "BSH").astype(dtype)
    given = [laid_out(t, "BSH") for t in (q, k, v)] + [Fixed(None)] * 9
    found = run_node(
        tmp_path, "PromptFlashAttention", given, like(expected), num_heads=HEADS,
        scale_value=0.4, pre_tokens=EVERYWHERE, next_tokens=0, input_layout=0,
        num_key_value_heads=0, sparse_mode=0, inner_precise=1,
    )  # fmt: skip
    loose = 2e-3 if dtype == "float16" else 1e-5
    agrees(found, expected, rtol=loose, atol=loose)


def test_quantised_prompt_attention_is_refused(tmp_path: Path) -> None:
    x = floats(BATCH, STEPS, HEADS * WIDTH)
    given = [x, x, x, *[Fixed(None)] * 4, np.ones(1, "uint64"), *[Fixed(None)] * 4]
    with pytest.raises(LoadError, match="deq_scale1"):
        run_node(tmp_path, "PromptFlashAttention", given, like(x), num_heads=HEADS)


@pytest.mark.parametrize("mode", [0, 1])
def test_rotary_positions_turn_pairs(tmp_path: Path, mode: int) -> None:
    x = floats(BATCH, HEADS, STEPS, WIDTH)
    angles = floats(1, 1, STEPS, WIDTH)
    cos, sin = np.cos(angles), np.sin(angles)
    turned = np.empty_like(x)
    for i in range(WIDTH // 2):
        one, other = (i, i + WIDTH // 2) if mode == 0 else (2 * i, 2 * i + 1)
        turned[..., one], turned[..., other] = -x[..., other], x[..., one]
    found = run_node(tmp_path, "RotaryPositionEmbedding", [x, cos, sin], like(x), mode=mode)
    agrees(found, x * cos + turned * sin)


def test_rotary_positions_of_another_mode_are_refused(tmp_path: Path) -> None:
    x = floats(1, 1, 2, 4)
    with pytest.raises(LoadError, match="mode 2"):
        run_node(tmp_path, "RotaryPositionEmbedding", [x, x, x], like(x), mode=2)
