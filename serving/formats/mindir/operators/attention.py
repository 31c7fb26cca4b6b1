"""Attention as one operator, and rotary positions.

Sources: the docstrings of ``mindspore.ops`` FlashAttentionScore, PromptFlashAttention,
rotary_position_embedding (2.2 to 2.10). Written out as products and a Softmax, which is what the
fused kernels compute; what they do beyond that (sparse bands, lengths of each sequence,
quantised values) is refused.
"""

from __future__ import annotations

import numpy as np

from serving.formats.mindir.formula import Formula
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.views import numbers
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Absent, Tensor, Value
from serving.tensor import BOOL, FP32

_LAYOUTS = {0: "BSH", 1: "BNSD", 2: "SBH", 3: "BSND", 4: "TND"}
"""How 2.3 and later number ``input_layout`` (mindspore/ops/op_def/op_enum.h)."""
_NOT_FOR_SCORE = ("drop_mask", "padding_mask", "prefix", "actual_seq_qlen", "actual_seq_kvlen")
_NOT_FOR_PROMPT = (
    "actual_seq_lengths", "actual_seq_lengths_kv", "deq_scale1", "quant_scale1", "deq_scale2",
    "quant_scale2", "quant_offset2",
)  # fmt: skip
_EVERYWHERE = 2**31 - 1
_LOOSE = TensorType(FP32, None)


def _heads_first(op: Operator, name: str, layout: str, width: int) -> Tensor:
    """Return queries, keys or values as (batch, heads, steps, width)."""
    x = op.tensor(name, FP32)
    if layout == "BNSD":
        return x
    if layout in ("BSH", "SBH"):
        x = op.emit("Reshape", x, numbers(op, 0, 0, -1, width), type=_LOOSE)
    order = [1, 2, 0, 3] if layout == "SBH" else [0, 2, 1, 3]
    return op.emit("Transpose", x, type=_LOOSE, perm=order)


def _as_given(op: Operator, x: Tensor, layout: str, stated: TensorType) -> Tensor:
    """Return (batch, heads, steps, width) in the layout of the inputs."""
    if layout != "BNSD":
        order = [2, 0, 1, 3] if layout == "SBH" else [0, 2, 1, 3]
        x = op.emit("Transpose", x, type=_LOOSE, perm=order)
    if layout in ("BSH", "SBH"):
        x = op.emit("Reshape", x, numbers(op, 0, 0, -1), type=_LOOSE)
    return op.cast(op.emit("Identity", x, type=TensorType(FP32, stated.shape)), stated.dtype)


def _shared(op: Operator, x: Tensor, heads: int, width: int, repeats: int) -> Tensor:
    """Return keys or values with each head repeated for the queries that share it."""
    if repeats == 1:
        return x
    apart = op.emit("Unsqueeze", x, numbers(op, 2), type=_LOOSE)
    tiled = op.emit("Tile", apart, numbers(op, 1, 1, repeats, 1, 1), type=_LOOSE)
    return op.emit("Reshape", tiled, numbers(op, 0, heads, -1, width), type=_LOOSE)


def _width(op: Operator, layout: str, heads: int) -> tuple[int, int]:
    """Return the width of a head and how many heads keys and values have."""
    query, key = op.dims(op.tensor("query")), op.dims(op.tensor("key"))
    if layout in ("BSH", "SBH"):
        if query[-1] % heads or min(query[-1], key[-1]) < 1:
            op.refuse(f"has {heads} heads of a width of {query[-1]}")
        width = query[-1] // heads
        return width, key[-1] // width
    axis = 1 if layout == "BNSD" else 2
    return query[-1], key[axis]


def _attention(op: Operator, heads: int, scale: float, shift: str, stated: TensorType) -> Tensor:
    """Return ``softmax(scale * (q @ k.T + shift), where not masked) @ v``."""
    layout = op.choice("input_layout", _LAYOUTS, "BSH")
    if layout == "TND":
        op.refuse("packs sequences of several lengths (TND)")
    if op.integer("sparse_mode", 0) != 0:
        op.refuse("looks at a band of its sequence (sparse_mode)")
    masked = op.has("attn_mask")
    if masked:
        for name in ("pre_tokens", "next_tokens"):
            if op.integer(name, _EVERYWHERE) < _EVERYWHERE:
                op.refuse(f"looks at a band of its sequence ({name})")
    width, fewer = _width(op, layout, heads)
    if fewer < 1 or heads % fewer:
        op.refuse(f"shares {fewer} heads of keys among {heads} of queries")
    q, k, v = (_heads_first(op, n, layout, width) for n in ("query", "key", "value"))
    k, v = (_shared(op, t, heads, width, heads // fewer) for t in (k, v))
    turned = op.emit("Transpose", k, type=_LOOSE, perm=[0, 1, 3, 2])
    f = Formula(op, FP32)
    scores = op.emit("MatMul", q, turned, type=_LOOSE)
    if op.has(shift):
        scores = f("Add", scores, op.tensor(shift, FP32))
    scores = f("Mul", scores, scale)
    if masked:
        hidden = op.tensor("attn_mask", BOOL)
        scores = f("Where", hidden, f.number(float(np.finfo(np.float32).min)), scores)
    shares = op.emit("Softmax", scores, type=_LOOSE, axis=-1)
    return _as_given(op, op.emit("MatMul", shares, v, type=_LOOSE), layout, stated)


@converts(
    "FlashAttentionScore",
    arguments="query key value real_shift drop_mask padding_mask attn_mask prefix "
    "actual_seq_qlen actual_seq_kvlen head_num keep_prob scale_value pre_tokens next_tokens "
    "inner_precise input_layout sparse_mode",
)
def flash_attention_score(op: Operator) -> Value:
    """Attention with a shift of the scores and a mask of what is not seen; the fourth output."""
    for name in _NOT_FOR_SCORE:
        if op.has(name):
            op.refuse(f"takes '{name}'")
    if op.number("keep_prob", 1.0) != 1.0:
        op.refuse("drops scores by chance (keep_prob); export the network for inference")
    scale = op.number("scale_value", 1.0)
    found = _attention(op, op.integer("head_num"), scale, "real_shift", op.outputs[3])
    return (*[Absent("statistics of the softmax")] * 3, found)


@converts(
    "PromptFlashAttention",
    arguments="query key value attn_mask actual_seq_lengths actual_seq_lengths_kv pse_shift "
    "deq_scale1 quant_scale1 deq_scale2 quant_scale2 quant_offset2 num_heads scale_value "
    "pre_tokens next_tokens input_layout num_key_value_heads sparse_mode inner_precise",
)
def prompt_flash_attention(op: Operator) -> Tensor:
    """Attention over a whole prompt, unquantised and without lengths of its sequences."""
    for name in _NOT_FOR_PROMPT:
        if op.has(name):
            op.refuse(f"takes '{name}'")
    if op.has("pse_shift"):
        op.refuse("takes 'pse_shift', whose place beside the scale is not documented")
    scale = op.number("scale_value", 1.0)
    return _attention(op, op.integer("num_heads", 1), scale, "pse_shift", op.output)


@converts("RotaryPositionEmbedding", arguments="x cos sin mode")
def rotary_position_embedding(op: Operator) -> Tensor:
    """``x * cos + turned(x) * sin``: pairs turned by angles.

    Mode 0 pairs an element with the one half the width behind it, mode 1 with its neighbour.
    """
    f = Formula(op)
    x, cos, sin = f.tensor("x"), f.tensor("cos"), f.tensor("sin")
    width = op.dims(x)[-1]
    mode = op.integer("mode", 0)
    if mode not in (0, 1) or width % 2 or width < 2:
        op.refuse(f"turns pairs in mode {mode} over a width of {width}")
    if mode == 0:
        half = TensorType(x.dtype, (*op.dims(x)[:-1], width // 2))
        first, second = op.emit_several("Split", x, types=[half, half], axis=-1)
        turned = op.emit("Concat", f("Neg", second), first, type=x.type, axis=-1)
    else:
        order = [i + 1 if i % 2 == 0 else i - 1 for i in range(width)]
        signs = np.array([-1, 1] * (width // 2), f.dtype.numpy)
        swapped = op.emit("Gather", x, numbers(op, *order), type=x.type, axis=-1)
        turned = f("Mul", swapped, op.constant(signs))
    return f("Add", f("Mul", x, cos), f("Mul", turned, sin))
