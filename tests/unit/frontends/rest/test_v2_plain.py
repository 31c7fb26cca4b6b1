"""The short ways through a V2 body give what the long way gives, or leave it alone."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import InvalidRequest, ServingError
from serving.frontends.rest import v2_codec, v2_plain, v2_recipe
from serving.frontends.rest.v2_call import HEADER_LENGTH, V2Call
from serving.request import Description
from serving.tensor import BOOL, BYTES, FP32, INT64
from tests.unit.frontends.rest.served import NOW, describe_as, only, spec

TWO = describe_as(
    (spec("x", FP32, "n", 2), spec("k", INT64, "n")), (spec("y", FP32, "n"), spec("z", FP32, "n"))
)
FLAG = describe_as((spec("b", BOOL, "n"),))
TEXT = describe_as((spec("s", BYTES, "n"),))


@pytest.fixture(autouse=True)
def _no_recipes() -> Iterator[None]:
    v2_recipe._recipes.clear()
    yield
    v2_recipe._recipes.clear()


def decode(description: Description, body: bytes, head: int | None = None, **headers: str) -> Any:
    found = {name.replace("_", "-").encode(): text.encode() for name, text in headers.items()}
    if head is not None:
        found[HEADER_LENGTH] = b"%d" % head
    return v2_codec.decode("m", None, body, found, only(description), NOW)


def assert_equal(mine: V2Call, other: V2Call) -> None:
    for one, two in zip(mine.request.inputs, other.request.inputs, strict=True):
        assert (one.name, one.dtype, one.shape) == (two.name, two.dtype, two.shape)
        np.testing.assert_array_equal(one.array, two.array)
    assert mine._replace(request=other.request) == other
    assert mine.request._replace(inputs=()) == other.request._replace(inputs=())


# JSON

_NUMBER = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.integers(-9, 9)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    rows = draw(st.integers(1, 3))
    x = draw(st.lists(st.lists(_NUMBER, min_size=2, max_size=2), min_size=rows, max_size=rows))
    k = draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=rows, max_size=rows))
    data = x if draw(st.booleans()) else [number for row in x for number in row]
    inputs = [
        {"name": "x", "shape": [rows, 2], "datatype": "FP32", "data": data},
        {"name": "k", "shape": [rows], "datatype": "INT64", "data": k},
    ]
    document: dict[str, Any] = {"inputs": draw(st.permutations(inputs))}
    if draw(st.booleans()):
        document["id"] = draw(st.sampled_from(["", "a", "nr. 7"]))
    if draw(st.booleans()):
        document["outputs"] = draw(st.permutations([{"name": "y"}, {"name": "z"}]))[1:]
    return document


@given(documents())
def test_v2_short_way_reads_what_the_long_way_reads(document: dict[str, Any]) -> None:
    body = json.dumps(document).encode()
    assert v2_plain.read(body, TWO) is not None
    short = decode(TWO, body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(v2_plain, "read", lambda *_: None)
        assert_equal(short, decode(TWO, body))


X = '{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}'
K = '{"name":"k","shape":[1],"datatype":"INT64","data":[1]}'


@pytest.mark.parametrize(
    "body",
    [
        f'{{"inputs":[{X}]}}',
        f'{{"inputs":[{X},{X}]}}',
        f'{{"inputs":[{X},{K},{K}]}}',
        f'{{"inputs":[{X},{K}],"inputs":[{X},{K}]}}',
        f'{{"inputs":[{X},{K}],"parameters":{{}}}}',
        f'{{"inputs":[{X},{K}],"id":7}}',
        f'{{"inputs":[{X},{K}],"id":null}}',
        f'{{"inputs":[{X},{K}],"id":"a\\u0062"}}',
        f'{{"inputs":[{X},{K}],"outputs":null}}',
        f'{{"inputs":[{X},{K}],"outputs":[{{"name":"q"}}]}}',
        f'{{"inputs":[{X},{K}],"outputs":[{{"name":"y"}},{{"name":"y"}}]}}',
        f'{{"inputs":[{X},{K}],"outputs":["y"]}}',
        f'{{"inputs":[{X},{K[:-1]},"parameters":{{}}}}]}}',
        f'{{"inputs":[{X},{K[:-1]},"data":[2]}}]}}',
        f'{{"inputs":[{X},{K.replace("[1]}", "[true]}")}]}}',
        f'{{"inputs":[{X},{K.replace("[1]}", "[1.0]}")}]}}',
        f'{{"inputs":[{X},{K.replace("[1]}", "[null]}")}]}}',
        f'{{"inputs":[{X},{K.replace("[1]}", "[[1]]}")}]}}',
        f'{{"inputs":[{X},{K.replace("[1],", "[1.0],")}]}}',
        f'{{"inputs":[{X},{K.replace("[1],", "[-1],")}]}}',
        f'{{"inputs":[{X},{K.replace("[1],", "[0],")}]}}',
        f'{{"inputs":[{X},{K.replace("[1],", "[2],")}]}}',
        f'{{"inputs":[{X},{K.replace("INT64", "INT32")}]}}',
        f'{{"inputs":[{X.replace("[1,2]}", "[[1],[2]]}")},{K}]}}',
        f'{{"inputs":[{X.replace("[1,2]}", "[1,[2]]}")},{K}]}}',
        f'{{"inputs":[{X.replace("[1,2]}", "[1,1e39]}")},{K}]}}',
        f'{{"inputs":[{X.replace("[1,2],", "[2],")},{K}]}}',
        '{"inputs":{}}',
        '{"inputs":[1]}',
        '{"inputs":[{"name":1,"shape":1,"datatype":1,"data":1}]}',
        "[1]",
        "{",
        "",
    ],
)
def test_v2_short_way_leaves_everything_else_alone(body: str) -> None:
    assert v2_plain.read(body.encode(), TWO) is None


# Binary


def head_of(*names: str, **more: Any) -> bytes:
    known = {"x": ([2, 2], "FP32", 16), "k": ([2], "INT64", 16)}
    inputs = [
        {
            "name": name,
            "shape": known[name][0],
            "datatype": known[name][1],
            "parameters": {"binary_data_size": known[name][2]},
        }
        for name in names
    ]
    return json.dumps({"inputs": inputs, **more}).encode()


BYTES_OF = {"x": struct.pack("<4f", 1, 2, 3, 4), "k": struct.pack("<2q", 5, 6)}


@pytest.mark.parametrize("order", ["xk", "kx"])
def test_v2_a_binary_head_seen_before_means_what_it_meant(order: str) -> None:
    head = head_of(
        *order,
        outputs=[{"name": "z", "parameters": {"binary_data": True}}],
        parameters={"timeout": 2_000_000, "priority": 3, "mine": "a", "binary_data_output": False},
    )
    body = head + b"".join(BYTES_OF[name] for name in order)
    first = decode(TWO, body, len(head), x_request_id="r")
    assert v2_recipe.find(TWO, head) is not None
    second = decode(TWO, body, len(head), x_request_id="r")
    assert_equal(second, first)
    assert second.request.deadline == NOW + 2
    assert second.request.inputs[0].array.tolist() == [[1, 2], [3, 4]]
    assert second.request.inputs[1].array.tolist() == [5, 6]
    other = decode(TWO, head + body[len(head) :][::-1], len(head), x_request_id="s")
    assert other.request.id == "s"
    assert other.request.inputs[0].array.tolist() != [[1, 2], [3, 4]]


def test_v2_a_binary_head_is_read_anew_for_another_description() -> None:
    head = head_of("x", "k")
    body = head + BYTES_OF["x"] + BYTES_OF["k"]
    decode(TWO, body, len(head))
    wider = describe_as((spec("x", FP32, "n", 4), spec("k", INT64, "n")))
    with pytest.raises(InvalidRequest):
        decode(wider, body, len(head))


@pytest.mark.parametrize("change", [b"more", -1])
def test_v2_a_known_head_with_other_sizes_is_refused_in_words(change: bytes | int) -> None:
    head = head_of("x", "k")
    body = head + BYTES_OF["x"] + BYTES_OF["k"]
    decode(TWO, body, len(head))
    wrong = body + change if isinstance(change, bytes) else body[:change]
    with pytest.raises(InvalidRequest) as caught:
        decode(TWO, wrong, len(head))
    assert caught.value.code == "wrong_size"


def test_v2_a_known_head_does_not_let_a_bad_bool_pass() -> None:
    tensor = {"name": "b", "shape": [2], "datatype": "BOOL", "parameters": {"binary_data_size": 2}}
    head = json.dumps({"inputs": [tensor]}).encode()
    assert decode(FLAG, head + b"\0\1", len(head)).request.inputs[0].array.tolist() == [0, 1]
    assert v2_recipe.find(FLAG, head) is not None
    with pytest.raises(ServingError, match="BOOL"):
        decode(FLAG, head + b"\0\2", len(head))


def test_v2_heads_that_differ_each_time_are_not_kept() -> None:
    head = head_of("x", "k", id="7")
    decode(TWO, head + BYTES_OF["x"] + BYTES_OF["k"], len(head))
    tensor = {"name": "s", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 5}}
    text = json.dumps({"inputs": [tensor]}).encode()
    decode(TEXT, text + b"\1\0\0\0a", len(text))
    assert not v2_recipe._recipes


def test_v2_recipes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v2_recipe, "_MOST_RECIPES", 16)
    v2_recipe._recipes.clear()
    for number in range(40):
        head = head_of("x", "k", parameters={"mine": number})
        decode(TWO, head + BYTES_OF["x"] + BYTES_OF["k"], len(head))
    assert 0 < len(v2_recipe._recipes) <= 16
