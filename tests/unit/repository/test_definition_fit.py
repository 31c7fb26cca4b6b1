"""Methods held against the models that they call: the counts of inputs and outputs, and none."""

from __future__ import annotations

import pytest

from serving.definition import INPUTS, DeclaredModel, Definition, Kind, Method, Node, Ref
from serving.repository.definition_fit import misfit
from serving.tensor import FP32, Signature, TensorSpec

ADD = Signature(
    (TensorSpec("x1", FP32, (2, 2)), TensorSpec("x2", FP32, (2, 2))),
    (TensorSpec("y", FP32, (2, 2)),),
)
MODEL = DeclaredModel(("add.mindir",), "mindir")


def defined(inputs: int, outputs: int, kind: Kind = Kind.MODEL) -> Definition:
    refs = tuple(Ref(INPUTS, index) for index in range(inputs))
    node = Node(kind, "add.mindir", refs, outputs)
    names = tuple(f"in{index}" for index in range(inputs))
    return Definition((MODEL,), (), (Method("go", names, ("y",), (node,), (Ref(0, 0),)),))


def test_method_that_calls_a_model_as_it_is_fits() -> None:
    assert misfit(defined(2, 1), {("add.mindir", 0): ADD}, hidden=False) == ""


@pytest.mark.parametrize(
    ("inputs", "outputs", "problem"),
    [
        (1, 1, "method 'go' gives model 'add.mindir' 1 input, and it takes 2: x1 FP32[2,2], x2"),
        (3, 1, "method 'go' gives model 'add.mindir' 3 inputs, and it takes 2: x1 FP32[2,2], x2"),
        (2, 2, "method 'go' says outputs_count=2 of model 'add.mindir', which gives 1: y FP32[2"),
    ],
)
def test_method_with_other_counts_is_named_with_what_the_model_has(
    inputs: int, outputs: int, problem: str
) -> None:
    said = misfit(defined(inputs, outputs), {("add.mindir", 0): ADD}, hidden=False)
    assert said.startswith(problem)
    assert said.endswith("(correct its add_stage in servable_config.py)")


def test_stage_that_is_no_model_and_a_model_that_is_not_known_yet_are_not_held_against_it() -> None:
    assert misfit(defined(1, 1, Kind.FUNCTION), {("add.mindir", 0): ADD}, hidden=False) == ""
    assert misfit(defined(1, 1), {}, hidden=False) == ""


def test_models_without_a_method_need_the_hidden_ones() -> None:
    models = Definition((MODEL,))
    assert misfit(models, {("add.mindir", 0): ADD}, hidden=True) == ""
    assert "registers no method" in misfit(models, {("add.mindir", 0): ADD}, hidden=False)
