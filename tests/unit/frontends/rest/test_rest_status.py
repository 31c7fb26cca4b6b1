"""Errors as HTTP statuses and bodies."""

from __future__ import annotations

import orjson
import pytest

from serving.errors import (
    Cancelled,
    DeadlineExceeded,
    ExecutionFailed,
    InternalError,
    InvalidRequest,
    NotFound,
    Overloaded,
    ServingError,
    Status,
    TooLarge,
    Unavailable,
    Unimplemented,
    UnsupportedMedia,
)
from serving.frontends.rest import status


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidRequest("x"), 400),
        (ExecutionFailed("x"), 400),
        (NotFound("x"), 404),
        (status.MethodNotAllowed("x"), 405),
        (TooLarge("x"), 413),
        (UnsupportedMedia("x"), 415),
        (Overloaded("x"), 429),
        (Cancelled("x"), 499),
        (InternalError("x"), 500),
        (Unimplemented("x"), 400),
        (Unavailable("x"), 503),
        (DeadlineExceeded("x"), 504),
    ],
)
def test_an_error_has_its_http_status_in_every_form(error: ServingError, code: int) -> None:
    assert status.http_status(error) == code
    problem = orjson.loads(status.problem(error, "r1")[0])
    assert (problem["status"], problem["request_id"], problem["code"]) == (code, "r1", error.code)
    assert problem["title"]


def test_every_status_has_a_place_in_the_map() -> None:
    assert set(status.HTTP_STATUS) == set(Status)


def test_a_problem_names_only_what_is_known() -> None:
    error = InvalidRequest("wrong", where="inputs.x", expected="1", given="2", fix="send 1")
    body, content_type, *_ = status.problem(error, "r")
    assert content_type == b"application/problem+json"
    assert orjson.loads(body) == {
        "type": "/errors#invalid_request",
        "title": "Bad Request",
        "status": 400,
        "detail": "wrong",
        "code": "invalid_request",
        "where": "inputs.x",
        "expected": "1",
        "given": "2",
        "fix": "send 1",
        "request_id": "r",
    }
    assert "where" not in orjson.loads(status.problem(InvalidRequest("wrong"), "r")[0])


def test_a_v2_error_is_one_text_with_place_and_fix() -> None:
    error = InvalidRequest("wrong", where="inputs.x", expected="1", given="2", fix="send 1")
    body, content_type, *_ = status.v2_error(error, "r")
    assert content_type == b"application/json"
    assert orjson.loads(body) == {"error": "inputs.x: wrong; expected 1, given 2 (send 1)"}


def test_only_what_may_work_later_says_when() -> None:
    assert status.retry_headers(Overloaded("x", retry_after_s=2.1)) == [(b"retry-after", b"3")]
    assert status.retry_headers(Unavailable("x", retry_after_s=0.05)) == [(b"retry-after", b"1")]
    assert status.retry_headers(Overloaded("x")) == []  # it alone is too much
    assert status.retry_headers(Unavailable("x")) == []  # a model that failed to load stays so
    assert status.retry_headers(InvalidRequest("x", retry_after_s=2)) == []


def test_a_text_that_utf8_cannot_hold_is_still_sent() -> None:
    body, *_ = status.problem(NotFound("no servable '\ud800'"), "r")
    assert orjson.loads(body)["detail"] == "no servable '?'"
