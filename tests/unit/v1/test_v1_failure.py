"""Errors in trailing metadata arrive as the errors that they were."""

from __future__ import annotations

import base64

import pytest

from serving import errors
from serving.errors import ServingError
from serving.frontends.grpc.v1_service import _outcome
from serving.v1 import failure

CLASSES = [
    errors.InvalidRequest, errors.NotFound, errors.TooLarge, errors.UnsupportedMedia,
    errors.Overloaded, errors.Unavailable, errors.DeadlineExceeded, errors.Cancelled,
    errors.Unimplemented, errors.ExecutionFailed, errors.InternalError, errors.LoadError,
    errors.ConfigError,
]  # fmt: skip


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_error_comes_back_as_itself(cls: type[ServingError]) -> None:
    sent = cls(
        "it failed", code="special", where="inputs.é", expected="1", given="2", fix="do 3",
        retry_after_s=0.25,
    )  # fmt: skip
    back = failure.from_bytes(failure.to_bytes(sent))
    assert type(back) is cls
    assert vars(back) == vars(sent)
    plain = failure.from_bytes(failure.to_bytes(cls("x")))
    assert plain is not None
    assert (plain.code, plain.retry_after_s) == (cls.code, None)


def test_error_of_an_unknown_kind_is_an_internal_one() -> None:
    assert type(failure.from_bytes(b"")) is errors.InternalError
    assert failure.from_bytes(b"\xff") is None


@pytest.mark.parametrize("letter", ["a", "é", "語", "\ud800"])
def test_longest_error_fits_the_metadata_that_clients_take(letter: str) -> None:
    long = letter * 20_000
    error = errors.InvalidRequest(long, code="x", where=long, expected=long, given=long, fix=long)
    back = failure.from_bytes(failure.to_bytes(error))
    assert back is not None
    assert back.message.endswith(" ...")
    end = _outcome(error)
    size = len(end.details.encode()) * (1 if letter == "a" else 3)
    for key, value in end.trailers:
        data = base64.b64encode(value) if isinstance(value, bytes) else value.encode()
        size += len(key) + len(data) + 32
    assert size < 8192
