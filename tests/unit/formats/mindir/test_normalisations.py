"""Normalisations agree with their formulas in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.formats.mindir.agreement import Array, check, check_refused, numbers, stated
from tests.unit.formats.mindir.mindir_files import Net, run_net


def standard(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    wide = x.astype(float)
    centred = wide - wide.mean(axes, keepdims=True)
    result: Array = centred / np.sqrt((centred**2).mean(axes, keepdims=True) + epsilon)
    return result


def first_of(
    folder: Path, operator: str, inputs: list[Any], want: Array, others: int = 2, item: int = 0,
    attributes: dict[str, Any] | None = None, tolerance: float = 1e-4,
) -> None:  # fmt: skip
    """Hold one answer of a tuple against what is wanted; what is no array is a constant."""
    net = Net()
    given = [
        net.input(f"x{i}", str(v.dtype), v.shape) if isinstance(v, np.ndarray) else net.constant(v)
        for i, v in enumerate(inputs)
    ]
    types: Any = [stated(want)] * (others + 1)
    several = net.op(operator, given, types, attributes)
    net.output(net.op("TupleGetItem", [several, net.constant(item)], stated(want)))
    arrays = [v for v in inputs if isinstance(v, np.ndarray)]
    (found,) = run_net(net, folder, *arrays)
    assert (found.dtype, found.shape) == (want.dtype, want.shape)
    np.testing.assert_allclose(found, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("groups", [1, 3, 6])
@pytest.mark.parametrize("shape", [(2, 6, 4, 5), (2, 6), (2, 6, 3, 4, 2)])
def test_group_norm_normalises_groups_of_channels(
    tmp_path: Path, groups: int, shape: tuple[int, ...]
) -> None:
    x, weight, bias = numbers(*shape) * 3 + 1, numbers(6, seed=1), numbers(6, seed=2)
    rows = standard(x.reshape(2, groups, -1), (2,), 1e-3).reshape(shape)
    channel = (6, *(1 for _ in shape[2:]))
    want = rows * weight.reshape(channel) + bias.reshape(channel)
    first_of(tmp_path, "GroupNorm", [x, groups, weight, bias, 1e-3], want.astype("f4"))
    first_of(tmp_path, "GroupNorm", [x, groups, None, None, 1e-3], rows.astype("f4"))


def test_group_norm_takes_half_precision(tmp_path: Path) -> None:
    x = numbers(2, 4, 3, dtype="float16")
    want = standard(x.reshape(2, 2, -1), (2,), 1e-5).reshape(x.shape).astype("f2")
    first_of(tmp_path, "GroupNorm", [x, 2, None, None, 1e-5], want, tolerance=1e-2)


def test_instance_norm_uses_each_images_own_statistics(tmp_path: Path) -> None:
    x, gamma, beta = numbers(2, 6, 4, 5) * 3 + 1, numbers(6, seed=1), numbers(6, seed=2)
    want = standard(x, (2, 3), 1e-3) * gamma.reshape(6, 1, 1) + beta.reshape(6, 1, 1)
    given = [x, gamma, beta, numbers(6, seed=3), np.abs(numbers(6, seed=4))]
    first_of(tmp_path, "InstanceNorm", given, want.astype("f4"), attributes={"epsilon": 1e-3})


@pytest.mark.parametrize("training", [False, True])
def test_instance_norm_v2_uses_given_statistics_unless_training(
    tmp_path: Path, training: bool
) -> None:
    x = numbers(2, 6, 4, 5) * 3 + 1
    gamma, beta, mean, spread = (numbers(2, 6, 1, 1, seed=i) for i in range(4))
    variance = spread**2
    given = (x - mean) / np.sqrt(variance + 1e-3)
    want = (standard(x, (2, 3), 1e-3) if training else given) * gamma + beta
    attributes = {"is_training": training, "momentum": 0.1, "epsilon": 1e-3}
    first_of(tmp_path, "InstanceNormV2", [x, gamma, beta, mean, variance], want.astype("f4"),
             attributes=attributes)  # fmt: skip


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (7, 3), (2, 3, 6)])
@pytest.mark.parametrize("learned", [True, False])
def test_batch_norm_of_mint_uses_learned_statistics(
    tmp_path: Path, shape: tuple[int, ...], learned: bool
) -> None:
    x, channel = numbers(*shape), (3, *(1 for _ in shape[2:]))
    weight, bias, mean, spread = (numbers(3, seed=i) for i in range(4))
    variance = spread**2
    want = (x - mean.reshape(channel)) / np.sqrt(variance.reshape(channel) + 1e-3)
    if learned:
        want = want * weight.reshape(channel) + bias.reshape(channel)
    scale: list[Any] = [weight, bias] if learned else [None, None]
    given = [x, *scale, mean, variance, False, 0.1, 1e-3]
    first_of(tmp_path, "BatchNormExt", given, want.astype("f4"))


def test_batch_norm_of_mint_refuses_the_statistics_of_its_batch(tmp_path: Path) -> None:
    x, row = numbers(2, 3), numbers(3)
    check_refused(
        tmp_path, "export the network for inference", "BatchNormExt", [x, row, row, row, row], x,
        training=True, momentum=0.1, epsilon=1e-3,
    )  # fmt: skip


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("learned", [True, False])
def test_layer_norm_of_mint_normalises_the_last_axes(
    tmp_path: Path, count: int, learned: bool
) -> None:
    x = numbers(2, 5, 8) * 3 + 1
    shape = x.shape[-count:]
    weight, bias = numbers(*shape, seed=1), numbers(*shape, seed=2)
    want = standard(x, tuple(range(3 - count, 3)), 1e-3)
    want = want * weight + bias if learned else want
    scale: list[Any] = [weight, bias] if learned else [None, None]
    first_of(tmp_path, "LayerNormExt", [x, shape, *scale, 1e-3], want.astype("f4"))


def test_layer_norm_v3_is_layer_norm(tmp_path: Path) -> None:
    x, gamma, beta = numbers(2, 5, 8), numbers(8, seed=1), numbers(8, seed=2)
    want = (standard(x, (2,), 1e-7) * gamma + beta).astype("f4")
    first_of(tmp_path, "LayerNormV3", [x, gamma, beta, -1, -1, 1e-7], want)


@pytest.mark.parametrize("item", [0, 3])
def test_add_layer_norm_gives_the_sum_as_well(tmp_path: Path, item: int) -> None:
    x, y, gamma, beta = numbers(2, 5, 8), numbers(2, 5, 8, seed=3), numbers(8), numbers(8, seed=2)
    want = standard(x + y, (2,), 1e-3) * gamma + beta if item == 0 else x + y
    given = [x, y, gamma, beta, 1e-3, True]
    first_of(tmp_path, "AddLayerNormV2", given, want.astype("f4"), others=3, item=item)


def by_root(x: Array, gamma: Array, epsilon: float) -> tuple[Array, Array]:
    axes = tuple(range(x.ndim - gamma.ndim, x.ndim))
    inverse = 1 / np.sqrt((x.astype(float) ** 2).mean(axes, keepdims=True) + epsilon)
    return (x * inverse * gamma).astype("f4"), inverse.astype("f4")


@pytest.mark.parametrize("item", [0, 1])
@pytest.mark.parametrize("shape", [(8,), (5, 8)])
def test_rms_norm_gives_the_inverse_root_as_well(
    tmp_path: Path, shape: tuple[int, ...], item: int
) -> None:
    x, gamma = numbers(2, 5, 8) * 3, numbers(*shape, seed=1)
    want = by_root(x, gamma, 1e-3)[item]
    first_of(tmp_path, "RmsNorm", [x, gamma, 1e-3], want, others=1, item=item)


@pytest.mark.parametrize("item", [0, 1, 2])
def test_add_rms_norm_gives_the_sum_as_well(tmp_path: Path, item: int) -> None:
    x, y, gamma = numbers(2, 5, 8), numbers(2, 5, 8, seed=3), numbers(8, seed=1)
    want = (*by_root(x + y, gamma, 1e-3), x + y)[item]
    first_of(tmp_path, "AddRmsNorm", [x, y, gamma, 1e-3], want, item=item)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_l2_normalize_divides_by_the_length_but_not_by_nothing(tmp_path: Path, axis: int) -> None:
    x = numbers(3, 4, 5)
    x[0] *= 1e-4
    x[:, 1] *= 1e-4
    x[..., 2] *= 1e-4
    length = np.sqrt(np.maximum((x**2).sum(axis, keepdims=True), 1e-4))
    attributes = {"axis": (axis,), "epsilon": 1e-4}
    check(tmp_path, "L2Normalize", [x], (x / length).astype("f4"), attributes)


@pytest.mark.parametrize("radius", [1, 2, 5])
def test_lrn_divides_by_the_squares_of_neighbouring_channels(tmp_path: Path, radius: int) -> None:
    x = numbers(2, 7, 3, 4)
    want = np.zeros_like(x)
    for c in range(7):
        near = x[:, max(c - radius, 0) : c + radius + 1]
        want[:, c] = x[:, c] / (2.0 + 0.3 * (near**2).sum(1)) ** 0.75
    attributes = {
        "depth_radius": radius, "bias": 2.0, "alpha": 0.3, "beta": 0.75,
        "norm_region": "ACROSS_CHANNELS",
    }  # fmt: skip
    check(tmp_path, "LRN", [x], want, attributes)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_lerp_mixes_by_a_tensor_or_a_number(tmp_path: Path, dtype: str) -> None:
    x, y, w = (numbers(3, 4, seed=i, dtype=dtype) for i in range(3))
    tolerance = 1e-5 if dtype == "float32" else 1e-2
    check(tmp_path, "Lerp", [x, y, w], x + w * (y - x), tolerance=tolerance)
    want = (x + 0.25 * (y - x)).astype(dtype)
    check(tmp_path, "LerpScalar", [x, y], want, tolerance=tolerance, weight=0.25)
