"""Pixels move between space, channels and batch as their definitions say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.unit.formats.mindir.agreement import Array, check, check_refused, numbers


def test_depth_to_space_lays_channels_out_in_blocks(tmp_path: Path) -> None:
    x, b = numbers(2, 12, 3, 4), 2
    want = np.zeros((2, 3, 6, 8), "f4")
    for c, i, j in np.ndindex(3, 6, 8):
        want[:, c, i, j] = x[:, (i % b * b + j % b) * 3 + c, i // b, j // b]
    check(tmp_path, "DepthToSpace", [x], want, {"block_size": b, "data_format": "NCHW"})


def test_space_to_depth_undoes_it(tmp_path: Path) -> None:
    x, b = numbers(2, 3, 6, 8), 2
    want = np.zeros((2, 12, 3, 4), "f4")
    for c, i, j in np.ndindex(3, 6, 8):
        want[:, (i % b * b + j % b) * 3 + c, i // b, j // b] = x[:, c, i, j]
    check(tmp_path, "SpaceToDepth", [x], want, {"block_size": b, "data_format": "NCHW"})


def test_pixel_shuffle_keeps_the_channels_of_a_block_together(tmp_path: Path) -> None:
    x, b = numbers(2, 12, 3, 4), 2
    want = np.zeros((2, 3, 6, 8), "f4")
    for c, i, j in np.ndindex(3, 6, 8):
        want[:, c, i, j] = x[:, c * b * b + i % b * b + j % b, i // b, j // b]
    check(tmp_path, "PixelShuffle", [x], want, upscale_factor=b)


def to_batch(x: Array, block: tuple[int, ...]) -> Array:
    """Return images whose batch counts the places in a block first, by the definition."""
    n, c, h, w = x.shape
    want = np.zeros((n * block[0] * block[1], c, h // block[0], w // block[1]), x.dtype)
    for i, j in np.ndindex(*block):
        first = (i * block[1] + j) * n
        want[first : first + n] = x[:, :, i :: block[0], j :: block[1]]
    return want


@pytest.mark.parametrize("block", [(2, 3), (2, 2), (3, 1)])
def test_space_to_batch_pads_and_takes_every_nth_pixel(
    tmp_path: Path, block: tuple[int, int]
) -> None:
    x = numbers(2, 3, 6, 7)
    pads = ((1, 5), (0, 5))
    padded = np.pad(x, ((0, 0), (0, 0), *pads))
    attributes = {"block_shape": block, "paddings": pads}
    check(tmp_path, "SpaceToBatchND", [x], to_batch(padded, block), attributes)


@pytest.mark.parametrize("block", [(2, 3), (2, 2), (3, 1)])
def test_batch_to_space_undoes_it_and_crops(tmp_path: Path, block: tuple[int, int]) -> None:
    whole = numbers(2, 3, 6, 12)
    attributes = {"block_shape": block, "crops": ((1, 2), (0, 3))}
    want = whole[:, :, 1:-2, :-3]
    check(tmp_path, "BatchToSpaceND", [to_batch(whole, block)], want, attributes)


def test_the_older_forms_have_one_size_of_block(tmp_path: Path) -> None:
    whole = numbers(2, 3, 6, 8)
    none = ((0, 0), (0, 0))
    moved = to_batch(whole, (2, 2))
    check(tmp_path, "SpaceToBatch", [whole], moved, {"block_size": 2, "paddings": none})
    check(tmp_path, "BatchToSpace", [moved], whole, {"block_size": 2, "crops": none})


def test_space_to_batch_refuses_what_its_block_does_not_divide(tmp_path: Path) -> None:
    x = numbers(1, 1, 5, 4)
    attributes = {"block_shape": (2, 2), "paddings": ((0, 0), (0, 0))}
    want = np.zeros((4, 1, 2, 2), "f4")
    check_refused(tmp_path, "multiple of its block", "SpaceToBatchND", [x], want, attributes)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_channel_shuffle_takes_one_channel_of_each_group_in_turn(
    tmp_path: Path, groups: int
) -> None:
    x = numbers(2, 6, 3, 4)
    order = [
        group * (6 // groups) + place for place in range(6 // groups) for group in range(groups)
    ]
    check(tmp_path, "ChannelShuffle", [x], x[:, order], {"group": groups}, "2.0")


def test_channel_shuffle_refuses_groups_of_different_size(tmp_path: Path) -> None:
    x = numbers(1, 5, 2, 2)
    check_refused(tmp_path, "divide into its groups", "ChannelShuffle", [x], x, {"group": 2})
