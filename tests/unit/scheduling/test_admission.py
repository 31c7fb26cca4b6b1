"""What fits a signature is taken as it is; what does not is told where, and what was expected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from serving.errors import InvalidRequest, Status
from serving.request import Description, InferRequest
from serving.scheduling.admission import Admission, admit, look
from serving.tensor import (
    BYTES,
    DTYPES,
    FP32,
    INT64,
    BatchAxes,
    Dim,
    DType,
    Signature,
    Tensor,
    TensorSpec,
)

ALONE = BatchAxes.refused("test")


def description(
    inputs: list[TensorSpec], outputs: tuple[str, ...] = ("y",), batch: BatchAxes = ALONE
) -> Description:
    signature = Signature(
        tuple(inputs), tuple(TensorSpec(name, FP32, ("batch",)) for name in outputs)
    )
    return Description("net", 1, signature, batch, 8, "test")


def tensor(name: str, dtype: DType, shape: tuple[int, ...]) -> Tensor:
    """Make a tensor of a shape; admission looks at no value."""
    if dtype.is_bytes:
        return Tensor(name, dtype, shape, items=[b"a"] * int(np.prod(shape, dtype=int)))
    return Tensor(name, dtype, shape, np.zeros(shape, dtype.numpy))


def request(*tensors: Tensor, outputs: tuple[str, ...] | None = None) -> InferRequest:
    return InferRequest("net", tensors, outputs=outputs)


IMAGE = TensorSpec("image", FP32, ("batch", 3, "height"))
LABEL = TensorSpec("label", INT64, ("batch",))
STATE = TensorSpec("state", FP32, (2, "batch", 5))
MASK = TensorSpec("mask", FP32, ("height",))
WIDE = TensorSpec("wide", FP32, None)
NET = description(
    [IMAGE, LABEL, STATE, MASK],
    ("logits", "hidden"),
    BatchAxes(True, "test", (0, 0, 1, None), (0, 0)),
)


def fitting(**changed: Tensor | None) -> list[Tensor]:
    """Return inputs that fit NET, some of them changed or (None) left out."""
    tensors = {
        "image": tensor("image", FP32, (4, 3, 7)),
        "label": tensor("label", INT64, (4,)),
        "state": tensor("state", FP32, (2, 4, 5)),
        "mask": tensor("mask", FP32, (7,)),
        **changed,
    }
    return [given for given in tensors.values() if given is not None]


@dataclass(frozen=True)
class Fault:
    """A request that does not fit NET, and everything that must be said about it."""

    request: InferRequest
    message: str
    code: str
    where: str
    expected: str = ""
    given: str = ""
    fix: str = ""


KNOWN = "inputs 'image', 'label', 'state', 'mask'"
FAULTS = {
    "unknown input, nearly right": Fault(
        request(*fitting(image=tensor("imge", FP32, (4, 3, 7)))),
        "servable 'net' has no input 'imge'",
        "unknown_input", "inputs.imge", KNOWN, fix="did you mean 'image'?",
    ),
    "unknown input, like none": Fault(
        request(*fitting(), tensor("zzz", FP32, (1,))),
        "servable 'net' has no input 'zzz'",
        "unknown_input", "inputs.zzz", KNOWN,
    ),
    "input given twice": Fault(
        request(*fitting(), tensor("label", INT64, (4,))),
        "input 'label' is given twice",
        "duplicate_input", "inputs.label",
    ),
    "input missing": Fault(
        request(*fitting(label=None, mask=None)),
        "servable 'net' needs input 'label'",
        "missing_input", "inputs.label", KNOWN, "'image', 'state'",
    ),
    "no input at all": Fault(
        request(),
        "servable 'net' needs input 'image'",
        "missing_input", "inputs.image", KNOWN, "none",
    ),
    "wrong dtype": Fault(
        request(*fitting(label=tensor("label", FP32, (4,)))),
        "input 'label' has the wrong data type",
        "wrong_dtype", "inputs.label", "INT64", "FP32",
    ),
    "an axis too many": Fault(
        request(*fitting(image=tensor("image", FP32, (1, 4, 3, 7)))),
        "input 'image' has the wrong number of axes",
        "wrong_rank", "inputs.image", "shape [batch,3,height]", "shape [1,4,3,7]",
    ),
    "a row without its axis": Fault(
        request(*fitting(image=tensor("image", FP32, (3, 7)))),
        "input 'image' has the wrong number of axes",
        "wrong_rank", "inputs.image", "shape [batch,3,height]", "shape [3,7]",
        "axis 0 counts the rows: one row has shape [1,...]",
    ),
    "an axis too few where none counts rows": Fault(
        request(*fitting(mask=tensor("mask", FP32, ()))),
        "input 'mask' has the wrong number of axes",
        "wrong_rank", "inputs.mask", "shape [height]", "shape []",
    ),
    "wrong size of a fixed axis": Fault(
        request(*fitting(image=tensor("image", FP32, (4, 1, 7)))),
        "input 'image' has size 1 on axis 1",
        "wrong_shape", "inputs.image", "shape [batch,3,height]", "shape [4,1,7]",
    ),
    "wrong size before the axis of rows": Fault(
        request(*fitting(state=tensor("state", FP32, (1, 4, 5)))),
        "input 'state' has size 1 on axis 0",
        "wrong_shape", "inputs.state", "shape [2,batch,5]", "shape [1,4,5]",
    ),
    "sizes of one name that differ": Fault(
        request(*fitting(mask=tensor("mask", FP32, (6,)))),
        "inputs 'image' and 'mask' must agree on 'height'",
        "wrong_shape", "inputs.mask", "size 7 on axis 0, as in 'image'", "shape [6]",
    ),
    "numbers of rows that differ": Fault(
        request(*fitting(state=tensor("state", FP32, (2, 3, 5)))),
        "inputs 'image' and 'state' bring different numbers of rows",
        "wrong_shape", "inputs.state", "4 rows on axis 1, as in 'image'", "3",
    ),
    "no rows": Fault(
        request(
            *fitting(
                image=tensor("image", FP32, (0, 3, 7)),
                label=tensor("label", INT64, (0,)),
                state=tensor("state", FP32, (2, 0, 5)),
            )
        ),
        "the request holds no rows",
        "empty_batch", "inputs.image", "at least one row", "0",
    ),
    "unknown output": Fault(
        request(*fitting(), outputs=("logits", "hiden")),
        "servable 'net' has no output 'hiden'",
        "unknown_output", "outputs.hiden", "outputs 'logits', 'hidden'",
        fix="did you mean 'hidden'?",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_admission_says_what_does_not_fit(fault: Fault) -> None:
    with pytest.raises(InvalidRequest) as refused:
        admit(fault.request, NET)
    error = refused.value
    said = (error.message, error.code, error.where, error.expected, error.given, error.fix)
    assert said == (
        fault.message, fault.code, fault.where, fault.expected, fault.given, fault.fix
    )  # fmt: skip
    assert error.status is Status.INVALID_ARGUMENT
    assert error.retry_after_s is None


def test_admission_refuses_an_output_that_is_asked_for_twice() -> None:
    with pytest.raises(InvalidRequest, match="an output is asked for twice") as refused:
        admit(request(*fitting(), outputs=("logits", "hidden", "logits")), NET)
    assert (refused.value.code, refused.value.where) == ("duplicate_output", "outputs")


def test_admission_refuses_too_few_axes_where_only_the_batch_axis_is_known() -> None:
    batch = BatchAxes(True, "asserted", (1,), (0,))
    with pytest.raises(InvalidRequest) as refused:
        admit(request(tensor("wide", FP32, (3,))), description([WIDE], batch=batch))
    assert (refused.value.code, refused.value.where) == ("wrong_rank", "inputs.wide")
    assert refused.value.expected == "an axis 1, which counts the rows"


def test_admission_takes_what_fits_in_any_order() -> None:
    image, label, state, mask = fitting()
    admission = admit(request(mask, state, image, label, outputs=("hidden",)), NET)
    assert admission.rows == 4
    assert admission.order == (2, 3, 1, 0)
    assert [(f.dtype, f.row_shape, f.axis) for f in admission.fields] == [
        (FP32, (3, 7), 0), (INT64, (), 0), (FP32, (2, 5), 1), (FP32, (7,), None),
    ]  # fmt: skip
    assert admission.shared == (3,)
    assert admission.outputs == (1,)


def test_admission_of_a_model_without_a_batch_axis_is_of_one_row() -> None:
    plain = description([IMAGE, LABEL])
    admission = admit(request(*fitting(state=None, mask=None)), plain)
    assert (admission.rows, admission.shared) == (1, ())
    assert [f.row_shape for f in admission.fields] == [(4, 3, 7), (4,)]


def test_admission_of_a_model_without_inputs_is_of_one_row() -> None:
    assert admit(request(), description([])) == Admission(1, None, (), (), None, 0, False)


@pytest.mark.parametrize("shape", [(), (0,), (2, 3, 4)])
def test_admission_takes_any_shape_where_the_rank_is_not_known(shape: tuple[int, ...]) -> None:
    admission = admit(request(tensor("wide", FP32, shape)), description([WIDE]))
    assert admission.fields[0].row_shape == shape


@pytest.mark.parametrize("name", ["", "?"])
def test_admission_lets_sizes_without_a_name_differ(name: str) -> None:
    """ONNX writes a size that nobody named as nothing or as a question mark."""
    two = description([TensorSpec("a", FP32, (name,)), TensorSpec("b", FP32, (name,))])
    assert admit(request(tensor("a", FP32, (2,)), tensor("b", FP32, (3,))), two).rows == 1


def test_admission_takes_a_frozen_batch_size_for_the_most_and_not_for_a_must() -> None:
    frozen = description([TensorSpec("x", FP32, (4, 2))], batch=BatchAxes(True, "test", (0,), (0,)))
    assert admit(request(tensor("x", FP32, (3, 2))), frozen).rows == 3


# -- any shape at all ------------------------------------------------------------------------------

dims: st.SearchStrategy[Dim] = st.integers(0, 4) | st.sampled_from(["n", "m", "", "?", "batch"])


@dataclass(frozen=True)
class Fit:
    """A signature of one or two inputs, and a request that was made to fit it."""

    description: Description
    request: InferRequest
    rows: int


@st.composite
def fits(draw: st.DrawFn, *, paired: bool = False) -> Fit:
    """Draw a request and its signature; ``paired`` wants two inputs that both count rows."""
    batched = paired or draw(st.booleans())
    rows = draw(st.integers(1, 5))
    sizes = {name: draw(st.integers(0, 4)) for name in ("n", "m", "batch")}
    specs, axes, tensors = [], [], []
    for name in ("a", "b")[: 2 if paired else draw(st.integers(1, 2))]:
        shape = draw(st.lists(dims, max_size=4))
        counts = paired or (batched and (name == "a" or draw(st.booleans())))
        axis = draw(st.integers(0, len(shape))) if counts else None
        if axis is not None:
            shape.insert(axis, draw(st.sampled_from(["rows", ""])))
        given = [
            rows
            if i == axis
            else d
            if isinstance(d, int)
            else sizes.get(d, draw(st.integers(0, 4)))
            for i, d in enumerate(shape)
        ]
        dtype = draw(st.sampled_from(DTYPES))
        specs.append(TensorSpec(name, dtype, tuple(shape)))
        axes.append(axis)
        tensors.append(tensor(name, dtype, tuple(given)))
    batch = BatchAxes(True, "test", tuple(axes), (0,)) if batched else ALONE
    order = draw(st.permutations(tensors))
    return Fit(description(specs, batch=batch), request(*order), rows if batched else 1)


@given(fits())
def test_admission_takes_every_request_that_was_made_to_fit(fit: Fit) -> None:
    admission = admit(fit.request, fit.description)
    assert admission.rows == fit.rows
    specs = fit.description.signature.inputs
    order = admission.order or range(len(specs))
    for spec, place, field in zip(specs, order, admission.fields, strict=True):
        given_ = fit.request.inputs[place]
        assert given_.name == spec.name
        # A row put back onto its axis, as often as there are rows, is the tensor again.
        assert field.engine_shape(fit.rows) == given_.shape
        assert field.dtype is spec.dtype


@given(fits(), st.data())
def test_admission_refuses_one_changed_size_of_a_fixed_axis(fit: Fit, data: st.DataObject) -> None:
    batch = fit.description.batch
    fixed = [
        (i, axis)
        for i, spec in enumerate(fit.description.signature.inputs)
        for axis, dim in enumerate(spec.shape or ())
        if isinstance(dim, int) and not (batch.batched and batch.inputs[i] == axis)
    ]
    assume(fixed)
    i, axis = data.draw(st.sampled_from(fixed))
    spec = fit.description.signature.inputs[i]
    changed = []
    for t in fit.request.inputs:
        if t.name != spec.name:
            changed.append(t)
            continue
        shape = list(t.shape)
        shape[axis] += data.draw(st.integers(1, 3))
        changed.append(tensor(t.name, t.dtype, tuple(shape)))
    with pytest.raises(InvalidRequest) as refused:
        admit(request(*changed), fit.description)
    assert refused.value.code == "wrong_shape"
    assert refused.value.where == f"inputs.{spec.name}"
    assert f"on axis {axis}" in refused.value.message


@given(fits(paired=True), st.integers(1, 3))
def test_admission_refuses_inputs_that_bring_different_numbers_of_rows(fit: Fit, more: int) -> None:
    axis = fit.description.batch.inputs[1]
    assert axis is not None
    (first,) = [t for t in fit.request.inputs if t.name == "a"]
    (second,) = [t for t in fit.request.inputs if t.name == "b"]
    shape = list(second.shape)
    shape[axis] += more
    with pytest.raises(InvalidRequest, match="different numbers of rows") as refused:
        admit(request(first, tensor("b", second.dtype, tuple(shape))), fit.description)
    assert refused.value.expected == f"{fit.rows} rows on axis {axis}, as in 'a'"
    assert refused.value.given == str(fit.rows + more)


@given(fits(), fits())
def test_look_differs_where_the_verdict_may(one: Fit, other: Fit) -> None:
    """Requests of one look take one verdict: it must tell all apart that admission tells apart."""
    same = [(t.name, t.dtype, t.shape) for t in one.request.inputs] == [
        (t.name, t.dtype, t.shape) for t in other.request.inputs
    ]
    assert (look(one.request) == look(other.request)) == same
    chosen = InferRequest("net", one.request.inputs, outputs=("y",))
    assert look(chosen) != look(one.request)


def test_look_does_not_depend_on_values() -> None:
    one, two = (Tensor("x", BYTES, (1,), items=[item]) for item in (b"a", b"other"))
    assert look(request(one)) == look(request(two))
