"""``declare_model`` held against models: which axes count rows, and what cannot be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from serving.artifact import Artifact, Format
from serving.definition import DeclaredModel
from serving.errors import ConfigError
from serving.repository.declared_model import (
    declared_axes,
    frozen_rows,
    instance_signature,
    may_be_freed,
    run_axes,
    threads_of,
    unproved,
)
from serving.repository.settings import parse_settings
from serving.repository.verdict import Verdict, judge
from serving.tensor import FP32, BatchAxes, Dim, Signature, TensorSpec

ROWS = DeclaredModel(("m.onnx",), "onnx")
WHOLE = DeclaredModel(("m.onnx",), "onnx", with_batch_dim=False)
SHARED = DeclaredModel(("m.onnx",), "onnx", without_batch_dim_inputs=(1,))


def signature(*shapes: tuple[Dim, ...]) -> Signature:
    """Return a model with inputs of these shapes, but for the last: its output's."""
    specs = [TensorSpec(f"t{i}", FP32, shape) for i, shape in enumerate(shapes)]
    return Signature(tuple(specs[:-1]), tuple(specs[-1:]))


def judged(declared: DeclaredModel, model: Signature, settings: str = "") -> Verdict:
    artifact = Artifact(
        Format.ONNX, "onnxruntime", signature=model, batch=BatchAxes.refused("not proved")
    )
    return judge(artifact, parse_settings(settings.encode(), "m/servable.toml"), declared)


def test_declared_rows_are_on_axis_0_of_everything() -> None:
    axes = declared_axes(ROWS, signature((4, 2), (4,), (4, 3)))
    assert (axes.batched, axes.inputs, axes.outputs) == (True, (0, 0), (0,))


def test_declared_shared_input_has_no_rows() -> None:
    axes = declared_axes(SHARED, signature(("n", 2), (7, 2), ("n", 3)))
    assert (axes.inputs, axes.outputs) == ((0, None), (0,))


def test_declared_without_rows_is_not_batched() -> None:
    assert not declared_axes(WHOLE, signature((4, 2), (4, 2))).batched


@pytest.mark.parametrize(
    ("declared", "model", "text"),
    [
        (ROWS, signature((), (4,)), "'t0' has no axis that could count rows"),
        (ROWS, signature((4, 2), ()), "'t1' has no axis that could count rows"),
        (ROWS, signature((4, 2), (2, 2)), "axis 0 of 't0' has 4 rows and that of 't1' 2"),
        (SHARED, signature((4, 2), (4, 2)), "names input 1, which the model does not have"),
        (
            DeclaredModel(("m.onnx",), "onnx", without_batch_dim_inputs=(0,)),
            signature((4,), (4,)),
            "names every input",
        ),
    ],
)
def test_declaration_that_does_not_fit_is_refused(
    declared: DeclaredModel, model: Signature, text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        declared_axes(declared, model)
    reason = judged(declared, model).reason
    assert reason.startswith("servable_config.py: ")
    assert text in reason


def test_verdict_follows_the_declaration_and_not_the_walk() -> None:
    verdict = judged(ROWS, signature(("n", 2), ("n", 3)))
    assert (verdict.runs, verdict.batch.batched, verdict.max_batch_size) == (True, True, 32)
    assert not judged(WHOLE, signature(("n", 2), ("n", 3))).batch.batched


def test_verdict_refuses_batch_axes_beside_a_declaration() -> None:
    settings = "[batch_axes]\ninputs = { t0 = 0 }\noutputs = { t1 = 0 }\n"
    verdict = judged(ROWS, signature(("n", 2), ("n", 3)), settings)
    assert verdict.reason.startswith(
        "servable.toml: batch_axes says what declare_model says already"
    )


def test_verdict_of_max_batch_size_1_keeps_the_rows_that_a_model_must_have() -> None:
    assert judged(ROWS, signature((4, 2), (4, 3)), "max_batch_size = 1").batch.batched
    assert not judged(ROWS, signature(("n", 2), ("n", 3)), "max_batch_size = 1").batch.batched
    assert frozen_rows(ROWS, signature((4, 2), (4, 3))) == 4
    assert frozen_rows(ROWS, signature(("n", 2), ("n", 3))) is None


def test_unproved_rows_stop_only_a_model_that_must_have_several() -> None:
    refused = BatchAxes.refused("rows differ")
    assert "takes 4 rows at once" in unproved(ROWS, signature((4, 2), (4, 3)), refused)
    assert unproved(ROWS, signature((1, 2), (1, 3)), refused) == ""
    assert unproved(ROWS, signature(("n", 2), ("n", 3)), refused) == ""
    assert unproved(WHOLE, signature((4, 2), (4, 3)), refused) == ""
    proved = BatchAxes(True, "", (0,), (0,))
    assert unproved(ROWS, signature((4, 2), (4, 3)), proved) == ""


@pytest.mark.parametrize(
    ("context", "config_file", "note"),
    [
        ({}, "", None),
        ({"thread_num": 2, "devices": []}, "", None),
        ({"devices": [{"device_type": "cpu", "precision_mode": "origin"}]}, "", None),
        (
            {"devices": [{"device_type": "gpu", "precision_mode": "fp16"}]},
            "",
            "precision_mode for GPU: not looked at by the engine here",
        ),
        (
            {"thread_affinity_core_list": [0], "enable_parallel": False},
            "lite.cfg",
            "thread_affinity_core_list of its Context; config_file 'lite.cfg': not looked at by "
            "the engine here",
        ),
    ],
)
def test_declaration_names_what_has_no_effect(
    context: dict[str, Any], config_file: str, note: str | None
) -> None:
    declared = DeclaredModel(("m.onnx",), "onnx", context=context, config_file=config_file)
    notes = judged(declared, signature(("n", 2), ("n", 3))).notes
    assert notes == (() if note is None else (note,))


def test_declared_threads_are_those_of_the_context() -> None:
    assert threads_of(ROWS) is None
    assert threads_of(DeclaredModel(("m",), "onnx", context={"thread_num": 3})) == 3


def freed(rows: int, axes: tuple[tuple[int | None, ...], tuple[int | None, ...]]) -> Artifact:
    """Return a model of two inputs and an output whose axis was freed, exported with ``rows``."""
    inputs, outputs = axes
    shapes: list[tuple[Dim, ...]] = [
        (3,) if axis is None else ("batch", 2) if axis == 0 else (2, "batch")
        for axis in (*inputs, *outputs)
    ]
    return Artifact(
        Format.MINDIR, "onnxruntime", signature=signature(*shapes),
        batch=BatchAxes(True, "walked", inputs, outputs), exported_rows=rows,
    )  # fmt: skip


PLAIN = ((0, 0), (0,))


def test_whole_instances_run_together_along_an_axis_that_was_freed() -> None:
    axes = run_axes(WHOLE, freed(2, PLAIN), 32)
    assert (axes.batched, axes.exact, axes.inputs, axes.outputs) == (True, True, (0, 0), (0,))
    assert axes.reason == "whole instances of 2 rows share a run, to the last bit: walked"
    assert judge(freed(2, PLAIN), parse_settings(b"", "m/servable.toml"), WHOLE).batch == axes


ALONE = "declared with_batch_dim=False: an instance is a whole run"


@pytest.mark.parametrize(
    ("artifact", "most", "why"),
    [
        (freed(0, PLAIN), 32, ""),  # free as it was: an instance may have any number of rows
        (freed(17, PLAIN), 32, ": two of 17 rows do not fit max_batch_size = 32"),
        (freed(2, PLAIN), 3, ": two of 2 rows do not fit max_batch_size = 3"),
        (freed(2, ((0, None), (0,))), 32, ""),  # what all rows share, instances might not
        (freed(2, ((1, 1), (1,))), 32, ""),
        (freed(2, ((0, 0), (1,))), 32, ""),
    ],
)
def test_whole_instances_run_alone_where_they_might_meet(
    artifact: Artifact, most: int, why: str
) -> None:
    axes = run_axes(WHOLE, artifact, most)
    assert not axes.batched
    assert axes.reason == ALONE + why


def test_reason_of_whole_instances_that_run_alone_says_why_rows_must_not_meet() -> None:
    artifact = replace(freed(0, PLAIN), batch=BatchAxes.refused("'Sum' mixes rows"))
    assert run_axes(WHOLE, artifact, 32).reason == f"{ALONE}: 'Sum' mixes rows"


def test_only_a_declaration_frees_a_fixed_axis_and_none_with_shared_inputs() -> None:
    assert [may_be_freed(declared) for declared in (WHOLE, ROWS, SHARED, None)] == [
        True, True, False, False,
    ]  # fmt: skip


def test_declared_rows_are_not_joined_as_whole_instances_are() -> None:
    assert run_axes(ROWS, freed(2, PLAIN), 32) == declared_axes(ROWS, signature((2,), (2,), (2,)))


def test_instances_have_the_sizes_of_the_file_whatever_was_freed() -> None:
    whole = instance_signature(WHOLE, freed(2, ((0, None), (1,))))
    assert whole is not None
    assert [spec.shape for spec in (*whole.inputs, *whole.outputs)] == [(2, 2), (3,), (2, 2)]
    assert instance_signature(ROWS, freed(2, PLAIN)) == freed(2, PLAIN).signature
    assert instance_signature(WHOLE, freed(0, PLAIN)) == freed(0, PLAIN).signature
