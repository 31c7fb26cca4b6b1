"""Errors, descriptions, statistics and settings are the same on both sides of the stream."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from serving import errors
from serving.config import BackendSettings, ServerSettings
from serving.errors import Overloaded, ServingError
from serving.gateway import words
from serving.request import Description
from serving.statistics import StageStatistics, VersionStages
from serving.tensor import ANY, BYTES, FP32, BatchAxes, Signature, TensorSpec
from tests.doubles.statistics import BUSY, IDLE, server


def through(data: object) -> object:
    return json.loads(json.dumps(data))


@pytest.mark.parametrize(
    "kind", [each for each in ServingError.__subclasses__() if each.__module__ == "serving.errors"]
)
def test_error_keeps_its_class_and_its_words(kind: type[ServingError]) -> None:
    error = kind(
        "m", code="c", where="w", expected="e", given="g", fix="f", retry_after_s=1.5, limit=3
    )
    back = words.error_from_json(through(words.error_to_json(error)))  # type: ignore[arg-type]
    assert type(back) is kind
    assert vars(back) == vars(error)


def test_error_of_a_front_end_s_own_class_keeps_its_kind() -> None:
    class Special(Overloaded):
        pass

    back = words.error_from_json(words.error_to_json(Special("full")))
    assert (type(back), back.status) == (Overloaded, errors.Status.RESOURCE_EXHAUSTED)


def test_description_survives() -> None:
    known = Description(
        "m", 3,
        Signature(
            (TensorSpec("x", FP32, ("batch", 3)), TensorSpec("s", BYTES, None)),
            (TensorSpec("y", ANY, None, json=True),),
        ),
        BatchAxes(True, "proved", (0, None), (0,), exact=True),
        8, "onnx", ready=True, versions=(1, 3), details={"config": {"a": [1]}}, generation=7,
        method="go", methods=("go", "come"), labels={"stable": 3},
    )  # fmt: skip
    assert words.description_from_json(through(words.description_to_json(known))) == known  # type: ignore[arg-type]


def test_statistics_survive() -> None:
    stages = (VersionStages("m", 1, (StageStatistics("go", "f", 1, 2, 3, 4, 5, 6, 7),)),)
    told = server(BUSY, IDLE)
    told = type(told)(**{f.name: getattr(told, f.name) for f in fields(told)} | {"stages": stages})
    assert words.statistics_from_json(through(words.statistics_to_json(told))) == told  # type: ignore[arg-type]


def test_settings_survive() -> None:
    backends = {"tensorrt": BackendSettings("/p", {"A": "1"}, "tensorrt_rtx", {"o": "2"})}
    settings = ServerSettings(
        Path("models"),
        tls_cert=Path("c"),
        admin_token_file=Path("t"),
        client_token_file=Path("u"),
        backends=backends,
    )
    assert words.settings_from_json(through(words.settings_to_json(settings))) == settings  # type: ignore[arg-type]
