"""The short way through MindSpore Serving's JSON gives what the long way gives, or leaves it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import ExecutionFailed, ServingError
from serving.frontends.mindspore import instances
from serving.frontends.mindspore.instances import Common
from serving.frontends.mindspore.target import Target
from serving.frontends.plan import plan_for
from serving.frontends.rest import ms_codec, ms_json, ms_plain
from serving.request import Description, InferResponse
from serving.tensor import (
    ANY,
    BF16,
    BOOL,
    BYTES,
    FP16,
    FP32,
    FP64,
    INT32,
    TEXT,
    UINT8,
    BatchAxes,
    DType,
    Signature,
    Tensor,
    TensorSpec,
)

TARGET = Target("pair", "predict", 0)
COMMON = Common("", None)


def described(
    *inputs: TensorSpec,
    outputs: tuple[TensorSpec, ...] = (),
    axes: tuple[int | None, ...] | None = None,
    output_axis: int | None = 0,
    method: str = "",
) -> Description:
    given = (0,) * len(inputs) if axes is None else axes
    batch = BatchAxes(True, "told so", given, (output_axis,) * len(outputs))
    return Description("pair", 1, Signature(inputs, outputs), batch, 4, "test", method=method)


X = TensorSpec("x", FP32, ("n", 2))
PAIR = described(X, TensorSpec("k", INT32, ("n",)))
GRID = described(TensorSpec("x", FP64, ("n", 2, 1, 3)))


def short(body: Any, description: Description = PAIR) -> Any:
    """Return the inputs of each instance as the short way reads them, None where it does not."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = ms_plain.read(data, ms_codec.parse(data), plan_for(description))
    return None if found is None else [told(inputs) for inputs in found]


def long(body: Any, description: Description = PAIR) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = ms_codec.parse(data)
    made = instances.requests(TARGET, description, given, ms_json.read, COMMON)
    return [None if isinstance(r, ServingError) else told(r.inputs) for r in made]


def told(tensors: tuple[Tensor, ...]) -> list[tuple[object, ...]]:
    return [
        (t.name, t.dtype, t.shape, np.asarray(t.array).dtype, np.asarray(t.array).tolist())
        for t in tensors
    ]


_float = st.floats(width=32, allow_nan=False, allow_infinity=False)
_row = st.fixed_dictionaries(
    {"x": st.lists(_float, min_size=2, max_size=2), "k": st.integers(-(2**31), 2**31 - 1)}
)


@given(st.lists(_row, min_size=1, max_size=4))
def test_short_way_reads_what_the_long_way_reads(rows: list[Any]) -> None:
    found = short({"instances": rows})
    all_with_points = all("." in repr(number) for row in rows for number in row["x"])
    assert (found is not None) == all_with_points  # 1e+16 may be a float, or may not
    if found is not None:
        assert found == long({"instances": rows})


_any = st.recursive(
    _float
    | st.integers(-(2**40), 2**40)
    | st.booleans()
    | st.none()
    | st.text(max_size=2, alphabet='a."'),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
_name = st.sampled_from(["x", "k", "z", "x.y"])


@given(st.lists(st.dictionaries(_name, _any, min_size=1), min_size=1, max_size=3))
def test_whatever_the_short_way_takes_the_long_way_reads_alike(rows: list[Any]) -> None:
    found = short({"instances": rows})
    if found is not None:
        assert found == long({"instances": rows})


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances":[{"x":[1,2.5],"k":3}]}',
        b'{"instances":[{"x":[1,2],"k":3.5}]}',
        b'{"instances":[{"x":[1.5,2.5],"x":[1,2],"k":3}]}',
        b'{"instances":[{"x":[1,2],"k":1}],"instances":[{"x":[1.5,2.5],"k":1}]}',
        b'{"instances":[{"x":[1,2],"k":1}],"more":[1.5,2.5]}',
        b'{"instances":[{"x":[1,2],"k":1,"a.b.":0}]}',
        b'{"instances":[{"x":[1.5,2.5],"k":true}]}',
        b'{"instances":[{"x":[1.5,true],"k":1}]}',
        b'{"instances":[{"x":[1.5,"2.5"],"k":1}]}',
        b'{"instances":[{"x":["1..5",2],"k":1}]}',
        b'{"instances":[{"x":[1.5,null],"k":1}]}',
        b'{"instances":[{"x":[1.5,2.5,3.5],"k":1}]}',
        b'{"instances":[{"x":[[1.5],[2.5]],"k":1}]}',
        b'{"instances":[{"x":1.5,"k":1}]}',
        b'{"instances":[{"x":[1.5,2.5],"k":[1]}]}',
        b'{"instances":[{"x":[1.5,2.5],"k":4294967296}]}',
        b'{"instances":[{"x":[1.5,1.5e300],"k":1}]}',
        b'{"instances":[{"x":[1.5,2.5]}]}',
        b'{"instances":[{"x":[1.5,2.5],"z":1}]}',
        b'{"instances":[{"x":{"b64":"AAAA"},"k":1}]}',
        b'{"instances":[{"x":[1.5,2.5],"k":1},{"x":[1.5,2.5],"k":1,"z":1}]}',
    ],
)
def test_short_way_leaves_alone(body: bytes) -> None:
    assert short(body) is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances":{"x":[1.5,2.5],"k":3}}',
        b'{ "instances" : [ {"k": 3, "x": [-1.5e3, 2.5E-3]} , {"x":[0.0,-0.0],"k":-1} ] }',
        b'{"instances":[{"\\u0078":[1.5,2.5],"k":3}]}',
    ],
    ids=["one object", "spaces and order", "escaped name"],
)
def test_short_way_takes_every_spelling(body: bytes) -> None:
    assert short(body) == long(body) != None  # noqa: E711


def test_short_way_takes_nested_lists_in_the_shape_of_the_input_only() -> None:
    good = {"instances": [{"x": [[[1.5, 2.5, 3.5]], [[4.5, 5.5, 6.5]]]}]}
    assert short(good, GRID) == long(good, GRID)
    assert [entry[2] for entry in short(good, GRID)[0]] == [(1, 2, 1, 3)]
    flat = {"instances": [{"x": [1.5, 2.5, 3.5, 4.5, 5.5, 6.5]}]}
    assert short(flat, GRID) is None
    ragged = {"instances": [{"x": [[[1.5, 2.5, 3.5]], [[4.5, 5.5]]]}]}
    assert short(ragged, GRID) is None


@pytest.mark.parametrize(
    ("description", "value"),
    [
        (described(TensorSpec("x", UINT8, ("n", 2))), [1, 255]),
        (described(TensorSpec("x", FP64, ("n",))), 1.5),
        (described(TensorSpec("x", FP32, (2,)), axes=(None,)), [1.5, 2.5]),
        (described(X, method="add"), [1.5, 2.5]),
    ],
    ids=["uint8", "scalar", "shared", "method"],
)
def test_short_way_reads_inputs_of_every_kind(description: Description, value: Any) -> None:
    body = {"instances": [{"x": value}]}
    assert short(body, description) == long(body, description) != [None]


@pytest.mark.parametrize(
    "spec",
    [
        TensorSpec("x", BOOL, ("n", 2)),
        TensorSpec("x", FP16, ("n", 2)),
        TensorSpec("x", BF16, ("n", 2)),
        TensorSpec("x", BYTES, ("n",)),
        TensorSpec("x", ANY, None),
        TensorSpec("x", FP32, ("n", "len")),
        TensorSpec("x", FP32, None),
    ],
    ids=lambda spec: f"{spec.dtype.name} {spec.shape}",
)
def test_inputs_of_other_kinds_are_left_to_the_long_way(spec: TensorSpec) -> None:
    assert short({"instances": [{"x": [1.5, 2.5]}]}, described(spec)) is None


def test_large_bodies_and_many_instances_are_left_to_the_long_way() -> None:
    row = {"x": [1.5, 2.5], "k": 1}
    assert short({"instances": [row] * ms_plain._MOST_INSTANCES}) is not None
    assert short({"instances": [row] * (ms_plain._MOST_INSTANCES + 1)}) is None
    body = b'{"instances":[{"x":[1.5,2.5],"k":1}]' + b" " * ms_plain.LARGEST_BYTES + b"}"
    assert short(body) is None


# -- answers --------------------------------------------------------------------------------------


def answered(*outputs: Tensor) -> InferResponse:
    return InferResponse("pair", 1, "", outputs)


def tensor(name: str, dtype: DType, shape: tuple[int, ...]) -> Tensor:
    assert dtype.numpy is not None
    count = int(np.prod(shape))
    array = (np.arange(count) / 3 + 0.1).astype(dtype.numpy).reshape(shape)
    return Tensor(name, dtype, shape, array)


def specs(*tensors: Tensor) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(t.name, t.dtype, None) for t in tensors)


@pytest.mark.parametrize(
    "tensors",
    [
        [tensor("y", FP32, (1, 2, 2))],
        [tensor("y", FP64, (1,))],
        [tensor("y", FP16, (1, 3))],
        [tensor("b", INT32, (1, 2)), tensor("a", BOOL, (1, 2)), tensor('"', UINT8, (1,))],
        [Tensor("y", FP32, (1, 2), np.array([[np.nan, np.inf]], np.float32))],
    ],
    ids=["matrix", "scalar", "half", "three", "no number"],
)
@pytest.mark.parametrize("count", [1, 3])
def test_short_answer_is_what_the_long_way_writes(
    tensors: list[Tensor], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    description = described(X, outputs=specs(*tensors))
    responses = [answered(*tensors) for _ in range(count)]
    written = ms_plain.write(responses, description)
    monkeypatch.setattr(ms_plain, "write", lambda *_: None)
    call = ms_codec.MsCall(TARGET, description, ())
    assert written == call.encode(responses).body
    rows = orjson.loads(written or b"")["instances"]
    assert [[*row] for row in rows] == [sorted(t.name for t in tensors)] * count


def test_output_without_an_axis_is_written_whole() -> None:
    given = tensor("y", FP32, (2,))
    description = described(X, outputs=specs(given), output_axis=None)
    body = ms_plain.write([answered(given)], description)
    assert body == b'{"instances":[{"y":[0.10000000149011612,0.4333333373069763]}]}'


@pytest.mark.parametrize(
    ("given", "axis"),
    [
        (Tensor("y", TEXT, (1,), items=[b"a"]), 0),
        (tensor("y", FP32, (1, 0)), 0),
        (Tensor("y", BF16, (1,), np.zeros(1, np.uint16)), 0),
        (tensor("y", FP32, (2, 2)), 0),
        (tensor("y", FP32, (2, 1)), 1),
    ],
    ids=["text", "empty", "bf16", "rows", "axis 1"],
)
def test_other_answers_are_left_to_the_long_way(given: Tensor, axis: int) -> None:
    description = described(X, outputs=specs(given), output_axis=axis)
    assert ms_plain.write([answered(given)], description) is None


def test_answers_with_an_error_among_them_are_left_to_the_long_way() -> None:
    given = tensor("y", FP32, (1,))
    description = described(X, outputs=specs(given))
    assert ms_plain.write([answered(given)], description) is not None
    assert ms_plain.write([answered(given), ExecutionFailed("no")], description) is None


def test_answer_of_another_description_is_not_mixed_up() -> None:
    for name in ("a", "b"):
        given = tensor(name, INT32, (1, 2))
        body = ms_plain.write([answered(given)], described(X, outputs=specs(given)))
        assert body == b'{"instances":[{"%b":[0,0]}]}' % name.encode()
