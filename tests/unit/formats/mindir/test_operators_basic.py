"""Conversions of single operators agree with numpy, in both encodings of their settings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.errors import LoadError
from tests.unit.formats.mindir.mindir_files import RELEASES, Net, run_net, run_one

RNG = np.random.default_rng(11)
F = "float32"


def floats(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(F)


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


UNARY = {
    "Abs": np.abs,
    "Exp": np.exp,
    "Floor": np.floor,
    "Neg": np.negative,
    "ReLU": lambda x: np.maximum(x, 0),
    "ReLU6": lambda x: np.clip(x, 0, 6),
    "Rsqrt": None,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Softplus": lambda x: np.log1p(np.exp(x)),
    "Sqrt": None,
    "Square": np.square,
    "Tanh": np.tanh,
}


@pytest.mark.parametrize("operator", sorted(UNARY))
def test_unary_operator_agrees_with_numpy(tmp_path: Path, operator: str) -> None:
    x = floats(3, 5) * 4
    function = UNARY[operator]
    if function is None:
        x = np.abs(x) + 1
        function = {"Sqrt": np.sqrt, "Rsqrt": lambda v: 1 / np.sqrt(v)}[operator]
    (y,) = run_one(tmp_path, "2.10", operator, [x], (F, x.shape))
    np.testing.assert_allclose(y, function(x), rtol=1e-5, atol=1e-6)


BINARY = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "RealDiv": np.divide,
    "Maximum": np.maximum, "Minimum": np.minimum, "FloorDiv": np.floor_divide,
}  # fmt: skip


@pytest.mark.parametrize("operator", sorted(BINARY))
def test_binary_operator_broadcasts_as_numpy(tmp_path: Path, operator: str) -> None:
    x, y = floats(2, 1, 4), floats(3, 1) + 3
    (z,) = run_one(tmp_path, "2.10", operator, [x, y], (F, (2, 3, 4)))
    np.testing.assert_allclose(z, BINARY[operator](x, y), rtol=1e-6)


def test_floor_div_of_whole_numbers_rounds_down(tmp_path: Path) -> None:
    x = np.array([7, -7, 7, -7, -6], "int32")
    y = np.array([2, 2, -2, -2, 3], "int32")
    (z,) = run_one(tmp_path, "2.10", "FloorDiv", [x, y], ("int32", (5,)))
    np.testing.assert_array_equal(z, x // y)


def test_float32_scalar_beside_float16_is_computed_as_the_output_says(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", "float16", (3,))
    net.output(net.op("Mul", [x, net.constant(np.array(0.5, F))], ("float16", (3,))))
    (y,) = run_net(net, tmp_path, np.array([1, 2, 3], "float16"))
    assert y.dtype == np.float16
    np.testing.assert_array_equal(y, np.array([0.5, 1, 1.5], "float16"))


def test_python_number_takes_the_tensors_type(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", "int32", (3,))
    net.output(net.op("Greater", [x, net.constant(1)], ("bool", (3,))))
    (y,) = run_net(net, tmp_path, np.array([0, 1, 2], "int32"))
    np.testing.assert_array_equal(y, [False, False, True])


def test_in_place_sum_scales_by_alpha(tmp_path: Path) -> None:
    x, y = floats(4), floats(4)
    (z,) = run_one(tmp_path, "2.10", "InplaceAddExt", [x, y], (F, (4,)), alpha=2)
    np.testing.assert_allclose(z, x + 2 * y, rtol=1e-6)


def test_gelu_is_the_tanh_form(tmp_path: Path) -> None:
    x = floats(50) * 3
    (y,) = run_one(tmp_path, "2.10", "GeLU", [x], (F, x.shape))
    want = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("left", "right"), [(0, 0), (1, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize("rank", [2, 3])
def test_product_transposes_either_side(
    tmp_path: Path, release: str, left: int, right: int, rank: int
) -> None:
    front = (2,) * (rank - 2)
    x = floats(*front, *((4, 3) if left else (3, 4)))
    w = floats(*front, *((5, 4) if right else (4, 5)))
    settings = {"transpose_a": bool(left), "transpose_b": bool(right)}
    operator = "MatMul" if rank == 2 else "BatchMatMul"
    (y,) = run_one(tmp_path, release, operator, [x, w], (F, (*front, 3, 5)), **settings)
    want = (x.swapaxes(-1, -2) if left else x) @ (w.swapaxes(-1, -2) if right else w)
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)


def test_bias_is_added_along_the_channels(tmp_path: Path, release: str) -> None:
    x, b = floats(2, 3, 4, 4), floats(3)
    layout: Any = 0 if release == "2.10" else "NCHW"
    (y,) = run_one(tmp_path, release, "BiasAdd", [x, b], (F, x.shape), format=layout)
    np.testing.assert_allclose(y, x + b[:, None, None], rtol=1e-6)


def test_bias_is_added_along_the_last_axis_if_the_format_says_so(
    tmp_path: Path, release: str
) -> None:
    x, b = floats(2, 3, 4, 5), floats(5)
    layout: Any = 1 if release == "2.10" else "NHWC"
    (y,) = run_one(tmp_path, release, "BiasAdd", [x, b], (F, x.shape), format=layout)
    np.testing.assert_allclose(y, x + b, rtol=1e-6)


def test_batch_norm_uses_what_was_learned(tmp_path: Path, release: str) -> None:
    x, scale, bias, mean = floats(2, 3, 4, 4), floats(3), floats(3), floats(3)
    variance = np.abs(floats(3)) + 0.5
    net = Net(release)
    arrays = [x, scale, bias, mean, variance]
    names = [net.input(f"x{i}", F, a.shape) for i, a in enumerate(arrays)]
    layout: Any = 0 if release == "2.10" else "NCHW"
    stated: list[Any] = [(F, x.shape), *[(F, (3,))] * 4]
    five = net.op("BatchNorm", names, stated, is_training=False, epsilon=1e-3, momentum=0.1,
                  format=layout)  # fmt: skip
    net.output(net.op("TupleGetItem", [five, net.constant(0)], (F, x.shape)))
    (y,) = run_net(net, tmp_path, *arrays)
    s, b, m, v = (a[:, None, None] for a in arrays[1:])
    np.testing.assert_allclose(y, (x - m) / np.sqrt(v + 1e-3) * s + b, rtol=1e-4, atol=1e-5)


def test_layer_norm_agrees_with_its_definition(tmp_path: Path, release: str) -> None:
    x, gamma, beta = floats(4, 6), floats(6), floats(6)
    net = Net(release)
    names = [net.input(f"x{i}", F, a.shape) for i, a in enumerate((x, gamma, beta))]
    three = net.op("LayerNorm", names, [(F, (4, 6)), (F, (4, 1)), (F, (4, 1))],
                   begin_norm_axis=-1, begin_params_axis=-1, epsilon=1e-5)  # fmt: skip
    net.output(net.op("TupleGetItem", [three, net.constant(0)], (F, (4, 6))))
    (y,) = run_net(net, tmp_path, x, gamma, beta)
    centred = x - x.mean(-1, keepdims=True)
    want = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * gamma + beta
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("operator", "function"),
    [
        ("ReduceSum", np.sum),
        ("ReduceMean", np.mean),
        ("ReduceMax", np.max),
        ("ReduceProd", np.prod),
    ],
)
@pytest.mark.parametrize("axis", [(), (1,), (0, 2)])
@pytest.mark.parametrize("keep", [False, True])
def test_reduction_agrees_with_numpy(
    tmp_path: Path, release: str, operator: str, function: Any, axis: tuple[int, ...], keep: bool
) -> None:
    x = floats(2, 3, 4)
    want = function(x, axis=axis or None, keepdims=keep)
    net = Net(release)
    name = net.input("x", F, x.shape)
    given = [name, net.constant(axis)]
    net.output(net.op(operator, given, (F, want.shape), keep_dims=keep))
    (y,) = run_net(net, tmp_path, x)
    assert y.shape == want.shape
    np.testing.assert_allclose(y, want, rtol=1e-5)


SLICES: list[tuple[dict[str, Any], Any]] = [
    ({"begin": (1, 0, 2), "end": (3, 2, 4), "strides": (1, 1, 1)}, np.s_[1:3, 0:2, 2:4]),
    ({"begin": (1,), "end": (3,), "strides": (1,)}, np.s_[1:3]),
    ({"begin": (0, 1), "end": (0, 3), "strides": (1, 1), "begin_mask": 1, "end_mask": 1},
     np.s_[:, 1:3]),
    ({"begin": (0, -1), "end": (0, 0), "strides": (1, 1), "end_mask": 1, "shrink_axis_mask": 2},
     np.s_[:, -1]),
    ({"begin": (-1, 0), "end": (0, 0), "strides": (-1, 2), "begin_mask": 1, "end_mask": 3},
     np.s_[::-1, ::2]),
    ({"begin": (0, 1), "end": (0, 3), "strides": (1, 1), "ellipsis_mask": 1}, np.s_[..., 1:3]),
    ({"begin": (0, 0, 1), "end": (0, 0, 2), "strides": (1, 1, 1), "begin_mask": 1, "end_mask": 1,
      "new_axis_mask": 2, "shrink_axis_mask": 4}, np.s_[:, np.newaxis, 1]),
    ({"begin": (0, 0, 0), "end": (0, 0, 0), "strides": (1, 1, 1), "new_axis_mask": 5,
      "ellipsis_mask": 2}, np.s_[np.newaxis, ..., np.newaxis]),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(SLICES)))
def test_strided_slice_agrees_with_numpy(tmp_path: Path, release: str, number: int) -> None:
    settings, place = SLICES[number]
    x = floats(4, 5, 6)
    want = x[place]
    masks = {m: settings.get(m, 0) for m in ("begin_mask", "end_mask", "ellipsis_mask",
                                             "new_axis_mask", "shrink_axis_mask")}  # fmt: skip
    net = Net(release)
    given = [net.input("x", F, x.shape)]
    given += [net.constant(settings[n]) for n in ("begin", "end", "strides")]
    net.output(net.op("StridedSlice", given, (F, want.shape), **masks))
    (y,) = run_net(net, tmp_path, x)
    np.testing.assert_array_equal(y, want)


def test_slice_size_of_minus_one_is_the_rest(tmp_path: Path) -> None:
    x = floats(4, 6)
    net = Net()
    given = [net.input("x", F, x.shape), net.constant((1, 2)), net.constant((2, -1))]
    net.output(net.op("Slice", given, (F, (2, 4))))
    np.testing.assert_array_equal(run_net(net, tmp_path, x)[0], x[1:3, 2:])


@pytest.mark.parametrize("multiples", [(2, 3), (2, 1, 3)])
def test_tile_repeats_and_adds_axes_in_front(tmp_path: Path, multiples: tuple[int, ...]) -> None:
    x = floats(2, 3)
    want = np.tile(x, multiples)
    net = Net()
    given = [net.input("x", F, x.shape), net.constant(multiples)]
    net.output(net.op("Tile", given, (F, want.shape)))
    np.testing.assert_array_equal(run_net(net, tmp_path, x)[0], want)


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_one_hot_leaves_indices_without_a_place_off(
    tmp_path: Path, release: str, axis: int
) -> None:
    indices = np.array([[0, 2], [-1, 3]], "int32")
    eye = np.where(indices[..., None] == np.arange(3), 5, 1).astype(F)
    want = np.moveaxis(eye, -1, axis)
    net = Net(release)
    given = [net.input("i", "int32", (2, 2)), net.constant(3)]
    given += [net.constant(np.array(v, F)) for v in (5, 1)]
    net.output(net.op("OneHot", given, (F, want.shape), axis=axis))
    np.testing.assert_array_equal(run_net(net, tmp_path, indices)[0], want)


def test_embedding_lookup_gives_zeros_for_rows_that_are_not_there(tmp_path: Path) -> None:
    table = floats(4, 3)
    net = Net()
    given = [net.weight("t", table), net.input("i", "int32", (2, 2)), net.constant(1)]
    net.output(net.op("EmbeddingLookup", given, (F, (2, 2, 3))))
    (y,) = run_net(net, tmp_path, np.array([[1, 4], [0, 5]], "int32"))
    np.testing.assert_array_equal(y, [[table[0], table[3]], [0 * table[0], 0 * table[0]]])


def test_top_k_gives_places_of_the_stated_type(tmp_path: Path) -> None:
    x = np.array([[3, 1, 2, 5], [0, 9, 8, 7]], F)
    net = Net()
    pair = net.op("TopK", [net.input("x", F, (2, 4)), net.constant(2)],
                  [(F, (2, 2)), ("int32", (2, 2))], {"sorted": True})  # fmt: skip
    net.output(pair)
    values, places = run_net(net, tmp_path, x)
    np.testing.assert_array_equal(values, [[5, 3], [9, 8]])
    np.testing.assert_array_equal(places, np.array([[3, 0], [1, 2]], "int32"))
    assert places.dtype == np.int32


def test_unstack_and_stack_undo_each_other(tmp_path: Path) -> None:
    x = floats(2, 3, 4)
    net = Net("2.0")
    parts = net.op("Unstack", [net.input("x", F, x.shape)], [(F, (2, 4))] * 3, {"axis": 1})
    net.output(net.op("Stack", [parts], (F, (3, 2, 4)), {"axis": 0}))
    np.testing.assert_array_equal(run_net(net, tmp_path, x)[0], x.transpose(1, 0, 2))


CONVOLUTIONS: list[tuple[dict[str, Any], tuple[int, ...]]] = [
    ({"pad_mode": "valid", "pad": (0, 0, 0, 0), "stride": (1, 1, 1, 1)}, (1, 4, 5, 5)),
    ({"pad_mode": "same", "pad": (0, 0, 0, 0), "stride": (1, 1, 2, 2)}, (1, 4, 4, 4)),
    ({"pad_mode": "pad", "pad": (1, 0, 2, 1), "stride": (1, 1, 1, 1)}, (1, 4, 6, 8)),
]


@pytest.mark.parametrize("number", range(len(CONVOLUTIONS)))
def test_convolution_pads_as_stated(tmp_path: Path, number: int) -> None:
    settings, shape = CONVOLUTIONS[number]
    x, w = floats(1, 2, 7, 7), floats(4, 2, 3, 3)
    attributes = {"kernel_size": (3, 3), "dilation": (1, 1, 1, 1), "group": 1, "format": "NCHW"}
    attributes |= settings
    (y,) = run_one(tmp_path, "2.10", "Conv2D", [x, w], (F, shape), attributes)
    top, bottom, left, right = settings["pad"]
    if settings["pad_mode"] == "same":
        # 4 windows of 3 at stride 2 over 7 take 9: one on each side.
        top = bottom = left = right = 1
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    step = settings["stride"][2]
    want = np.einsum("nchwij,ocij->nohw", windows[:, :, ::step, ::step], w)
    assert y.shape == shape
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("mode", "around", "size"), [("same", 2, 7), ("valid", 0, 3)])
def test_convolution_with_gaps_pads_as_stated(
    tmp_path: Path, mode: str, around: int, size: int
) -> None:
    x, w = floats(1, 2, 7, 7), floats(4, 2, 3, 3)
    attributes = {"kernel_size": (3, 3), "stride": (1, 1, 1, 1), "dilation": (1, 1, 2, 2),
                  "group": 1, "format": "NCHW", "pad_mode": mode, "pad": (0, 0, 0, 0)}  # fmt: skip
    (y,) = run_one(tmp_path, "2.10", "Conv2D", [x, w], (F, (1, 4, size, size)), attributes)
    padded = np.pad(x, ((0, 0), (0, 0), (around, around), (around, around)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(2, 3))
    want = np.einsum("nchwij,ocij->nohw", windows[..., ::2, ::2], w)
    assert y.shape == want.shape
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("release", "mode"), [("2.0", "VALID"), ("2.10", 2)])
def test_pooling_reads_both_forms_of_its_window(tmp_path: Path, release: str, mode: Any) -> None:
    x = floats(1, 2, 6, 6)
    window: Any = (1, 1, 2, 2) if release == "2.0" else (2, 2)
    layout: Any = "NCHW" if release == "2.0" else 0
    (y,) = run_one(tmp_path, release, "AvgPool", [x], (F, (1, 2, 3, 3)), kernel_size=window,
                   strides=window, pad_mode=mode, format=layout)  # fmt: skip
    np.testing.assert_allclose(y, x.reshape(1, 2, 3, 2, 3, 2).mean((3, 5)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axes", [(0, 1), (-1, 0), (0, 1, 2)])
def test_softmax_over_several_axes_takes_them_as_one(tmp_path: Path, axes: tuple[int, ...]) -> None:
    x = floats(2, 3, 4) * 60
    powers = np.exp(x.astype("float64") - x.max())
    want = powers / powers.sum(axes, keepdims=True)
    (y,) = run_one(tmp_path, "2.0", "Softmax", [x], (F, x.shape), {"axis": axes})
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("operator", "inputs", "stated", "settings", "said"),
    [
        ("Conv2D", [(1, 3, 3, 2), (1, 2, 1, 1)], (F, (1, 3, 3, 1)),
         {"kernel_size": (1, 1), "format": "NCDHW"}, "only NCHW"),
        ("Gather", [(4, 3), (2, 2)], (F, (2, 2, 3)), {"axis": 0, "batch_dims": 1}, "batch_dims"),
        ("Transpose", [(2, 3)], (F, (3, 2)), {"perm": (1, 7)}, "axis 7"),
        ("MaxPool", [(1, 1, 4, 4)], (F, (1, 1, 2, 2)), {"kernel_size": (1, 2, 2, 2)}, "channels"),
    ],
)  # fmt: skip
def test_operator_refuses_what_it_cannot_do_exactly(
    tmp_path: Path, operator: str, inputs: Any, stated: Any, settings: Any, said: str
) -> None:
    arrays = [np.zeros(shape, F) for shape in inputs]
    with pytest.raises(LoadError, match=said) as caught:
        run_one(tmp_path, "2.0", operator, arrays, stated, settings)
    assert caught.value.code == "unsupported_operator"
    assert f"{operator} at 'Default/{operator}-op" in caught.value.message
