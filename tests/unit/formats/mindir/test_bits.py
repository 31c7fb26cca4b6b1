"""Operations on bits agree with numpy's for every whole type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.errors import LoadError
from tests.unit.formats.mindir.one_node import Fixed, agrees, like, run_node

DTYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64"]
BITWISE = {"And": np.bitwise_and, "Or": np.bitwise_or, "Xor": np.bitwise_xor}


def numbers(dtype: str) -> np.ndarray[Any, Any]:
    info = np.iinfo(dtype)
    some = [info.min, info.max, 0, 1, 5, info.max - 2, info.min + 3, info.max // 3]
    return np.array(some, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(BITWISE))
@pytest.mark.parametrize("kind", ["", "Tensor"])
def test_bitwise_operator_agrees_with_numpy(
    tmp_path: Path, name: str, kind: str, dtype: str
) -> None:
    x, y = numbers(dtype), numbers(dtype)[:, None]
    expected = BITWISE[name](x, y)
    agrees(run_node(tmp_path, f"Bitwise{name}{kind}", [x, y], like(expected)), expected)


def test_bitwise_operator_takes_a_number_and_truth_values(tmp_path: Path) -> None:
    x = numbers("int32")
    agrees(run_node(tmp_path, "BitwiseAndScalar", [x, Fixed(6)], like(x)), x & 6)
    t = np.array([True, True, False, False])
    u = np.array([True, False, True, False])
    agrees(run_node(tmp_path, "BitwiseXor", [t, u], like(t)), t ^ u)


@pytest.mark.parametrize("dtype", [*DTYPES, "bool"])
@pytest.mark.parametrize("operator", ["Invert", "BitwiseNot"])
def test_inversion_agrees_with_numpy(tmp_path: Path, operator: str, dtype: str) -> None:
    x = np.array([True, False]) if dtype == "bool" else numbers(dtype)
    agrees(run_node(tmp_path, operator, [x], like(x)), np.invert(x))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64"])
@pytest.mark.parametrize(
    ("operator", "function"), [("LeftShift", np.left_shift), ("RightShift", np.right_shift)]
)
def test_shift_agrees_with_numpy(tmp_path: Path, operator: str, function: Any, dtype: str) -> None:
    x = numbers(dtype)[:, None]
    bits = np.iinfo(dtype).bits
    y = np.array([0, 1, 5, bits - 1], dtype)
    expected = function(x, y)
    agrees(run_node(tmp_path, operator, [x, y], like(expected)), expected)


def test_bits_of_uint64_are_refused(tmp_path: Path) -> None:
    x = np.array([1], "uint64")
    with pytest.raises(LoadError, match="BitwiseOr .* UINT64"):
        run_node(tmp_path, "BitwiseOr", [x, x], like(x))
