"""Declared inputs and outputs held against a model's own."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from serving.artifact import Artifact, Format
from serving.errors import ConfigError
from serving.repository.declaration import Declaration, DeclaredTensor, fit
from serving.repository.settings import ServableSettings
from serving.repository.verdict import judge
from serving.tensor import BYTES, DTYPES, FP32, INT64, BatchAxes, Signature, TensorSpec

FILE = "m/config.pbtxt"
SIGNATURE = Signature(
    (TensorSpec("x", FP32, ("n", "w", 3)), TensorSpec("ids", INT64, ("n",))),
    (TensorSpec("y", FP32, ("n", 5)), TensorSpec("z", FP32, ("n", "w"))),
)
PROVED = BatchAxes(True, "walked", (0, 0), (0, 0))
UNPROVED = BatchAxes.refused("no rule for Frob")


def tuple_or_none(dims: list[int | str] | None) -> tuple[int | str, ...] | None:
    return None if dims is None else tuple(dims)


def declared(
    most: int | None = None,
    *,
    x: tuple[int, ...] | None = None,
    ids: tuple[int, ...] | None = None,
) -> Declaration:
    inputs = (DeclaredTensor("x", FP32, x), DeclaredTensor("ids", INT64, ids))
    return Declaration(FILE, most, inputs)


def wrong(declaration: Declaration, signature: Signature = SIGNATURE) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        fit(declaration, signature, PROVED)
    return caught.value


def test_declaration_of_nothing_leaves_all_as_it_is() -> None:
    found = fit(Declaration(FILE), SIGNATURE, PROVED)
    assert found.signature == SIGNATURE
    assert found.batch is PROVED


def test_declaration_leaves_out_the_batch_axis_where_one_is_asserted() -> None:
    found = fit(declared(8, x=(-1, 3), ids=None), SIGNATURE, PROVED)
    assert found.signature == SIGNATURE
    assert found.batch is PROVED


def test_declaration_fixes_a_size_that_varies_in_the_model() -> None:
    found = fit(declared(8, x=(7, 3)), SIGNATURE, PROVED)
    assert found.signature.inputs[0].shape == ("n", 7, 3)
    assert found.signature.inputs[1:] == SIGNATURE.inputs[1:]
    assert found.signature.outputs == SIGNATURE.outputs


def test_declaration_gives_a_shape_to_a_tensor_of_unknown_rank() -> None:
    signature = Signature((TensorSpec("x", BYTES, None),), (TensorSpec("y", BYTES, None),))
    found = fit(Declaration(FILE, 4, (DeclaredTensor("x", BYTES, (-1, 2)),)), signature, UNPROVED)
    assert found.signature.inputs[0].shape == ("", "", 2)
    assert found.signature.outputs[0].shape is None


def test_declaration_above_zero_asserts_axis_0_of_everything() -> None:
    found = fit(declared(8), SIGNATURE, UNPROVED)
    assert found.batch == BatchAxes(
        True, "asserted by max_batch_size: 8 in m/config.pbtxt", (0, 0), (0, 0)
    )


def test_declaration_above_zero_overrules_other_axes() -> None:
    found = fit(declared(8), SIGNATURE, BatchAxes(True, "walked", (1, None), (1, 1)))
    assert found.batch.inputs == (0, 0)
    assert found.batch.reason.startswith("asserted")


def test_declaration_of_zero_switches_batching_off() -> None:
    found = fit(declared(0, x=(-1, -1, 3), ids=(-1,)), SIGNATURE, PROVED)
    assert not found.batch.batched
    assert found.batch.reason == "switched off by max_batch_size: 0 in m/config.pbtxt"


def test_declaration_without_max_batch_size_leaves_batching_to_the_proof() -> None:
    assert fit(declared(x=(-1, 4, 3)), SIGNATURE, PROVED).batch is PROVED
    assert fit(declared(), SIGNATURE, UNPROVED).batch is UNPROVED


def test_declaration_that_fixes_the_rows_themselves_runs_requests_alone() -> None:
    found = fit(declared(x=(2, 4, 3)), SIGNATURE, PROVED)
    assert found.signature.inputs[0].shape == (2, 4, 3)
    assert not found.batch.batched
    assert found.batch.reason == "m/config.pbtxt fixes the axis of the rows to 2"


def test_declaration_output_that_is_left_out_is_noted() -> None:
    found = fit(Declaration(FILE, outputs=(DeclaredTensor("y"),)), SIGNATURE, PROVED)
    assert found.signature == SIGNATURE
    assert len(found.notes) == 1
    assert "output 'z' is not declared" in found.notes[0]


def test_declaration_unknown_name_says_the_nearest() -> None:
    error = wrong(Declaration(FILE, outputs=(DeclaredTensor("output_y"), DeclaredTensor("z"))))
    assert error.where == "output.output_y"
    assert error.expected == "outputs 'y', 'z'"
    error = wrong(Declaration(FILE, inputs=(DeclaredTensor("idz"), DeclaredTensor("x"))))
    assert error.fix == "did you mean 'ids'?"


def test_declaration_input_that_is_left_out_is_an_error() -> None:
    error = wrong(Declaration(FILE, inputs=(DeclaredTensor("x"),)))
    assert "does not declare input 'ids'" in error.message


def test_declaration_other_data_type_names_both() -> None:
    inputs = (DeclaredTensor("x", BYTES), DeclaredTensor("ids"))
    error = wrong(Declaration(FILE, inputs=inputs))
    assert error.where == "input.x.data_type"
    assert error.expected == "FP32, as in the model"
    assert error.given == "BYTES"


@pytest.mark.parametrize(
    ("most", "dims", "given", "fix"),
    [
        (
            8, (-1, -1, 3), "dims [-1, -1, 3], with the batch axis of max_batch_size [-1,-1,-1,3]",
            "set max_batch_size: 0 if the dims hold every axis, else leave out the first",
        ),
        (
            0, (-1, 3), "dims [-1, 3]",
            "write every axis, the first as -1, or set max_batch_size above 0",
        ),
        (
            8, (-1, 4), "dims [-1, 4], with the batch axis of max_batch_size [-1,-1,4]",
            "write the model's own sizes, -1 for one that varies",
        ),
        (0, (3,), "dims [3]", "write the model's own sizes, -1 for one that varies"),
    ],
)  # fmt: skip
def test_declaration_other_shape_names_both_and_the_way_out(
    most: int, dims: tuple[int, ...], given: str, fix: str
) -> None:
    error = wrong(declared(most, x=dims))
    assert error.where == "input.x.dims"
    assert error.expected == "FP32[n,w,3], as in the model"
    assert error.given == given
    assert error.fix == fix


def test_declaration_of_rows_for_a_scalar_is_an_error() -> None:
    signature = Signature((TensorSpec("x", FP32, ()),), ())
    error = wrong(Declaration(FILE, 8), signature)
    assert "no axis that could count rows" in error.message
    assert fit(Declaration(FILE, 0), signature, UNPROVED).signature == signature


SHAPES = st.none() | st.lists(st.integers(1, 9) | st.sampled_from(["", "n", "w"]), max_size=4)
SPECS = st.builds(TensorSpec, st.just("x"), st.sampled_from(DTYPES), SHAPES.map(tuple_or_none))


@given(SPECS, st.sampled_from([None, 0, 4]))
def test_declaration_that_repeats_the_model_changes_nothing(
    spec: TensorSpec, most: int | None
) -> None:
    signature = Signature((spec,), (spec,))
    assume(not (most and spec.shape == ()))
    sizes = None
    if spec.shape is not None:
        sizes = tuple(d if isinstance(d, int) else -1 for d in spec.shape[bool(most) :])
    tensor = DeclaredTensor("x", spec.dtype, sizes)
    assert fit(Declaration(FILE, most, (tensor,), (tensor,)), signature, UNPROVED).signature == (
        signature
    )


def test_verdict_takes_a_declaration_in_place_of_batch_axes() -> None:
    artifact = Artifact(Format.ONNX, "onnxruntime", signature=SIGNATURE, batch=UNPROVED)
    verdict = judge(artifact, ServableSettings(max_batch_size=8), declared(8, x=(7, 3)))
    assert verdict.runs
    assert verdict.batch.batched
    assert verdict.max_batch_size == 8
    assert verdict.signature is not None
    assert verdict.signature.inputs[0].shape == ("n", 7, 3)


def test_verdict_of_one_row_a_batch_names_the_file() -> None:
    artifact = Artifact(Format.ONNX, "onnxruntime", signature=SIGNATURE, batch=PROVED)
    verdict = judge(artifact, ServableSettings(max_batch_size=1), declared(1))
    assert verdict.batch.reason == "switched off by max_batch_size = 1 in config.pbtxt"


def test_verdict_of_a_declaration_that_does_not_fit_is_its_story() -> None:
    artifact = Artifact(Format.ONNX, "onnxruntime", signature=SIGNATURE, batch=PROVED)
    verdict = judge(artifact, ServableSettings(), declared(0, x=(3,)))
    assert not verdict.runs
    assert verdict.reason == (
        "input 'x' has another shape in m/config.pbtxt than in the model; expected FP32[n,w,3], "
        "as in the model, given dims [3] (write the model's own sizes, -1 for one that varies)"
    )


def test_verdict_of_another_engine_than_the_file_asks_for_names_that_file() -> None:
    artifact = Artifact(Format.MINDIR, backend="mindspore", signature=SIGNATURE, batch=PROVED)
    verdict = judge(artifact, ServableSettings(backend="onnxruntime"), declared())
    assert verdict.reason.startswith("config.pbtxt asks for backend 'onnxruntime'")
