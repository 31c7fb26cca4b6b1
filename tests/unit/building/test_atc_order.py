"""What atc is asked for, decided without it."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from serving.building.atc_order import Order, allowed_rows, plan
from serving.errors import LoadError
from serving.tensor import FP32, BatchAxes, Dim, Signature, TensorSpec

BUILDING = Path(__file__).parents[3] / "serving" / "building"


def order(
    *shapes: tuple[Dim, ...],
    axes: tuple[int | None, ...] | None = None,
    options: dict[str, str] | None = None,
    names: Sequence[str] = "abc",
    **more: Any,
) -> Order:
    """Return an order for inputs of these shapes, batched along ``axes`` if they are given."""
    specs = tuple(TensorSpec(n, FP32, s) for n, s in zip(names, shapes, strict=False))
    batch = BatchAxes.refused("") if axes is None else BatchAxes(True, "", axes, (0,))
    told: dict[str, Any] = {
        "source": "/m/model.onnx", "format": "onnx",
        "signature": Signature(specs, ()).to_json(), "batch": batch.to_json(),
        "max_batch_size": 8, "batch_sizes": None, "options": options or {}, **more,
    }  # fmt: skip
    return Order.from_json(told)


@pytest.mark.parametrize(
    ("most", "sizes", "rows"),
    [(1, None, (1,)), (2, None, (1, 2)), (8, None, (1, 2, 4, 8)), (12, None, (1, 2, 4, 8, 12)),
     (12, [6, 3, 3], (3, 6))],
)  # fmt: skip
def test_atc_rows_are_the_settings_or_powers_of_two(
    most: int, sizes: list[int] | None, rows: tuple[int, ...]
) -> None:
    assert allowed_rows(order(max_batch_size=most, batch_sizes=sizes)) == rows


def test_atc_batch_along_first_axes_is_a_list_of_rows() -> None:
    found = plan(order(("batch", 3), (5,), axes=(0, None)))
    assert found.arguments == ("--input_shape=a:-1,3;b:5", "--dynamic_batch_size=1,2,4,8")
    assert found.gears == (1, 2, 4, 8)


def test_atc_batch_along_another_axis_is_sizes_of_all_that_vary() -> None:
    found = plan(order(("n", 3), (2, "n", 4), axes=(0, 1), batch_sizes=[1, 4]))
    assert found.arguments == (
        "--input_shape=a:-1,3;b:2,-1,4", "--dynamic_dims=1,1;4,4", "--input_format=ND",
    )  # fmt: skip
    assert found.gears == (1, 4)


def test_atc_one_allowed_batch_size_is_a_fixed_size() -> None:
    found = plan(order(("batch", 3), axes=(0,), max_batch_size=1))
    assert found.arguments == ("--input_shape=a:1,3",)
    assert (found.gears, found.fixed_rows) == (None, 1)


def test_atc_fixed_sizes_and_unread_files_need_no_argument() -> None:
    assert plan(order((4, 3), axes=(0,))).arguments == ()
    assert plan(order((4, 3))).arguments == ()
    assert plan(order(signature=None, format="air")).arguments == ()


@pytest.mark.parametrize(
    ("shape", "axes"), [(("batch", "seq"), (0,)), (("n", 3), None), ((-1,), None)]
)
def test_atc_sizes_that_nobody_tells_are_named(
    shape: tuple[Dim, ...], axes: tuple[int | None, ...] | None
) -> None:
    with pytest.raises(LoadError, match="input 'a' .* has sizes that vary") as raised:
        plan(order(shape, axes=axes))
    assert raised.value.code == "unknown_shape"
    assert "input_shape" in raised.value.fix
    assert "dynamic_dims" in raised.value.fix


def test_atc_options_go_before_what_the_model_says() -> None:
    shape = ("batch", "seq")
    dims = plan(order(shape, axes=(0,), options={"dynamic_dims": "1,8;2,8"}))
    assert dims.arguments == (
        "--input_shape=a:-1,-1", "--dynamic_dims=1,8;2,8", "--input_format=ND",
    )  # fmt: skip
    assert dims.gears is None
    rows = {"dynamic_batch_size": "4,2", "input_shape": "a:-1,128"}
    found = plan(order(shape, axes=(0,), options=rows))
    assert found.arguments == ("--input_shape=a:-1,128", "--dynamic_batch_size=4,2")
    assert found.gears == (2, 4)
    fixed = plan(order(shape, axes=(0,), options={"input_shape": "a:1,128"}))
    assert fixed.arguments == ("--input_shape=a:1,128",)
    more = {"arguments": "--precision_mode_v2=origin --out_nodes 'n:0'", "insert_op_conf": "/a.cfg"}
    assert plan(order((1,), options=more)).arguments == (
        "--insert_op_conf=/a.cfg", "--precision_mode_v2=origin", "--out_nodes", "n:0",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"dynamic_dims": "1;2", "dynamic_batch_size": "1,2"}, "exclude each other"),
        ({"dynamic_batch_size": "one"}, "no list of numbers"),
        ({"arguments": "'open"}, "cannot be read"),
    ],
)
def test_atc_options_that_make_no_sense_are_told(options: dict[str, str], told: str) -> None:
    with pytest.raises(LoadError, match=told) as raised:
        plan(order(("batch",), axes=(0,), options=options))
    assert raised.value.code == "bad_option"
    assert raised.value.message.startswith("[options.ascend] ")


def test_atc_order_refuses_options_and_formats_that_it_does_not_know() -> None:
    with pytest.raises(LoadError, match="no option 'soc_verson'; did you mean 'soc_version'"):
        order(options={"soc_verson": "Ascend310P3"})
    with pytest.raises(LoadError, match="does not read om files"):
        order(format="om")
    with pytest.raises(LoadError, match="no chip's name"):
        _ = order(options={"soc_version": "310P3; rm -rf"}).soc


def test_atc_names_of_inputs_may_hold_colons_and_no_separators() -> None:
    found = plan(order(("batch", 3), axes=(0,), names=("in:0",)))
    assert found.arguments[0] == "--input_shape=in:0:-1,3"
    with pytest.raises(LoadError, match="holds a comma or semicolon"):
        plan(order(("batch", 3), axes=(0,), names=("a;b",)))


def test_atc_takes_a_hundred_gears_at_most() -> None:
    with pytest.raises(LoadError, match="101 batch sizes are more than atc takes"):
        plan(order(("batch",), axes=(0,), batch_sizes=list(range(1, 102))))


@pytest.mark.parametrize("path", sorted(BUILDING.glob("atc*.py")), ids=lambda path: path.name)
def test_atc_builder_keeps_to_python_3_9(path: Path) -> None:
    """It runs with the interpreter that CANN is installed for."""
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.Match)]
