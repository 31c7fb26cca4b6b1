"""Codes and texts of errors, and when one error stands for a whole request."""

from __future__ import annotations

import pytest

from serving.errors import (
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
)
from serving.frontends.mindspore import failures
from serving.frontends.mindspore.failures import GOOD, Failure, told, verdict
from serving.frontends.mindspore.target import Target
from serving.tensor import FP32
from tests.unit.frontends.rest.served import describe_as, only, spec

TARGET = Target("add", "predict", 0)
GONE = "Request servable(add) method(predict) , servable is not available"


def test_every_status_has_a_code() -> None:
    assert set(failures.CODES) == set(Status)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (NotFound("x", code="unknown_servable"), 2, GONE),
        (NotFound("x", code="unknown_version"), 2, GONE),
        (
            NotFound("x", code="unknown_method"),
            2,
            "Request servable(add) method(predict) , method is not available",
        ),
        (Unavailable("is loading", code="not_ready"), 5, GONE),
        (Unavailable("its worker was lost", code="worker_lost"), 2, GONE),
        (
            Overloaded("full", code="queue_full", limit=1000),
            1,
            "Serving Error: enqueued requests count exceeds the limit 1000",
        ),
        (Overloaded("no memory", fix="wait"), 1, "no memory (wait)"),
        (TooLarge("x", limit=1048576), 2, "http message is bigger than 1048576"),
        (InvalidRequest("wrong", expected="1", given="2"), 2, "wrong; expected 1, given 2"),
        (ExecutionFailed("index out of range"), 1, "index out of range"),
        (Unimplemented("not here"), 1, "not here"),
        (DeadlineExceeded("too late"), 1, "too late"),
        (InternalError("the server failed"), 3, "the server failed"),
    ],
)
def test_an_error_has_the_code_and_text_that_clients_know(
    error: ServingError, code: int, text: str
) -> None:
    assert told(error, TARGET) == Failure(code, text)


def test_a_version_stands_in_the_text_as_clients_know_it() -> None:
    assert Target("add", "m", 9).missing("servable") == (
        "Request servable(add) method(m)  version(9) , servable is not available"
    )


def test_instances_that_all_have_outputs_are_no_failure() -> None:
    assert verdict(["a", "b"], TARGET) == ()


def test_one_failure_stands_for_instances_that_all_failed_alike() -> None:
    alike = [InvalidRequest("wrong"), InvalidRequest("wrong")]
    assert verdict(alike, TARGET) == (Failure(2, "wrong"),)
    assert verdict(alike[:1], TARGET) == (Failure(2, "wrong"),)


def test_each_instance_has_its_own_failure_where_they_differ() -> None:
    one, two = InvalidRequest("one"), InvalidRequest("two")
    assert verdict([one, two], TARGET) == (Failure(2, "one"), Failure(2, "two"))
    assert verdict([one, "fine", one], TARGET) == (Failure(2, "one"), GOOD, Failure(2, "one"))


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (Target("", "predict", 0), "unknown_servable"),
        (Target("n" * 256, "predict", 0), "unknown_servable"),
        (Target("m", "predict", -1), "unknown_version"),
        (Target("m", "predict", 2**32), "unknown_version"),
        (Target("m", "predict", 9), "unknown_version"),
        (Target("other", "nope", 0), "unknown_servable"),
        (Target("m", "nope", 0), "unknown_method"),
        (Target("m", "", 0), "unknown_method"),
    ],
)
def test_a_target_that_is_not_there_is_not_found(target: Target, code: str) -> None:
    with pytest.raises(NotFound) as refused:
        target.find(only(describe_as((spec("x", FP32, "n"),))))
    assert refused.value.code == code


def test_version_0_is_the_newest() -> None:
    described = describe_as((spec("x", FP32, "n"),))
    assert Target("m", "predict", 0).find(only(described)) is described
    assert Target("m", "predict", 1).find(only(described)) is described
