"""Looks are remembered on both sides of the stream, as long as they are short."""

from __future__ import annotations

import pytest

from serving.gateway.looks import Reader, Writer
from serving.request import InferRequest, InferResponse
from serving.tensor import FP32, Tensor

_X = (Tensor("x", FP32, (1, 4)),)
_LONG = "s" * 10_000


def request(**changes: object) -> InferRequest:
    return InferRequest("m", _X)._replace(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        (request(), True),
        (request(sequence="7"), True),
        (request(sequence=_LONG), False),
        (request(outputs=(_LONG,)), False),
        (request(inputs=(Tensor(_LONG, FP32, (1,)),)), False),
        (request(parameters={"mine": _LONG}), False),
    ],
    ids=[
        "usual",
        "a sequence",
        "a long sequence",
        "long outputs",
        "long inputs",
        "long parameters",
    ],
)
def test_look_of_a_request_is_kept_unless_it_is_long(asked: InferRequest, kept: bool) -> None:
    writer, reader = Writer(), Reader()
    data = writer.request(asked)
    assert (writer.request(asked) is data) is kept
    found = reader.request(data)
    assert (reader.request(data) is found) is kept
    assert reader.request(data) == found
    assert (found.sequence, found.outputs, found.parameters) == (
        asked.sequence, asked.outputs, asked.parameters,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["y", _LONG], ids=["usual", "long"])
def test_look_of_a_response_is_kept_unless_it_is_long(name: str) -> None:
    writer, reader = Writer(), Reader()
    response = InferResponse("m", 1, "", (Tensor(name, FP32, (1,)),))
    data = writer.response(response)
    assert (writer.response(response) is data) is (name is not _LONG)
    found = reader.response(data)
    assert (reader.response(data) is found) is (name is not _LONG)
    assert found.specs[0].name == name
