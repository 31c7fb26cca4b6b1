"""Grows random graphs, right and wrong ones alike, for the test that no wrong one is accepted.

A node is kept if onnxruntime runs it on a batch of ``ROWS``; other lengths are chosen to collide
with the batch, so that mistakes that a fixed size would hide are found.
"""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import onnx
from hypothesis import strategies as st

from tests.unit.formats.nets import constant, model, node, session, tensor

ROWS = 3
SIZES = (1, 2, 3, 4, 6)


class Growth:
    """A graph that grows node by node; values are known by name with their shapes at ROWS."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.feeds: dict[str, np.ndarray] = {}
        self.floats: dict[str, tuple[int, ...]] = {}
        self.opset = self.pick((11, 13, 17, 18))
        self._count = 0
        generator = np.random.default_rng(self.draw(st.integers(0, 1000)))
        for i in range(self.pick((1, 1, 2))):
            rest = [self.pick(SIZES) for _ in range(self.pick((0, 1, 2, 2, 3, 3)))]
            fixed = self.pick((True, False))
            shown = [d if fixed else None for d in rest]
            self.inputs.append(tensor(f"x{i}", ["batch", *shown]))
            self.feeds[f"x{i}"] = generator.standard_normal((ROWS, *rest)).astype("float32")
            self.floats[f"x{i}"] = (ROWS, *rest)

    def pick(self, options: Any) -> Any:
        return self.draw(st.sampled_from(list(options)))

    def fresh(self, stem: str) -> str:
        self._count += 1
        return f"{stem}{self._count}"

    def held(self, values: Any) -> str:
        name = self.fresh("c")
        self.constants.append(constant(name, values))
        return name

    def noise(self, *shape: int) -> str:
        seed = self.draw(st.integers(0, 50))
        return self.held(np.random.default_rng(seed).standard_normal(shape).astype("float32"))

    def value(self) -> tuple[str, tuple[int, ...]]:
        return self.pick(list(self.floats.items())[::-1])

    def emit(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        names = [self.fresh("v") for _ in range(outputs)]
        domain = attributes.pop("domain", "")
        self.nodes.append(node(operator, list(inputs), names, domain=domain, **attributes))
        return names[0]

    def grow(self) -> None:
        """Add one operator; takes it back if the engine refuses it."""
        nodes, constants = len(self.nodes), len(self.constants)
        result = self.pick(STEPS)(self)
        try:
            made = session(self.net(result)).run(None, self.feeds)[0] if result else None
        except Exception:
            made = None
        # Empty tensors are left out: onnxruntime 1.31 aborts in a GRU over an empty time axis.
        usable = made is not None and made.dtype == np.float32 and 0 < made.size <= 4096
        if usable and made.ndim <= 5:
            self.floats[result] = made.shape
        else:
            del self.nodes[nodes:], self.constants[constants:]

    def grown(self) -> list[str]:
        """Return the values that operators made."""
        return [name for name in self.floats if name not in self.feeds]

    def net(self, output: str) -> onnx.ModelProto:
        """Return a model of just the nodes that the output needs."""
        needed, nodes = {output}, []
        for made in reversed(self.nodes):
            if needed.intersection(made.output):
                needed.update(made.input)
                nodes.append(made)
        constants = [c for c in self.constants if c.name in needed]
        return model(nodes[::-1], self.inputs, [output], constants, opset=self.opset)


def _axis(g: Growth, shape: tuple[int, ...]) -> int:
    return g.draw(st.integers(-len(shape), max(len(shape) - 1, 0)))


def unary(g: Growth) -> str:
    return g.emit(g.pick(("Relu", "Neg", "Tanh", "Sigmoid")), g.value()[0])


def binary(g: Growth) -> str:
    name, shape = g.value()
    other = g.pick(("value", "value", "constant", "vector"))
    if other == "value":
        right = g.value()[0]
    elif other == "constant":
        right = g.noise(*[g.pick((d, 1)) for d in shape])
    else:
        right = g.noise(*shape[-1:])
    return g.emit(g.pick(("Add", "Mul", "Sub", "Max")), *g.pick(((name, right), (right, name))))


def matmul(g: Growth) -> str:
    name, shape = g.value()
    if g.pick((True, False)) and shape:
        other, left = g.noise(shape[-1], g.pick(SIZES)), name
        if g.pick((True, False, False)) and len(shape) >= 2:
            left, other = g.noise(g.pick(SIZES), shape[-2]), name
    else:
        left, other = name, g.value()[0]
        if g.pick((True, False)):
            rank = len(g.floats[other])
            swapped = [*range(rank - 2), rank - 1, rank - 2] if rank >= 2 else [0]
            other = g.emit("Transpose", other, perm=swapped)
    return g.emit("MatMul", left, other)


def gemm(g: Growth) -> str:
    name, shape = g.value()
    turn = g.pick((0, 0, 1))
    inner = shape[0 if turn else -1] if shape else 1
    width = g.pick(SIZES)
    bias = g.pick(((width,), (1, width), (shape[-1] if turn and shape else 3, width)))
    if g.pick((True, False)):
        return g.emit("Gemm", name, g.noise(inner, width), g.noise(*bias), transA=turn)
    return g.emit("Gemm", name, g.value()[0], transA=turn, transB=g.pick((0, 1)))


def transpose(g: Growth) -> str:
    name, shape = g.value()
    return g.emit("Transpose", name, perm=g.draw(st.permutations(range(len(shape)))) or [0])


def _length_of(g: Growth, name: str, rank: int) -> str:
    shape = g.emit("Shape", name)
    at = g.held([g.draw(st.integers(0, max(rank - 1, 0)))])
    return g.emit("Gather", shape, at, axis=0)


def reshape(g: Growth) -> str:
    name, shape = g.value()
    form = g.pick(("numbers", "numbers", "computed", "flatten", "merge", "split"))
    if form == "flatten":
        return g.emit("Flatten", name, axis=g.draw(st.integers(0, len(shape))))
    if form == "numbers":
        options = [0, -1, 1, 2, *shape, int(np.prod(shape[1:]))]
        target = [g.pick(options) for _ in range(g.pick((1, 2, 2, 3)))]
        return g.emit("Reshape", name, g.held(target))
    if form == "merge" and len(shape) >= 2:
        return g.emit("Reshape", name, g.held([-1, *shape[2:]]))
    source, other = (name, shape) if form != "split" else g.value()
    parts = []
    for _ in range(g.pick((1, 2, 2, 3))):
        kind = g.pick(("length", "length", "number", "product"))
        if kind == "number":
            parts.append(g.held([g.pick((-1, -1, 0, 1, 2, *shape))]))
            continue
        part = _length_of(g, source, len(other))
        if kind == "product":
            part = g.emit("Mul", part, _length_of(g, source, len(other)))
        parts.append(part)
    return g.emit("Reshape", name, g.emit("Concat", *parts, axis=0))


def reduce(g: Growth) -> str:
    name, shape = g.value()
    axis, keep = _axis(g, shape), g.pick((0, 1))
    operator = g.pick(("ReduceSum", "ReduceMax", "ReduceMean"))
    as_input = g.opset >= 18 or (g.opset >= 13 and operator == "ReduceSum")
    if as_input:
        return g.emit(operator, name, g.held([axis]), keepdims=keep)
    return g.emit(operator, name, axes=[axis], keepdims=keep)


def normalise(g: Growth) -> str:
    name, shape = g.value()
    axis = _axis(g, shape)
    operator = g.pick(("Softmax", "LogSoftmax", "LayerNormalization", "LpNormalization", "CumSum"))
    if operator == "LayerNormalization":
        return g.emit(operator, name, g.noise(*shape[axis % max(len(shape), 1) :]), axis=axis)
    if operator == "CumSum":
        return g.emit(operator, name, g.held(axis))
    return g.emit(operator, name, axis=axis)


def arg_max(g: Growth) -> str:
    name, shape = g.value()
    found = g.emit("ArgMax", name, axis=_axis(g, shape), keepdims=g.pick((0, 1)))
    form = g.pick(("cast", "gather", "elements", "table"))
    if form == "gather":
        return g.emit("Gather", g.value()[0], found, axis=g.pick((0, 1)))
    if form == "elements":
        return g.emit("GatherElements", g.value()[0], found, axis=g.pick((0, 1, 2)))
    if form == "table":
        return g.emit("Gather", g.noise(6, g.pick(SIZES)), found, axis=g.pick((0, 1)))
    return g.emit("Cast", found, to=onnx.TensorProto.FLOAT)


def join(g: Growth) -> str:
    name, shape = g.value()
    other = g.pick((name, g.value()[0], g.noise(*shape)))
    return g.emit("Concat", name, other, axis=_axis(g, shape))


def cut(g: Growth) -> str:
    name, shape = g.value()
    axis = _axis(g, shape)
    form = g.pick(("slice", "slice", "length", "gather", "split"))
    if form == "gather":
        return g.emit("Gather", name, g.held(g.pick(([0], [1, 0], 0))), axis=axis)
    if form == "split":
        return g.emit("Split", name, outputs=2, axis=axis)
    start = g.held([g.pick((0, 0, 1, -1))])
    length = _length_of(g, name, len(shape)) if form == "length" else None
    end = length or g.held([g.pick((1, 2, 3, -1, 2**31 - 1, 2**63 - 1))])
    return g.emit("Slice", name, start, end, g.held([axis]))


def squeeze(g: Growth) -> str:
    name, shape = g.value()
    axes = [_axis(g, shape)]
    operator = g.pick(("Squeeze", "Unsqueeze", "Unsqueeze"))
    if g.opset >= 13:
        given = () if operator == "Squeeze" and g.pick((True, False)) else (g.held(axes),)
        return g.emit(operator, name, *given)
    return g.emit(operator, name, axes=axes)


def stretch(g: Growth) -> str:
    name, shape = g.value()
    other = g.value()
    form = g.pick(("expand", "expand_constant", "fill", "tile", "tile_constant", "numbers"))
    if form == "numbers":
        return g.emit("Tile", name, g.held([g.pick((1, 1, 2)) for _ in shape]))
    if form in ("expand", "fill"):
        wanted = g.emit("Shape", other[0])
        if form == "fill":
            return g.emit("ConstantOfShape", wanted)
        return g.emit("Expand", name, wanted)
    parts = [_length_of(g, *_lengths(other)), g.held([g.pick(SIZES)])]
    wanted = g.emit("Concat", *g.draw(st.permutations(parts)), axis=0)
    free = g.noise(g.pick((1, 1, 3)), g.pick((1, 1, 2)))
    return g.emit("Expand" if form == "expand_constant" else "Tile", free, wanted)


def _lengths(value: tuple[str, tuple[int, ...]]) -> tuple[str, int]:
    return value[0], len(value[1])


def count(g: Growth) -> str:
    """Let the number of rows into the values, in ways a proof must not miss."""
    name, shape = g.value()
    length = _length_of(g, name, len(shape))
    form = g.pick(("add", "divide", "range", "where"))
    if form == "range":
        flat = g.emit("Reshape", length, g.held(np.zeros(0, "int64")))
        numbers = g.emit("Range", g.held(0), flat, g.held(1))
        return g.emit("Cast", numbers, to=onnx.TensorProto.FLOAT)
    if form == "where":
        test = g.emit("Equal", length, g.held([g.pick((-1, 1, 3))]))
        return g.emit("Where", test, name, g.emit("Neg", name))
    real = g.emit("Cast", length, to=onnx.TensorProto.FLOAT)
    return g.emit("Add" if form == "add" else "Div", name, real)


def select(g: Growth) -> str:
    name, shape = g.value()
    form = g.pick(("where", "top", "pad", "trilu", "onehot"))
    if form == "where":
        other = g.pick((g.value()[0], g.noise(*shape)))
        return g.emit("Where", g.emit("Greater", name, other), name, other)
    if form == "top":
        return g.emit("TopK", name, g.held([1]), outputs=2, axis=_axis(g, shape))
    if form == "pad":
        pads = [g.pick((0, 0, 0, 1)) for _ in range(2 * len(shape))]
        return g.emit("Pad", name, g.held(pads))
    if form == "trilu":
        return g.emit("Trilu", name, upper=g.pick((0, 1)))
    index = g.emit("ArgMax", name, axis=_axis(g, shape), keepdims=0)
    levels = g.held(np.array([0.0, 1.0], "float32"))
    return g.emit("OneHot", index, g.held([4]), levels, axis=g.pick((-1, 0, 1)))


def image(g: Growth) -> str:
    name, shape = g.value()
    form = g.pick(("conv", "pool", "global", "norm", "resize", "depth"))
    channels = shape[1] if len(shape) > 1 else 1
    if form == "conv":
        return g.emit("Conv", name, g.noise(2, channels, *[1] * (len(shape) - 2)))
    if form == "pool":
        return g.emit("MaxPool", name, kernel_shape=[1] * max(len(shape) - 2, 1))
    if form == "global":
        return g.emit("GlobalAveragePool", name)
    if form == "norm":
        return g.emit("InstanceNormalization", name, g.noise(channels), g.noise(channels))
    if form == "resize":
        scales = g.held(np.array([g.pick((1.0, 1.0, 2.0)) for _ in shape], "float32"))
        return g.emit("Resize", name, "", scales, mode="nearest")
    return g.emit("SpaceToDepth", name, blocksize=g.pick((1, 2)))


def recur(g: Growth) -> str:
    name, shape = g.value()
    width = shape[-1] if shape else 1
    gates = (g.noise(1, 6, width), g.noise(1, 6, 2))
    state = g.pick(("", "", "fixed", "filled"))
    extra: tuple[str, ...] = ()
    if state == "fixed":
        extra = ("", "", g.noise(1, ROWS, 2))
    if state == "filled":
        length = _length_of(g, name, len(shape))
        wanted = g.emit("Concat", g.held([1]), length, g.held([2]), axis=0)
        extra = ("", "", g.emit("ConstantOfShape", wanted))
    if g.pick((True, False)) and len(shape) == 3:
        name = g.emit("Transpose", name, perm=[1, 0, 2])
    wide = g.emit("GRU", name, *gates, *extra, outputs=2, hidden_size=2)
    last = g.nodes[-1].output[1]
    wide_first = g.emit("Transpose", wide, perm=[2, 0, 1, 3])
    return g.pick((wide, last, wide_first, g.emit("Transpose", last, perm=[1, 0, 2])))


def address(g: Growth) -> str:
    """Pick by tuples that begin with the row's number, or with something close to it."""
    name, shape = g.value()
    numbers = _row_numbers(g, name)
    if g.pick((True, False, False)):
        numbers = g.emit(g.pick(("Add", "Mul")), numbers, g.held(g.pick((0, 1))))
    other = g.emit("ArgMax", g.value()[0], axis=1, keepdims=1)
    pair = g.pick(((numbers, other), (numbers, other), (other, numbers), (numbers, numbers)))
    tuples = g.emit("Concat", *pair, axis=g.pick((1, 1, -1, 0)))
    return g.emit("GatherND", g.pick((name, g.value()[0], g.noise(*shape))), tuples)


def _row_numbers(g: Growth, name: str) -> str:
    length = g.emit("Reshape", _length_of(g, name, 1), g.held(np.zeros(0, "int64")))
    numbers = g.emit("Range", g.held(0), length, g.held(1))
    return g.emit("Reshape", numbers, g.held([-1, 1]))


def quantise(g: Growth) -> str:
    name, _ = g.value()
    g.emit("DynamicQuantizeLinear", name, outputs=3)
    return g.emit("DequantizeLinear", *g.nodes[-1].output)


def contract(g: Growth) -> str:
    name, shape = g.value()
    letters = "abcde"[: len(shape)]
    other, wide = g.value()
    theirs = "".join(g.pick("abcdef") for _ in wide)
    pool = sorted(set(letters + theirs))
    result = "".join(g.draw(st.permutations(pool)))[: g.pick((1, 2, 3))]
    return g.emit("Einsum", name, other, equation=f"{letters},{theirs}->{result}")


STEPS: tuple[Callable[[Growth], str], ...] = (
    unary, binary, binary, matmul, matmul, gemm, transpose, transpose, reshape, reshape, reshape,
    reduce, normalise, arg_max, join, cut, squeeze, stretch, stretch, count, select, image,
    recur, quantise, contract, address,
)  # fmt: skip
