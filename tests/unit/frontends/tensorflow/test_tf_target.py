"""What TensorFlow Serving's clients ask for, and what is said when it is not there."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from serving.errors import InvalidRequest, NotFound, ServingError
from serving.frontends.tensorflow import target, types
from serving.frontends.tensorflow.model_status import VersionStatus, statuses
from serving.frontends.tensorflow.signatures import signatures
from serving.frontends.tensorflow.target import Target
from serving.lifecycle.lookup import no_method, of_model, usual_method
from serving.lifecycle.state import State
from serving.request import Description
from serving.tensor import ANY, BYTES, DTYPES, FP32, BatchAxes, Signature, TensorSpec
from tests.doubles.plane import StubPlane

AXES = BatchAxes(True, "asserted", (0,), (0,))
X = TensorSpec("x", FP32, ("n", 4))
MODEL = Description("net", 3, Signature((X,), (X,)), AXES, 8, "stub", versions=(1, 3))


def method(name: str, *all: str) -> Description:
    spec = TensorSpec("value", ANY, None)
    return dataclasses.replace(
        MODEL, signature=Signature((spec,), (spec,)), method=name, methods=all
    )


def found(asked: str, *methods: str) -> Description:
    """Look a signature up as the server does."""

    def describe(servable: Any, version: Any, named: str | None) -> Description:
        if not methods:
            return of_model(MODEL, named)
        name = named or usual_method(methods)
        if name not in methods:
            raise no_method("net", methods, named)
        return method(name, *methods)

    return Target("net").described(describe, asked)


def failure(asked: str, *methods: str) -> ServingError:
    with pytest.raises(NotFound) as failed:
        found(asked, *methods)
    assert (failed.value.code, failed.value.where) == ("unknown_method", "signature_name")
    return failed.value


def test_the_default_signature_is_the_method_that_need_not_be_named() -> None:
    for asked in ("", "serving_default"):
        assert found(asked) is MODEL
        assert found(asked, "scale").method == "scale"
        assert found(asked, "scale", "predict").method == "predict"
    assert found("scale", "scale", "predict").method == "scale"
    assert found("predict") is MODEL


def test_a_signature_that_is_not_there_names_the_others() -> None:
    error = failure("scal", "scale", "shift")
    assert str(error) == (
        "servable 'net' has no signature 'scal'; expected one of 'scale', 'shift' "
        "(did you mean 'scale'?)"
    )
    assert str(failure("scale")) == (
        "servable 'net' has no signature 'scale'; expected 'serving_default' "
        "(leave signature_name out)"
    )
    assert str(failure("", "scale", "shift")) == (
        "servable 'net' has several signatures: name one; expected one of 'scale', 'shift'"
    )
    assert "x" * 50 not in str(failure("x" * 300, "scale"))


def test_other_errors_are_passed_on() -> None:
    def describe(*_: Any) -> Description:
        raise NotFound("no servable is called 'net'", code="unknown_servable", where="servable")

    with pytest.raises(NotFound, match="no servable") as failed:
        Target("net").described(describe)
    assert failed.value.code == "unknown_servable"


def test_what_can_be_no_name_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="names no model"):
        target.servable("", "model_spec.name")
    for look, given in (
        (target.servable, "x" * 256), (target.number, -1),
        (target.label, "3"), (target.label, ""), (target.label, "a/b"),
    ):  # fmt: skip
        with pytest.raises(NotFound):
            look(given, "here")  # type: ignore[operator]
    assert (target.number(3, ""), target.number(0, "")) == (3, None)
    assert (target.number(3, ""), target.label("stable", "")) == (3, "stable")


def test_types_are_those_of_tensorflow() -> None:
    numbers = {dtype.name: types.NUMBERS[dtype.name] for dtype in DTYPES}
    assert numbers == {
        "FP32": 1, "FP64": 2, "INT32": 3, "UINT8": 4, "INT16": 5, "INT8": 6, "BYTES": 7,
        "INT64": 9, "BOOL": 10, "BF16": 14, "UINT16": 17, "FP16": 19, "UINT32": 22, "UINT64": 23,
    }  # fmt: skip
    assert all(types.BY_NUMBER[number].name == name for name, number in numbers.items())
    assert (types.name_of(FP32), types.name_of(ANY)) == ("DT_FLOAT", "DT_INVALID")


def test_signature_of_a_model_is_the_default_one() -> None:
    text = TensorSpec("s", BYTES, None)
    net = dataclasses.replace(MODEL, signature=Signature((X,), (X, text)))
    version, by_name = signatures(StubPlane(net), Target("net", 1))
    shape = {
        "dim": [{"size": "-1", "name": "n"}, {"size": "4", "name": ""}], "unknown_rank": False
    }  # fmt: skip
    x = {"x": {"name": "x", "dtype": "DT_FLOAT", "tensor_shape": shape}}
    unknown = {"dim": [], "unknown_rank": True}
    s = {"s": {"name": "s", "dtype": "DT_STRING", "tensor_shape": unknown}}
    assert version == 1
    assert by_name == {
        "serving_default": {
            "inputs": x, "outputs": x | s, "method_name": "tensorflow/serving/predict"
        }
    }  # fmt: skip


def test_a_frozen_batch_axis_is_told_as_one_that_varies() -> None:
    net = dataclasses.replace(MODEL, signature=Signature((TensorSpec("x", FP32, (8, 4)),), (X,)))
    (found,) = signatures(StubPlane(net), Target("net"))[1].values()
    dims = found["inputs"]["x"]["tensor_shape"]["dim"]
    assert [dim["size"] for dim in dims] == ["-1", "4"]


def test_signatures_of_methods_have_their_names() -> None:
    both = ("scale", "predict")
    _, by_name = signatures(StubPlane(*(method(name, *both) for name in both)), Target("net"))
    assert set(by_name) == {"scale", "predict", "serving_default"}
    assert by_name["scale"]["inputs"]["value"]["dtype"] == "DT_INVALID"
    _, by_name = signatures(StubPlane(*(method(name, "a", "b") for name in "ab")), Target("net"))
    assert set(by_name) == {"a", "b"}


class Listing(StubPlane):
    """Lists versions in every state."""

    rows = (
        (1, State.DRAINING, ""), (2, State.FAILED, "the file is empty"), (3, State.READY, ""),
        (4, State.WARMING, ""), (5, State.NEW, ""), (6, State.UNLOADED, "replaced"),
        (7, State.LOADING, ""),
    )  # fmt: skip

    async def servables(self) -> list[dict[str, Any]]:
        rows = [
            {"name": "net", "version": number, "state": state.value, "reason": reason}
            for number, state, reason in self.rows
        ]
        broken = {"name": "odd", "version": None, "state": "FAILED", "reason": "a bad name"}
        return [*rows, broken]


async def test_states_are_told_in_tensorflow_s_words() -> None:
    assert await statuses(Listing(MODEL), Target("net")) == [
        VersionStatus(1, "UNLOADING", "OK", ""),
        VersionStatus(2, "END", "FAILED_PRECONDITION", "the file is empty"),
        VersionStatus(3, "AVAILABLE", "OK", ""),
        VersionStatus(4, "LOADING", "OK", ""),
        VersionStatus(5, "START", "OK", ""),
        VersionStatus(6, "END", "OK", ""),
        VersionStatus(7, "LOADING", "OK", ""),
    ]


async def test_status_of_one_version_is_told_alone_served_or_not() -> None:
    plane = Listing(MODEL)
    (failed,) = await statuses(plane, Target("net", 2))
    assert (failed.version, failed.is_ready) == (2, False)
    (ready,) = await statuses(plane, Target("net", 3))
    assert ready.is_ready
    (broken,) = await statuses(plane, Target("odd"))
    assert (broken.version, broken.message) == (0, "a bad name")


@pytest.mark.parametrize("asked", [Target("other"), Target("net", 9)])
async def test_status_of_what_is_not_there_is_not_found(asked: Target) -> None:
    with pytest.raises(NotFound) as failed:
        await statuses(Listing(MODEL), asked)
    code = "unknown_version" if asked.version else "unknown_servable"
    assert failed.value.code == code
