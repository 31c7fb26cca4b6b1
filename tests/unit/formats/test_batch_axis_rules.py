"""Every family of operators: what is accepted runs row by row alike, what is refused says why."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from serving.formats.batch_axis import prove
from tests.unit.formats.nets import rows_agree, written

HALF = np.array([0.0, 1.0], "float32")
LEVEL = np.float32(0.1)
ZERO = np.uint8(128)


def case(graph: str, *names: str, opset: int = 17, **constants: Any) -> Any:
    operators = [n.op_type for n in written(graph, opset=opset, **constants).graph.node]
    return pytest.param(graph, opset, constants, *names, id="-".join(operators[:6]))


ACCEPTED = [
    case("(float[N,4] x, float[N,4] z) => (y) { a = Relu(x) b = Neg(z) y = Add(a, b) }"),
    case("(float[N,4] x) => (y) { a = Add(x, v) b = Mul(m, a) y = Max(b, x, v) }",
         v=(4,), m=(1, 4)),
    case("(float[N] x, float s) => (y) { y = Mul(x, s) }"),
    case("(float[N,4] x, float[N,1] z) => (y) { c = Greater(x, z) y = Where(c, x, w) }", w=(4,)),
    case("(float[N,4] x) => (y) { y = PRelu(x, s) }", s=(4,)),
    case("(float[N,4] x) => (y) { y = Dropout(x) }"),
    case("(float[N,4] x) => (y) { a = MatMul(x, w) b = MatMul(a, v) y = Neg(b) }",
         w=(4, 3), v=(3,)),
    case("(float[N,2,4] x, float[N,4,3] z) => (y) { y = MatMul(x, z) }"),
    case("(float[N,2,4] x) => (y) { y = MatMul(x, w) }", w=(1, 4, 2)),
    case("(float[N,2,4] x) => (y) { t = Transpose<perm=[0,2,1]>(x) y = MatMul(w, t) }", w=(5, 4)),
    case(
        "(float[N,4] x) => (y) { t = Transpose(x) a = MatMul(w, t) y = Transpose(a) }", w=(3, 4)
    ),
    case("(float[N,4] x) => (y) { y = Gemm<transB=1>(x, w, b) }", w=(3, 4), b=(3,)),
    case("(float[N,4] x) => (y) { t = Transpose(x) y = Gemm<transA=1>(t, w, b) }",
         w=(4, 3), b=(1, 3)),
    case(
        '(float[N,3,4] x, float[N,5,4] z) => (y) { y = Einsum<equation="bij,bkj->bik">(x, z) }'
    ),
    case('(float[N,3,4] x) => (y) { y = Einsum<equation="btd,de->bte">(x, w) }', w=(4, 2)),
    case("(float[N,3] x) => (y) { y = com.microsoft.FusedMatMul<transB=1>(x, w) }", w=(2, 3)),
    case("(float[N,4] x) => (y) { y = Softmax(x) }"),
    case("(float[N,4] x) => (y) { y = Softmax<axis=1>(x) }", opset=11),
    case("(float[N,3,4] x) => (y) { a = ReduceMean<axes=[1,-1],keepdims=0>(x) y = Neg(a) }"),
    case("(float[N,3,4] x) => (y) { y = ReduceSum<keepdims=0>(x, axes) }", axes=[1]),
    case("(float[N,4] x) => (y) { a = ArgMax<axis=1,keepdims=0>(x) y = Cast<to=1>(a) }"),
    case("(float[N,4] x) => (y, i) { y, i = TopK<axis=1>(x, k) }", k=[2]),
    case("(float[N,4] x) => (y) { y = CumSum(x, axis) }", axis=1),
    case(
        "(float[N,3,4] x) => (y, m) { y, m = LayerNormalization<axis=-1>(x, s, b) }", s=(4,), b=(4,)
    ),
    case("(float[N,4] x) => (y) { y = LpNormalization<axis=1>(x) }"),
    case("(float[N,3,4] x) => (y) { y = Trilu<upper=1>(x) }"),
    case("(int64[N,2] x) => (y) { y = OneHot(x, depth, values) }", depth=[5], values=HALF),
    case("(float[N,2,3,4] x) => (y) { y = InstanceNormalization(x, s, b) }", s=(2,), b=(2,)),
    case("(float[N,4,3,3] x) => (y) { y = LRN<size=3>(x) }"),
    case("(float[N,2,5,5] x) => (y) { y = ConvTranspose<strides=[2,2]>(x, w) }", w=(2, 3, 3, 3)),
    case("(float[N,2,h,w] x) => (y) { y = Conv<auto_pad=\"SAME_UPPER\">(x, k) }", k=(3, 2, 3, 3)),
    case(
        '(float[N,2,3,4] x) => (y) { y = Resize<mode="linear">(x, , s) }',
        s=np.array([1, 1, 2, 2], "float32"),
    ),
    case(
        "(float[N,2,3,4] x) => (y) { s = Shape(x) f = Slice(s, a, b) t = Concat<axis=0>(f, hw) "
        'y = Resize<mode="nearest">(x, , , t) }',
        a=[0], b=[2], hw=[6, 8],
    ),
    case("(float[N,4,2,2] x) => (y) { y = DepthToSpace<blocksize=2>(x) }"),
    case("(float[N,2,4,4] x, float[N,3,3,2] g) => (y) { y = GridSample(x, g) }"),
    case("(float[N,3,4] x) => (y) { y = Flatten<axis=1>(x) }"),
    case("(float[N,3,4] x) => (y) { a = Unsqueeze(x, i) y = Squeeze(a, j) }", i=[0, 3], j=[0]),
    case("(float[N,6] x) => (y) { y = Reshape(x, s) }", s=[0, 2, -1]),
    case("(float[N,6] x) => (y) { a = Reshape(x, s) b = Relu(a) y = Reshape(b, t) }",
         s=[-1, 2], t=[-1, 6]),
    case(
        "(float[N,T,6] x) => (y) { a = Reshape(x, s) b = MatMul(a, w) c = Shape(x) "
        "d = Slice(c, zero, two) e = Concat<axis=0>(d, five) y = Reshape(b, e) }",
        s=[-1, 6], w=(6, 5), zero=[0], two=[2], five=[5],
    ),
    case(
        "(float[N,3,4] x) => (y) { t = Transpose<perm=[1,0,2]>(x) a = Reshape(t, s) "
        "b = MatMul(a, w) c = Reshape(b, u) y = Transpose<perm=[1,0,2]>(c) }",
        s=[-1, 4], w=(4, 5), u=[3, -1, 5],
    ),
    case("(float[N,3] x, float[N,2] z) => (y) { y = Concat<axis=1>(x, z) }"),
    case("(float[N,6] x) => (a, b) { a, b = Split<axis=1>(x, s) }", s=[2, 4]),
    case("(float[N,6] x) => (y) { y = Slice(x, a, b, c) }", a=[0, 1], b=[2**31 - 1, 4], c=[0, 1]),
    case("(float[N,3,3] x) => (y) { y = Pad(x, p) }", p=[0, 1, 0, 0, 0, 2]),
    case(
        "(float[N,3,4] x) => (y) { s = Shape(x) n = Gather(s, zero) o = Concat<axis=0>(n, one, d) "
        "c = Expand(cls, o) y = Concat<axis=1>(c, x) }",
        zero=[0], one=[1], d=[4], cls=(1, 1, 4),
    ),
    case(
        "(float[N,3] x) => (y) { s = Shape(x) n = Gather(s, zero) r = Concat<axis=0>(n, one) "
        "t = Tile(w, r) y = Add(x, t) }",
        zero=[0], one=[1], w=(1, 3),
    ),
    case("(float[N,3] x) => (y) { s = Shape(x) z = ConstantOfShape(s) y = Sub(x, z) }"),
    case(
        # How PyTorch writes expand(n, -1, 4): -1 is looked for in the sizes.
        "(float[N,3,4] x) => (y) { s = Shape(x) n = Gather(s, zero) "
        "w = Concat<axis=0>(n, minus, d) k = Shape(w) o = ConstantOfShape<value=int64[1]{1}>(k) "
        "m = Mul(o, minus) e = Equal(w, m) t = Where(e, o, w) c = Expand(row, t) y = Add(c, x) }",
        zero=[0], minus=[-1], d=[4], row=(1, 1, 4),
    ),
    case("(float[N,5] x) => (y) { y = Gather<axis=1>(x, i) }", i=[3, 0]),
    case("(int64[N,5] x) => (y) { a = Abs(x) b = Mod(a, six) y = Gather(t, b) }", six=6, t=(6, 3)),
    case(
        "(float[N,5] x) => (y) { a, i = TopK<axis=1>(x, k) y = GatherElements<axis=1>(x, i) }",
        k=[2],
    ),
    case("(float[N,5] x) => (y) { v, i = TopK<axis=1>(x, k) y = ScatterElements<axis=1>(x, i, v) }",
         k=[2]),
    case(
        "(float[N,5] x) => (y) { i = ArgMax<axis=1>(x) y = GatherND<batch_dims=1>(x, i) }",
    ),
    case(
        # How PyTorch writes mask[arange(n)[:, None], places], row by row.
        "(float[N,5] m, int64[N,t] q) => (y) { s = Shape(q) n0 = Gather(s, zero) "
        "n = Squeeze(n0, zero) r = Range(none, n, step) u = Unsqueeze(r, one) p = Mod(q, five) "
        "b = Max(u, p) w = Shape(b) e = Expand(u, w) v = Unsqueeze(e, two) k = Unsqueeze(p, two) "
        "i = Concat<axis=-1>(v, k) y = GatherND(m, i) }",
        zero=[0], one=[1], two=[2], none=0, step=1, five=5,
    ),
    case(
        # How PyTorch writes the same without GatherND: the place in the list of all rows' entries.
        "(float[N,t] m) => (y) { s = Shape(m) n = Gather(s, none) t = Gather(s, step) "
        "r = Range(none, n, step) u = Unsqueeze(r, one) b = Mul(u, t) c = Range(none, t, step) "
        "v = Unsqueeze(c, zero) i = Add(v, b) f = Flatten<axis=2>(m) y = Gather(f, i) }",
        zero=[0], one=[1], none=0, step=1,
    ),
    case(
        "(float[N,5] m) => (y) { s = Shape(m) n = Gather(s, none) r = Range(none, n, step) "
        "u = Unsqueeze(r, one) b = Mul(five, u) c = Add(b, i) d = Add(c, j) f = Reshape(m, all) "
        "y = Gather(f, d) }",
        one=[1], all=[-1], none=0, step=1, five=5, i=[0, 3], j=[1, 0],
    ),
    case(
        # A table of whole numbers too long to be taken for a shape.
        "(float[N,99] m) => (y) { s = Shape(m) n = Gather(s, none) r = Range(none, n, step) "
        "u = Unsqueeze(r, one) b = Mul(u, wide) i = Add(b, table) f = Reshape(m, all) "
        "y = Gather(f, i) }",
        one=[1], all=[-1], none=0, step=1, wide=99, table=list(range(98, -1, -1)),
    ),
    case(
        # The entry of each row where something is largest, as CLIP finds the end of a text.
        "(float[N,5,3] h, int64[N,5] x) => (y) { s = Shape(h) n = Gather(s, none) "
        "r = Range(none, n, step) b = Mul(r, five) a = ArgMax<axis=-1,keepdims=0>(x) "
        "i = Add(a, b) f = Flatten<axis=2>(h) y = Gather(f, i) }",
        none=0, step=1, five=5,
    ),
    case(
        # How BERT fills in token types: a table looked up by places cut to the length of the text.
        "(float[N,t] x) => (y) { s = Shape(x) t = Gather(s, one) p = Slice(places, zero, t, one) "
        "g = GatherElements<axis=1>(types, p) e = Expand(g, s) y = Add(x, e) }",
        zero=[0], one=[1], places=[list(range(9))], types=(1, 9),
    ),
    case(
        # How scikit-learn's neighbours are written: every row against one known row after another.
        "(float[N,4] x) => (y) { k, d = Scan<num_scan_inputs=1,body=turn (float[n,4] s, float[4] w)"
        " => (float[n,4] t, float[n] e) { t = Identity(s) f = Sub(s, w) "
        "e = ReduceSumSquare<axes=[1],keepdims=0>(f) }>(x, w) y = Transpose(d) }",
        w=(6, 4),
    ),
    case(
        # A state that grows, along an axis of every row.
        "(float[N,3,4] x, float[N,4] z) => (y, k) { k, y = Scan<num_scan_inputs=1,"
        "scan_input_axes=[1],scan_output_axes=[-2],body=turn (float[n,4] s, float[n,4] w) => "
        "(float[n,4] t, float[n,4] e) { t = Add(s, w) e = Relu(t) }>(z, x) }",
    ),
    case(
        # How skl2onnx writes one output for each class, and one for several regressors.
        "(float[N,2] x) => (y) { l, p = ai.onnx.ml.LinearClassifier<coefficients=[0.5,-1.0,1.0,"
        "0.25],intercepts=[0.1,0.2],classlabels_ints=[0,1]>(x) n = ai.onnx.ml.Normalizer(p) "
        "a = Slice(n, one, two, one) y = Reshape(a, all) }",
        one=[1], two=[2], all=[-1],
    ),
    case(
        "(float[N,2] x) => (y) { a = ai.onnx.ml.LinearRegressor<coefficients=[0.5,-1.0]>(x) "
        "b = Reshape(a, column) y = Concat<axis=1>(b, b) }",
        column=[-1, 1],
    ),
    case("(float[s10,4] x, float[s86,4] z) => (y) { y = Add(x, z) }"),
    case("(float[s10,4] x, float[s10,4] z) => (y, w) { y = Relu(x) w = Relu(z) }"),
    case("(float[x_dynamic_axes_1,4] x, float[z_dynamic_axes_1,4] z) => (y) { y = Add(x, z) }"),
    case(
        # A window of one place, as networks that look at all places at once flatten it again.
        "(float[N,2,h,w] x) => (y) { a = Conv(x, k) s = Shape(x) n = Slice(s, zero, one) "
        "hw = Slice(s, two, four) p = ReduceProd(hw) t = Concat<axis=0>(n, c, p) "
        "y = Reshape(a, t) }",
        k=(3, 2, 1, 1), zero=[0], one=[1], two=[2], four=[4], c=[3],
    ),
    case(
        "(float[N,2,h,w] x) => (y) { a = Conv<pads=[1,1,1,1],strides=[2,2]>(x, k) "
        "b = MaxPool<kernel_shape=[3,3],pads=[1,1,1,1],strides=[2,2]>(x) s = Shape(a) "
        "n = Slice(s, zero, one) hw = Slice(s, two, four) p = ReduceProd(hw) "
        "t = Concat<axis=0>(n, c, p) y = Reshape(b, t) }",
        k=(2, 2, 3, 3), zero=[0], one=[1], two=[2], four=[4], c=[2],
    ),
    case(
        # Padded up to a multiple of the window, by numbers of which some are only known later.
        "(float[N,4,h] x) => (y) { s = Shape(x) h = Slice(s, two, three) m = Mod(h, three) "
        "q = Clip(m, low, high) o = Concat<axis=0>(zero, zero, q, zero, zero, zero) p = Pad(x, o) "
        "r = Shape(p) n = Slice(r, zero, one) w = Slice(r, two, three) d = Mul(w, c) "
        "t = Concat<axis=0>(n, d) y = Reshape(p, t) }",
        two=[2], three=[3], zero=[0], one=[1], c=[4], low=0, high=9,
    ),
    case(
        # Windows of an image of known size, padded by numbers that turn out to be plain.
        "(float[N,8,1] x) => (y) { s = Shape(x) h = Slice(s, one, two) m = Mod(h, three) "
        "o = Concat<axis=0>(zero, m, zero, zero, zero, zero) p = Pad(x, o) y = Reshape(p, t) }",
        one=[1], two=[2], three=[3], zero=[0], t=[-1, 5, 2],
    ),
    case(
        "(int64[N,t] x) => (y) { s = Shape(x) t = Gather(s, one) p = Slice(places, zero, t, one) "
        "g = Gather(q, p) d = DequantizeLinear(g, level, middle) e = Gather(words, x) "
        "y = Add(e, d) }",
        zero=[0], one=[1], places=[list(range(9))], q=np.full((9, 3), 7, "uint8"), level=LEVEL,
        middle=ZERO, words=(9, 3),
    ),
    case("(float[N,4] x) => (y) { y = ai.onnx.Relu(x) }"),
    case(
        # How tf2onnx writes a GRU of Keras: a loop over time that reads it by number.
        "(float[N,5,4] x, float[N,4] z) => (y, h) { q = Transpose<perm=[1,0,2]>(x) "
        "h, e = Loop<body=turn (int64 i, bool c, float[n,4] s) => (bool d, float[n,4] t, "
        "float[n,4] u) { d = Identity(c) g = Gather<axis=0>(q, i) a, b = Split<axis=0>(w, half) "
        "v = Squeeze(a, zero) j = Add(g, v) t = Add(s, j) u = Relu(t) }>(five, , z) "
        "y = Transpose<perm=[1,0,2]>(e) }",
        five=5, w=(2, 4), half=[1, 1], zero=[0],
    ),
    case(
        "(float[N,4,h] x) => (y) { s = Shape(x) h = Slice(s, two, three) m = Mod(h, three) "
        "o = Concat<axis=0>(zero, zero, m, zero, zero, zero) f, g = Split(o, half) "
        "q = Concat<axis=0>(f, g) p = Pad(x, q) y = Relu(p) }",
        two=[2], three=[3], zero=[0], half=[2, 4],
    ),
    case(
        "(float[N,4] x) => (y) { q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }",
        s=LEVEL, z=ZERO,
    ),
    case(
        "(float[N,4,2] x) => (y, h) { t = Transpose<perm=[1,0,2]>(x) "
        "a, g = GRU<hidden_size=3>(t, w, r) b = Squeeze(a, one) y = Transpose<perm=[1,0,2]>(b) "
        "h = Squeeze(g, zero) }",
        w=(1, 9, 2), r=(1, 9, 3), one=[1], zero=[0],
    ),
    case(
        "(float[N,4] x) => (l, s) { l, s = ai.onnx.ml.LinearClassifier"
        "<coefficients=[0.5,-1.0,0.25,1.0],intercepts=[0.1],classlabels_ints=[0,1]>(x) }"
    ),
    case("(float[N,4] x) => (y) { y = ai.onnx.ml.Binarizer<threshold=0.5>(x) }"),
    case("(float[N,4] x) => (y) { y = ai.onnx.ml.ArrayFeatureExtractor(x, i) }", i=[2, 0]),
    case("(float[N,2] x, float[N,3] z) => (y) "
         "{ y = ai.onnx.ml.FeatureVectorizer<inputdimensions=[2,3]>(x, z) }"),
    case("(float[N,3,4] x, float[N,3,4] z) => (y) "
         "{ y = com.microsoft.SkipLayerNormalization(x, z, g, b) }", g=(4,), b=(4,)),
    case("(float[N,3,4] x) => (y) { y = com.microsoft.BiasGelu(x, b) }", b=(4,)),
    case("(float[N,3,6] x) => (y) { y = com.microsoft.Attention<num_heads=2>(x, w, b) }",
         w=(6, 18), b=(18,)),
    case("(float[N,3,8] q, float[N,5,8] k) => (y) "
         "{ y = com.microsoft.MultiHeadAttention<num_heads=2>(q, k, k) }"),
]  # fmt: skip

REFUSED = [
    case("(float[N,4] x) => (y) { [attn] y = Softmax<axis=0>(x) }",
         "node 'attn' (Softmax) normalises over axis 0, the batch"),
    case("(float[N,4] x) => (y) { y = Softmax<axis=0>(x) }", "normalises over axis 0", opset=11),
    case("(float[N,3,4] x) => (y) { t = Transpose<perm=[1,0,2]>(x) s = Softmax<axis=1>(t) "
         "y = Transpose<perm=[1,0,2]>(s) }", "normalises over axis 1, the batch", opset=11),
    case("(float[S,4] x) => (y) { t = Transpose(x) s = MatMul(x, t) a = Softmax(s) "
         "y = MatMul(a, x) }", "multiplies rows of the batch with one another"),
    case("(float[N,4] x, float[N,N] adj) => (y) { y = MatMul(adj, x) }",
         "input 'adj' gives its axes 0, 1 one name, 'N'"),
    case("(float[N,4] x, float[N,m] adj) => (y) { h = MatMul(x, w) y = MatMul(adj, h) }",
         "sums over axis 0 of its right side, the batch", w=(4, 2)),
    case("(float[N,4] x, float[M,4] z) => (y) { y = Add(x, z) }",
         "the inputs name their first axes differently: 'N' (x) and 'M' (z)"),
    # Two towers, asked for as many pictures and texts as a caller likes.
    case("(float[s10,4] x, float[s86,4] z) => (y, w) { y = Relu(x) w = Relu(z) }",
         "'s10' (x) and 's86' (z); output 'y' is not made of all of them"),
    case("(float[s10,4] x, float[s86,4] z) => (y, w) { y = Add(x, z) w = Relu(z) }",
         "output 'w' is not made of all of them"),
    case("(float[1,4] x) => (y) { y = Relu(x) }", "the first axis of input 'x' is fixed at 1"),
    case("(float s) => (y) { y = Relu(s) }", "no input has an axis that could count the rows"),
    case("(float[N,4] x) => (y, c) { y = Relu(x) c = Identity(w) }",
         "output 'c' does not carry the batch", w=(3,)),
    case("(float[N,4] x) => (y) { y = Transpose(x) }", "output 'y' has the batch in axis 1, not 0"),
    case("(float[N,3,4] x) => (y) { y = Reshape(x, s) }", "the batch merged with other axes",
         s=[-1, 4]),
    case("(float[N,4] x) => (y) { a = ReduceMean<axes=[0]>(x) y = Sub(x, a) }",
         "reduces over axis 0, the batch"),
    case("(float[N,4] x) => (y) { a = ReduceSum(x) y = Sub(x, a) }", "reduces over axis 0"),
    case("(float[N,4] x) => (y) { a = ReduceMean<axes=[1],keepdims=0>(x) y = Sub(x, a) }",
         "whose batch axes do not meet"),
    case("(float[N,4] x) => (y) { y = Add(x, w) }", "an axis of length 3", w=(3, 4)),
    case("(float[N,4] x) => (y) { i = ArgMax(x) y = Gather(x, i) }", "searches over axis 0"),
    case("(float[N,4] x) => (v) { v, i = TopK<axis=0>(x, k) }", "sorts over axis 0", k=[1]),
    case("(float[N,4] x) => (y) { y = CumSum(x, axis) }", "adds up over axis 0", axis=0),
    case("(float[N,4] x) => (y) { q, s, z = DynamicQuantizeLinear(x) "
         "y = DequantizeLinear(q, s, z) }",
         "takes its scale from all rows of the batch together"),
    case("(float[N,b,4] boxes, float[N,c,b] s) => (y) { y = NonMaxSuppression(boxes, s) }",
         "picks from all rows at once"),
    case("(float[N,4] x) => (y) { y = NonZero(x) }", "how much it returns depends on the values"),
    case("(float[N,2,4,4] x, float[N,4] r, int64[N] i) => (y) { y = RoiAlign(x, r, i) }",
         "finds its samples by their place in the batch"),
    case("(float[T,b,2] x) => (y) { a, y = GRU<hidden_size=3>(x, w, r) }",
         "takes axis 1 of X for the batch and axis 0 for time", w=(1, 9, 2), r=(1, 9, 3)),
    case("(float[N,4,2] x) => (y) { t = Transpose<perm=[1,0,2]>(x) "
         "a, h = GRU<hidden_size=3>(t, w, r, , , s) y = Squeeze(h, z) }",
         "where every row needs one", w=(1, 9, 2), r=(1, 9, 3), s=(1, 1, 3), z=[0]),
    case("(float[N,2,4] x) => (y) { y = MatMul(x, w) }", "pairs the batch with an axis of length 3",
         w=(3, 4, 2)),
    case("(float[N,2,4] x, float[N,3,4] z) => (y) { t = Transpose<perm=[1,0,2]>(z) "
         "u = Transpose<perm=[0,2,1]>(t) y = MatMul(x, u) }",
         "pairs the batch with an axis of length 3"),
    case("(float[N,2,4] x, float[N,2,4] z) => (y) { t = Transpose<perm=[1,2,0]>(z) "
         "y = MatMul(x, t) }", "pairs the batch with an axis of length 2"),
    case("(float[N] x) => (y) { s = Shape(x) t = Concat<axis=0>(s, three) y = Reshape(x, t) }",
         "reshapes [batch] to [batch, 3]", three=[3]),
    case("(float[N,t] x) => (y) { s = Shape(x) n = Gather(s, z) t = Concat<axis=0>(n, z3) "
         "y = Reshape(x, t) }", "does not keep the batch apart", z=[0], z3=[3]),
    case("(float[N,4] x) => (y) { y = Reshape(x, s) }", "has the batch in axis 1, not 0",
         s=[1, -1]),
    case("(float[N,3] x) => (y) { y = Reshape(x, s) }", "does not keep the batch apart",
         s=[-1, 2]),
    case("(float[N,h] x) => (y) { y = Reshape(x, s) }", "the length of axis 0 is not known",
         s=[-1, 4]),
    case("(float[N,4] x, int64[2] s) => (y) { y = Reshape(x, s) }",
         "the first axis of input 's' is fixed at 2"),
    case("(float[N,4] x) => (y) { y = Flatten<axis=0>(x) }", "has the batch in axis 1"),
    case("(float[N,1,4] x) => (y) { y = Squeeze(x) }",
         "which the batch has when one row comes alone"),
    case("(float[N,4] x) => (y) { y = Concat<axis=0>(x, x) }", "joins tensors along axis 0"),
    case("(float[N,4] x) => (y) { y = Concat<axis=1>(x, w) }",
         "joins the batch with an input that has none", w=(3, 2)),
    case("(float[N,4] x) => (a) { a, b = Split<axis=0>(x) }", "splits axis 0, the batch"),
    case("(float[N,4] x) => (y) { y = Slice(x, a, b) }", "takes a part of axis 0", a=[0], b=[2]),
    case("(float[N,4] x) => (y) { y = Slice(x, a, b, c, d) }", "takes a part of axis 0",
         a=[-1], b=[-(2**31)], c=[0], d=[-1]),
    case("(float[N,4] x) => (y) { s = Shape(x) n = Gather(s, z) p = Slice(w, z, n) "
         "y = Add(x, p) }", "by the size of the batch", z=[0], w=(9, 4)),
    case("(float[N,4] x) => (y) { y = Pad(x, p) }", "pads axis 0, the batch", p=[1, 0, 0, 0]),
    case("(float[N,4] x) => (y) { y = Tile(x, r) }", "merged with other axes", r=[2, 1]),
    case("(float[N,t] m, float[N,q] x) => (y) { s = Shape(m) n = Gather(s, none) "
         "t = Gather(s, step) z = Shape(x) q = Gather(z, step) r = Range(none, n, step) "
         "u = Unsqueeze(r, one) b = Mul(u, t) c = Range(none, q, step) v = Unsqueeze(c, zero) "
         "i = Add(v, b) f = Flatten<axis=2>(m) y = Gather(f, i) }",
         "picks from the batch by numbers", zero=[0], one=[1], none=0, step=1),
    *(case("(float[N,5] m) => (y) { s = Shape(m) n = Gather(s, none) r = Range(none, n, step) "
           "u = Unsqueeze(r, one) b = Mul(u, wide) i = Add(b, places) f = Reshape(m, all) "
           "y = Gather(f, i) }", "picks from the batch by numbers",
           one=[1], all=[-1], none=0, step=1, wide=wide, places=places)
      for wide, places in ((5, [0, 5]), (5, [-1, 0]), (4, [0, 1]), (5, list(range(70))))),
    case("(float[N,5] m) => (y) { s = Shape(m) n = Gather(s, none) r = Range(none, n, step) "
         "u = Unsqueeze(r, one) b = Mul(u, five) c = Add(b, i) d = Add(c, i) f = Reshape(m, all) "
         "y = Gather(f, d) }", "picks from the batch by numbers",
         one=[1], all=[-1], none=0, step=1, five=5, i=[0, 3]),
    case("(float[N,4] x) => (y) { k, y = Scan<num_scan_inputs=1,body=turn (float[4] s, float[4] w)"
         " => (float[4] t, float[4] e) { t = Add(s, w) e = Identity(t) }>(z, x) }",
         "goes through axis 0, the batch, row by row", z=(4,)),
    case("(float[N,4] x) => (y) { k, y = Scan<num_scan_inputs=1,body=turn (float[n,4] s, "
         "float[4] w) => (float[n,4] t, float[n,4] e) { t = Add(s, w) e = Softmax<axis=0>(t) }"
         ">(x, w) }",
         "normalises over axis 0, the batch", w=(6, 4)),
    case("(float[N,4,4] x) => (y) { y, k = Scan<num_scan_inputs=1,body=turn (float[a,b,c] s, "
         "float[4] w) => (float[a,b,c] t, float[4] e) { t = Transpose<perm=[1,0,2]>(s) "
         "e = Identity(w) }>(x, w) }",
         "what is carried on as 's' is laid out anew", w=(6, 4)),
    case("(float[s0,s0] x) => (y) { y = Relu(x) }", "input 'x' gives its axes 0, 1 one name, 's0'"),
    case("(float[N,4] x) => (y) { y = Dropout(x, ratio, on) }", "exported in training mode",
         ratio=np.float32(0.5), on=np.array(True)),
    *(case(f"(float[N,2,h,w] x) => (y) {{ a = {operator} s = Shape(x) n = Slice(s, zero, one) "
           "hw = Slice(s, two, four) p = ReduceProd(hw) t = Concat<axis=0>(n, c, p) "
           "y = Reshape(a, t) }", "does not keep the batch apart",
           k=(2, 2, 3, 3), zero=[0], one=[1], two=[2], four=[4], c=[2])
      for operator in (
          "Conv(x, k)", "Conv<pads=[1,1,1,1],strides=[2,2]>(x, k)",
          "Conv<pads=[1,1,1,1],dilations=[2,2]>(x, k)",
          "MaxPool<kernel_shape=[1,1],strides=[2,2],ceil_mode=1>(x)",
      )),
    case("(float[N,4] x) => (y) { s = Shape(x) n = Gather(s, zero) y = Loop<body=turn (int64 i, "
         "bool c, float[n,4] s) => (bool d, float[n,4] t) { d = Identity(c) t = Relu(s) }"
         ">(n, , x) }",
         "takes input 0, a setting of all rows, from the batch", zero=0),
    case("(float[N,4] x) => (y) { y = Loop<body=turn (int64 i, bool c, float[n,4] s) => (bool d, "
         "float[n,4] t) { k = Shape(s) n = Gather(k, zero) d = Less(i, n) t = Relu(s) }>(, , x) }",
         "whether a Loop has another turn depends on the batch", zero=0),
    case("(float[N,4] x) => (y) { y = Gather<axis=0>(x, i) }", "picks entries of axis 0", i=[0]),
    case("(float[N,4] x, int64[N] i) => (y) { y = Gather<axis=0>(x, i) }",
         "picks from the batch by numbers that come from the batch"),
    case("(float[N,4] x) => (y) { s = Size(x) f = Cast<to=1>(s) y = Div(x, f) }",
         "computes with the size of the batch"),
    case("(float[N,4] x) => (y) { s = Shape(x) n = Gather(s, z) r = Range(z, n, o) "
         "f = Cast<to=1>(r) u = Unsqueeze(f, a) y = Add(x, u) }",
         "depends on the place that a row has in the batch", z=0, o=1, a=[1]),
    case("(float[N,4] x) => (y) { s = Shape(x) n = Gather(s, z) r = Range(z, n, o) "
         "y = Gather(w, r) }", "depends on the place that a row has", z=0, o=1, w=(9, 2)),
    case("(float[N,4] x) => (y) { s = Shape(x) n = Gather(s, z) m = Add(n, o) "
         "r = Range(o, m, o) y = Cast<to=1>(r) }", "depends on the size of the batch", z=0, o=1),
    case("(float[N,4] x) => (y) { s = Shape(x) n = Gather(s, z) r = Range(z, n, o) "
         "u = Unsqueeze(r, a) v = Add(u, o) i = Concat<axis=1>(u, v) y = GatherND(x, i) }",
         "picks from the batch by numbers", z=0, o=1, a=[1]),
    case("(float[N,2,3,4] x) => (y) { y = Resize(x, , s) }", "the batch, at its length",
         s=np.array([2, 1, 1, 1], "float32")),
    case("(float[N,2,4,4] x) => (y, i) { y, i = MaxPool<kernel_shape=[2,2]>(x) }",
         "places counted through the whole batch"),
    case("(float[c,N,4] x) => (y) { t = Transpose<perm=[1,0,2]>(x) "
         "n = BatchNormalization(t, s, b, m, v) y = Transpose<perm=[1,0,2]>(n) }",
         "takes axis 1 for channels", s=(3,), b=(3,), m=(3,), v=[1.0, 1.0, 1.0]),
    case("(float[N,3,4] x) => (y) { y = BatchNormalization<training_mode=1>(x, s, b, m, v) }",
         "in training mode", s=(3,), b=(3,), m=(3,), v=[1.0, 1.0, 1.0]),
    case("(float[N,2,4,4] x) => (y) { y = MeanVarianceNormalization(x) }",
         "normalises over axis 0"),
    case('(float[N,4] x) => (y) { y = Einsum<equation="bi,cj->bc">(x, x) }',
         "two letters for the batch"),
    case('(float[N,4] x) => (y) { y = Einsum<equation="bi->i">(x) }', "sums over 'b', the batch"),
    case("(float[N,4] x) => (y) { r = RandomNormalLike(x) y = Add(x, r) }",
         "draws random numbers"),
    case("(float[N,4] x) => (y) { y = EyeLike(x) }", "an operator that the proof does not know"),
    case("(float[N,4] x) => (y) { y = com.acme.Mystery(x) }",
         "the com.acme.Mystery node that makes 'y' is an operator that the proof does not know"),
    case("(float[N] x) => (y) { y = ai.onnx.ml.Scaler<offset=[1.0],scale=[1.0]>(x) }",
         "a tensor of rank 1 for one row of features"),
    case("(float[N,4] x) => (y) { y = Relu(x) }", "uses 6", opset=6),
]  # fmt: skip


@pytest.mark.parametrize(("graph", "opset", "constants"), ACCEPTED)
def test_operator_that_keeps_rows_apart_is_accepted(
    graph: str, opset: int, constants: dict[str, Any]
) -> None:
    net = written(graph, opset=opset, **constants)
    proof = prove(net)
    assert proof.batched, proof.reason
    rows_agree(net, feeds_for(net))


@pytest.mark.parametrize(("graph", "opset", "constants", "reason"), REFUSED)
def test_operator_that_may_mix_rows_is_refused(
    graph: str, opset: int, constants: dict[str, Any], reason: str
) -> None:
    proof = prove(written(graph, opset=opset, **constants))
    assert not proof.batched
    assert reason in proof.reason
    assert (proof.inputs, proof.outputs) == ((), ())


def test_scores_of_trees_are_counted_in_the_first_opset_too() -> None:
    """skl2onnx asks for that one, for which shape inference says nothing of the scores."""
    net = written(
        "(float[N,2] x) => (y) { l, p = ai.onnx.ml.TreeEnsembleClassifier<"
        "classlabels_int64s=[0,1,2],class_ids=[0,1,2,1],class_nodeids=[1,1,2,2],"
        "class_treeids=[0,0,0,0],class_weights=[0.7,0.3,0.4,0.6],nodes_treeids=[0,0,0],"
        "nodes_nodeids=[0,1,2],nodes_featureids=[1,0,0],nodes_values=[0.1,0.0,0.0],"
        "nodes_truenodeids=[1,0,0],nodes_falsenodeids=[2,0,0],"
        'nodes_modes=["BRANCH_LEQ","LEAF","LEAF"]>(x) '
        "a = Reshape(p, s) b = Concat<axis=0>(a, a) y = ReduceMean<axes=[0],keepdims=0>(b) }",
        s=[1, -1, 3],
    )
    next(o for o in net.opset_import if o.domain == "ai.onnx.ml").version = 1
    proof = prove(net)
    assert proof.batched, proof.reason
    rows_agree(net, feeds_for(net))


def feeds_for(net: onnx.ModelProto, rows: int = 3) -> dict[str, np.ndarray]:
    """Return random inputs of three rows; other axes without a length get four."""
    generator = np.random.default_rng(5)
    feeds = {}
    for info in net.graph.input:
        axes = info.type.tensor_type.shape.dim
        shape = [rows if i == 0 else d.dim_value or 4 for i, d in enumerate(axes)]
        if info.type.tensor_type.elem_type == onnx.TensorProto.INT64:
            feeds[info.name] = generator.integers(0, 5, shape)
        else:
            feeds[info.name] = np.asarray(generator.standard_normal(shape), "float32")
    return feeds
