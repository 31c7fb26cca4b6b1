"""The short way through a small body gives what the long way gives, or leaves it alone."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.frontends.rest import predict_codec, predict_plain
from serving.request import Description
from serving.tensor import FP32, INT64, BatchAxes, Signature, TensorSpec

_DESCRIPTION = Description(
    "pair",
    1,
    Signature(
        (TensorSpec("x", FP32, ("n", 2)), TensorSpec("k", INT64, ("n",))),
        (TensorSpec("y", FP32, ("n",)),),
    ),
    BatchAxes(True, "told so", (0, 0), (0,)),
    4,
    "test",
    versions=(1,),
)


def _describe(
    servable: str | None, version: object = None, method: str | None = None
) -> Description:
    assert servable in (None, "pair")
    return _DESCRIPTION


def _plain(body: Any) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return predict_plain.decode(data, {}, _describe)


_number = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.integers(-9, 9)
_row = st.fixed_dictionaries(
    {
        "x": st.lists(_number, min_size=2, max_size=2),
        "k": st.integers(-(2**63), 2**63 - 1),
    }
)


@given(st.lists(_row, min_size=1, max_size=4), st.booleans())
def test_short_way_reads_what_the_long_way_reads(rows: list[Any], named: bool) -> None:
    body: dict[str, Any] = {"servable": "pair"} if named else {}
    body["instances"] = rows
    short = _plain(body)
    original = predict_plain.decode
    try:
        predict_plain.decode = lambda *_: None  # type: ignore[assignment]
        long = predict_codec.decode(json.dumps(body).encode(), {}, _describe, 0.0)
    finally:
        predict_plain.decode = original
    if short is None:
        return  # numbers near a limit
    (request,) = long.requests
    for mine, other in zip(short[1], request.inputs, strict=True):
        assert (mine.name, mine.dtype, mine.shape) == (other.name, other.dtype, other.shape)
        np.testing.assert_array_equal(mine.array, other.array)


_ONLY = Description(
    "only",
    1,
    Signature((TensorSpec("x", FP32, ("n", 2)),), (TensorSpec("y", FP32, ("n",)),)),
    BatchAxes(True, "told so", (0,), (0,)),
    4,
    "test",
    versions=(1,),
)


def test_short_way_reads_bare_rows_of_the_only_input() -> None:
    found = predict_plain.decode(b'{"instances":[[1,2],[3,4]]}', {}, lambda *_: _ONLY)
    assert found is not None
    np.testing.assert_array_equal(found[1][0].array, [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    "instances", ['[[1,2],{"x":[3,4]}]', '[{"x":[3,4]},[1,2]]', "[[1,2],[3]]", "[[[1,2]]]", "[1,2]"]
)
def test_short_way_leaves_other_bare_rows_alone(instances: str) -> None:
    body = b'{"instances":%b}' % instances.encode()
    assert predict_plain.decode(body, {}, lambda *_: _ONLY) is None


def test_short_way_takes_an_ordinary_body() -> None:
    assert _plain({"servable": "pair", "instances": [{"x": [0.5, 1], "k": 3}]}) is not None


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances":[{"x":[1,2],"k":1,"k":2}]}',
        b'{"instances":[{"x":[1,2],"k":1}],"instances":[{"x":[1,2],"k":1}]}',
        b'{"instances":[{"x":[1,2],"k":true}]}',
        b'{"instances":[{"x":[1,2],"k":1.0}]}',
        b'{"instances":[{"x":[1,null],"k":1}]}',
        b'{"instances":[{"x":[1,1e39],"k":1}]}',
        b'{"instances":[{"x":[1,2,3],"k":1}]}',
        b'{"instances":[{"x":[[1,2]],"k":1}]}',
        b'{"instances":[{"x":[1,[2]],"k":1}]}',
        b'{"instances":[{"x":["1","2"],"k":1}]}',
        b'{"instances":[{"x":[1,2],"k":9223372036854775808}]}',
        b'{"instances":[{"x":[1,2],"z":1}]}',
        b'{"instances":[{"x":[1,2]}]}',
        b'{"instances":[]}',
        b'{"instances":[1]}',
        b'{"instances":[{"x":[1,2],"k":1}],"id":"7"}',
        b'{"instances":[{"x":[1,2],"k":1}],"inputs":{}}',
        b'{"instances":[{"x":{"b64":""},"k":1}]}',
        b"[1]",
        b"{",
        b"",
    ],
)
def test_short_way_leaves_everything_else_alone(body: bytes) -> None:
    assert _plain(body) is None
