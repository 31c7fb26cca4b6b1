"""Settings applied to artifacts: runs or not, batched or not."""

import pytest

from serving.artifact import Artifact, Format
from serving.errors import ConfigError
from serving.repository.batch_axes import AssertedAxes, parse_axes, resolve_axes
from serving.repository.settings import ServableSettings
from serving.repository.verdict import judge
from serving.tensor import FP32, BatchAxes, Signature, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("x", FP32, ("n", 4)), TensorSpec("state", FP32, (2, "n", 8))),
    (TensorSpec("y", FP32, ("n", 3)),),
)
WALKED = BatchAxes(True, "walked", (0, 1), (0,))
ARTIFACT = Artifact(Format.ONNX, backend="onnxruntime", signature=SIGNATURE, batch=WALKED)


def asserted(inputs: dict[str, object], outputs: dict[str, object]) -> AssertedAxes | None:
    return parse_axes({"inputs": inputs, "outputs": outputs})


def test_verdict_without_settings_is_the_walk() -> None:
    verdict = judge(ARTIFACT, ServableSettings())
    assert verdict.runs
    assert verdict.batch is WALKED
    assert verdict.max_batch_size == 32


def test_verdict_of_an_artifact_without_backend_is_its_reason() -> None:
    verdict = judge(Artifact(Format.OM, reason="needs an Ascend device"), ServableSettings())
    assert not verdict.runs
    assert verdict.reason == "needs an Ascend device"
    assert not verdict.batch.batched


def test_verdict_not_batched_means_a_batch_size_of_one() -> None:
    artifact = Artifact(
        Format.ONNX, "onnxruntime", signature=SIGNATURE, batch=BatchAxes.refused("no axis")
    )
    assert judge(artifact, ServableSettings()).max_batch_size == 1


@pytest.mark.parametrize(
    "settings",
    [ServableSettings(max_batch_size=1), ServableSettings(batch_axes=AssertedAxes(True))],
)
def test_verdict_batching_is_switched_off_by_settings(settings: ServableSettings) -> None:
    verdict = judge(ARTIFACT, settings)
    assert verdict.runs
    assert not verdict.batch.batched
    assert "servable.toml" in verdict.batch.reason
    assert verdict.max_batch_size == 1


def test_verdict_other_backend_than_asked_for_does_not_run() -> None:
    artifact = Artifact(Format.MINDIR, backend="mindspore", signature=SIGNATURE, batch=WALKED)
    verdict = judge(artifact, ServableSettings(backend="onnxruntime"))
    assert not verdict.runs
    assert "'onnxruntime'" in verdict.reason
    assert "'mindspore'" in verdict.reason


def test_verdict_asserted_axis_that_does_not_fit_does_not_run() -> None:
    axes = asserted({"x": 0, "sate": 1}, {"y": 0})
    verdict = judge(ARTIFACT, ServableSettings(batch_axes=axes))
    assert not verdict.runs
    assert "did you mean 'state'?" in verdict.reason


def test_axes_asserted_follow_the_signatures_order() -> None:
    axes = asserted({"state": 1, "x": "none"}, {"y": 0})
    resolved = resolve_axes(axes, SIGNATURE, BatchAxes.refused("no proof"))
    assert resolved.batched
    assert resolved.inputs == (None, 1)
    assert resolved.outputs == (0,)


@pytest.mark.parametrize(
    ("inputs", "outputs", "where"),
    [
        ({"x": 0}, {"y": 0}, "batch_axes.inputs"),
        ({"x": 0, "state": 3}, {"y": 0}, "batch_axes.inputs.state"),
        ({"x": 0, "state": 1}, {"z": 0}, "batch_axes.outputs.z"),
    ],
)
def test_axes_asserted_must_fit_the_signature(
    inputs: dict[str, object], outputs: dict[str, object], where: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_axes(asserted(inputs, outputs), SIGNATURE, WALKED)
    assert caught.value.where == where


def test_axes_of_an_unknown_rank_are_taken_at_their_word() -> None:
    signature = Signature((TensorSpec("x", FP32, None),), (TensorSpec("y", FP32, None),))
    resolved = resolve_axes(asserted({"x": 5}, {"y": 0}), signature, WALKED)
    assert resolved.inputs == (5,)
