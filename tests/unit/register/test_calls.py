"""``Model.call``: both forms, and what is said where it cannot be answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from serving.register import Model
from serving.register.calls import CallFailed, Instances, set_caller
from serving.register.values import from_python, to_python


@pytest.fixture(autouse=True)
def nobody_afterwards() -> Iterator[None]:
    yield
    set_caller(None)


def adding(key: str, subgraph: int, instances: Instances) -> Instances:
    assert key == "m.mindir"
    sums = [sum(map(to_python, instance)) + subgraph for instance in instances]
    return [(from_python(total),) for total in sums]


def adding_and_counting(key: str, subgraph: int, instances: Instances) -> Instances:
    count = from_python(len(instances))
    return [(*answer, count) for answer in adding(key, subgraph, instances)]


def test_call_of_one_instance_returns_its_output() -> None:
    set_caller(adding)
    answer = Model("m.mindir").call(np.array([1.0, 2.0]), 3)
    assert answer.tolist() == [4.0, 5.0]
    assert Model("m.mindir").call(1, subgraph=1) == 2


def test_call_of_one_instance_returns_several_outputs_as_a_tuple() -> None:
    set_caller(adding_and_counting)
    total, count = Model("m.mindir").call(1, 2)
    assert (total, count) == (3, 1)


@pytest.mark.parametrize("outer", [list, tuple])
@pytest.mark.parametrize("inner", [list, tuple])
def test_call_of_many_returns_a_tuple_of_tuples(outer: Any, inner: Any) -> None:
    set_caller(adding_and_counting)
    answer = Model("m.mindir").call(outer(inner(pair) for pair in ((1, 2), (3, 4), (5, 6))))
    assert answer == ((3, 3), (7, 3), (11, 3))
    assert type(answer) is tuple
    assert type(answer[0]) is tuple


def test_call_of_no_instances_asks_nobody() -> None:
    set_caller(lambda *_: pytest.fail("asked"))
    assert Model("m.mindir").call([]) == ()


def test_call_outside_of_a_stage_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"Model\(m.mindir\).call\(\) failed: models are there "):
        Model("m.mindir").call(1)


def failing(key: str, subgraph: int, instances: Instances) -> Instances:
    raise CallFailed("Given model input 0 size 32 not match the size 16 defined in model")


WRONG: list[tuple[Any, dict[str, Any], str]] = [
    ((), {}, "Model(m.mindir).call() failed: no inputs provided, the inputs can be call(x1, x2)"),
    (([1, 2],), {}, "Model(m.mindir).call() failed: inputs format invalid, the inputs can be call"),
    ((1,), {"subgraph": -1}, "Parameter 'subgraph' should be >= 0"),
    ((1,), {"subgraph": True}, "Parameter 'subgraph' should be int"),
    ((None,), {}, "Model(m.mindir).call() failed: it was given None (a 'return' may be missing)"),
    ((1,), {}, "Model(m.mindir).call() failed: Given model input 0 size 32 not match the size 16"),
    ((1,), {"subgraph": 2}, "Model(m.mindir ,subgraph=2).call() failed: Given model input 0 size"),
]


@pytest.mark.parametrize(("arguments", "how", "text"), WRONG)
def test_call_says_why_it_failed(arguments: Any, how: dict[str, Any], text: str) -> None:
    set_caller(failing)
    with pytest.raises(RuntimeError) as caught:
        Model("m.mindir").call(*arguments, **how)
    assert str(caught.value).startswith(text)


def test_call_that_loses_an_instance_fails() -> None:
    set_caller(lambda key, subgraph, instances: instances[1:])
    with pytest.raises(RuntimeError, match="1 instances came back for 2"):
        Model("m.mindir").call([[1], [2]])
