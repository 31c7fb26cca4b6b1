"""The commonest calls of MindSpore Serving's REST clients, read and written in one go: numbers.

Every instance has the inputs, nothing else, in their very shapes; an input of floats has fractions
and one of integers integers. Whatever is not exactly that, or holds any mistake, is left to
``ms_json``, which knows every form and finds the words for every mistake; both give equal tensors
for what both can read, and ``ms_codec`` writes what is written here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from serving.errors import ServingError
from serving.frontends.mindspore.runs import Outcome
from serving.frontends.plan import InputPlan, Plan, plan_for
from serving.frontends.rest import json_answer, plain_numbers
from serving.request import Description
from serving.tensor import BF16, Array, DType, Tensor, element_count

LARGEST_BYTES = 64 << 10
_MOST_INSTANCES = 64
_MOST_DESCRIPTIONS = 2048


class _Input(NamedTuple):
    """How one input is read: the sizes of an instance, and what packs so many numbers."""

    name: str
    dtype: DType
    sizes: tuple[int, ...]
    shape: tuple[int, ...]
    floats: int
    pack: Callable[[object], Array | None]


class _Recipe(NamedTuple):
    """How all inputs of a plan are read, None where that is the long way's."""

    plan: Plan
    inputs: tuple[_Input, ...] | None


_recipes: dict[int, _Recipe] = {}


def read(
    body: bytes, instances: Sequence[Mapping[str, Any]], plan: Plan
) -> list[tuple[Tensor, ...]] | None:
    """Return the inputs of each instance of a body, or None to read them the long way.

    ``instances`` are what orjson made of the body.
    """
    recipe = _recipes.get(id(plan))
    if recipe is None or recipe.plan is not plan:
        if len(_recipes) >= _MOST_DESCRIPTIONS:
            _recipes.clear()
        recipe = _recipes[id(plan)] = _recipe(plan)
    inputs, count = recipe.inputs, len(instances)
    if inputs is None or len(body) > LARGEST_BYTES or not 0 < count <= _MOST_INSTANCES:
        return None
    # The quotes of every name once: no string, no other key, and no key given twice.
    if body.count(b'"') != 2 * (1 + count * len(inputs)):
        return None
    found = []
    floats = 0
    for instance in instances:
        tensors = []
        for item in inputs:
            tensor = _tensor(instance.get(item.name), item)
            if tensor is None:
                return None
            tensors.append(tensor)
            floats += item.floats
        found.append(tuple(tensors))
    # No number has two points: if there are as many as floats are wanted, all of those are
    # fractions, and not integers, which clients are to hear of.
    return found if body.count(b".") == floats else None


def _tensor(value: Any, item: _Input) -> Tensor | None:
    numbers = [value]
    for size in item.sizes:
        for part in numbers:
            if type(part) is not list or len(part) != size:
                return None
        numbers = numbers[0] if len(numbers) == 1 else list(chain.from_iterable(numbers))
    if not item.floats and set(map(type, numbers)) != {int}:
        return None
    array = item.pack(numbers)
    return None if array is None else Tensor(item.name, item.dtype, item.shape, array)


def _recipe(plan: Plan) -> _Recipe:
    inputs = [_input(item) for item in plan.inputs]
    known = tuple([item for item in inputs if item is not None])
    return _Recipe(plan, known if known and len(known) == len(inputs) else None)


def _input(item: InputPlan) -> _Input | None:
    spec, row, axis = item.spec, item.row, item.axis
    sizes = tuple([dim for dim in row or () if isinstance(dim, int) and dim > 0])
    if row is None or len(sizes) < len(row) or axis:
        return None
    shape = sizes if axis is None else (1, *sizes)
    packer = plain_numbers.packer(shape, spec.dtype)
    if packer is None or spec.dtype.numpy is None:
        return None
    floats = element_count(sizes) if spec.dtype.numpy.kind == "f" else 0
    return _Input(spec.name, spec.dtype, sizes, shape, floats, packer.pack)


class _Answer(NamedTuple):
    """What stands before each output of an instance, and which that is; True if axis 0 is its row.

    ``outputs`` is empty where an axis must be moved.
    """

    description: Description
    outputs: tuple[tuple[bytes, int, bool], ...]


_answers: dict[int, _Answer] = {}


def write(outcomes: Sequence[Outcome], description: Description) -> bytes | None:
    """Return the answer for instances of which all outputs are numbers, None for others."""
    outputs = starts(description)
    rows = []
    for outcome in outcomes:
        row = None if isinstance(outcome, ServingError) else _row(outcome.outputs, outputs)
        if row is None:
            return None
        rows.append(row)
    return b'{"instances":[%b]}' % b",".join(rows)


def starts(description: Description) -> tuple[tuple[bytes, int, bool], ...]:
    """Return what stands before each output of an instance, and the rest as ``_Answer`` has it."""
    answer = _answers.get(id(description))
    if answer is None or answer.description is not description:
        if len(_answers) >= _MOST_DESCRIPTIONS:
            _answers.clear()
        answer = _answers[id(description)] = _answer(description)
    return answer.outputs


def _row(tensors: Sequence[Tensor], outputs: tuple[tuple[bytes, int, bool], ...]) -> bytes | None:
    if not outputs or len(tensors) != len(outputs):
        return None
    row = b""
    for start, place, is_row in outputs:
        array = tensors[place].array
        if array is None or not array.size or tensors[place].dtype is BF16:
            return None
        if array.dtype.kind == "f" and array.dtype.itemsize < 8:
            array = array.astype("<f8")
        if not is_row:
            row += start + json_answer.dumps(json_answer.plain(array))
        elif len(array) == 1:
            row += start + json_answer.dumps(array[0])
        else:
            return None
    return row + b"}"


def _answer(description: Description) -> _Answer:
    plan = plan_for(description)
    if any(output.axis for output in plan.outputs.values()):
        return _Answer(description, ())
    places = {spec.name: place for place, spec in enumerate(description.signature.outputs)}
    outputs = []
    before = b"{"
    for name in sorted(places):
        start = before + json_answer.dumps(name) + b":"
        outputs.append((start, places[name], plan.outputs[name].axis == 0))
        before = b","
    return _Answer(description, tuple(outputs))
