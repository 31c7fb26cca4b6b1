"""Errors as gRPC sees them."""

from __future__ import annotations

from urllib.parse import quote

import grpc
import pytest

from serving.errors import InvalidRequest, NotFound, Overloaded, ServingError, Status
from serving.frontends.grpc.status import CODES, outcome
from serving.frontends.grpc.status_code import StatusCode


def test_codes_and_their_numbers_are_those_of_grpc() -> None:
    assert {c.name: int(c) for c in StatusCode} == {c.name: c.value[0] for c in grpc.StatusCode}


def test_every_status_has_a_code_that_is_an_error() -> None:
    assert set(CODES) == set(Status)
    assert StatusCode.OK not in CODES.values()
    assert StatusCode.UNKNOWN not in CODES.values()


@pytest.mark.parametrize(
    "name",
    [
        "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
        "UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNIMPLEMENTED", "INTERNAL",
    ],
)  # fmt: skip
def test_statuses_that_grpc_has_too_keep_their_name(name: str) -> None:
    assert CODES[Status[name]] is StatusCode[name]


def test_outcome_tells_the_whole_story() -> None:
    error = InvalidRequest("wrong", code="bad", where="inputs.x", expected="1", given="2")
    end = outcome(error)
    assert end.code is StatusCode.INVALID_ARGUMENT
    assert end.details == "inputs.x: wrong; expected 1, given 2"
    assert end.trailers == (("error-code", "bad"), ("error-where", "inputs.x"))


def test_a_place_that_the_text_names_is_not_named_twice() -> None:
    assert outcome(NotFound("inputs.x is unknown", where="inputs.x")).details == (
        "inputs.x is unknown"
    )


def test_outcome_says_when_to_come_back() -> None:
    end = outcome(Overloaded("full", retry_after_s=1.25))
    assert ("grpc-retry-pushback-ms", "1250") in end.trailers


@pytest.mark.parametrize("where", ["", "x" * 1000, "inputs.é", "inputs.\n"])
def test_places_that_do_not_fit_a_header_are_left_out(where: str) -> None:
    assert dict(outcome(NotFound("no", where=where)).trailers) == {"error-code": "not_found"}


@pytest.mark.parametrize("letter", ["a", "é", "漢", "\U0001f600", "%", "\0", "\udc80"])
def test_long_texts_are_cut_to_what_clients_accept(letter: str) -> None:
    details = outcome(ServingError(letter * 100_000)).details
    assert 300 < len(quote(details, safe="")) < 4200
    assert details.endswith(" ...")
