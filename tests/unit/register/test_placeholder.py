"""Computing where there is nothing to compute with yet: the error says what a method is for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from serving import register
from serving.register import registry
from serving.register.registry import Registry


@pytest.fixture(autouse=True)
def opened() -> Iterator[Registry]:
    with registry.opened("shop") as found:
        yield found


def same(x: Any) -> Any:
    return x


def grows(x: Any) -> Any:
    x += 1
    return x


def chosen(x: Any) -> Any:
    return x if x else None


MISUSES: list[tuple[Callable[[Any], Any], str]] = [
    (lambda x: x + 1, "calculating with it"),
    (lambda x: 255 - x, "calculating with it"),
    (grows, "calculating with it"),
    (lambda x: -x, "calculating with it"),
    (lambda x: x > 0, "comparing it"),
    (lambda x: x == "cat", "comparing it"),
    (chosen, "a condition on it"),
    (lambda x: len(x), "its length"),
    (lambda x: x[0], "indexing it"),
    (lambda x: x(1), "calling it"),
    (lambda x: np.asarray(x), "converting it"),
    (lambda x: np.add(x, 1), "converting it"),
    (lambda x: float(x), "converting it"),
    (lambda x: x.astype("float32"), "'.astype'"),
    (lambda x: list(x), "unpacking it, or a loop over it,"),
]


@pytest.mark.parametrize(("misuse", "use"), MISUSES)
def test_placeholder_that_is_computed_with_says_where_that_belongs(
    misuse: Callable[[Any], Any], use: str
) -> None:
    def classify(image: Any) -> Any:
        return misuse(image)

    with pytest.raises((TypeError, AttributeError)) as caught:
        register.register_method("y")(classify)
    assert str(caught.value) == (
        "'image' is a placeholder in method 'classify', which runs once, at import, to say what "
        f"gets what: {use} belongs in a function that is given to add_stage"
    )


def test_placeholder_of_a_stage_is_called_by_what_gives_it() -> None:
    with pytest.raises(TypeError, match="^an output of 'same' is a placeholder in method 'm'"):

        @register.register_method("y")
        def m(x: Any) -> Any:
            return register.add_stage(same, x, outputs_count=1) * 2


def test_placeholder_of_one_output_says_how_several_are_asked_for() -> None:
    with pytest.raises(TypeError, match="cannot be unpacked .say outputs_count=2 or more"):

        @register.register_method(["a", "b"])
        def m(x: Any) -> Any:
            a, b = register.add_stage(same, x, outputs_count=1)
            return a, b


def test_placeholder_is_no_stage_and_is_not_called_one() -> None:
    with pytest.raises(RuntimeError, match="must be function or Model") as caught:
        register.register_method("y")(lambda x: register.add_stage(x, x, outputs_count=1))
    assert "wrap it" not in str(caught.value)


async def waits(x: Any) -> Any:
    return x


def yields(x: Any) -> Any:
    yield x


class Scale:
    def __call__(self, x: Any) -> Any:
        return x


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (waits, "function waits is async; stages are plain functions"),
        (yields, "function yields yields, which is for stages that get many instances at a time"),
        (Scale(), r"wrap it in a function: def stage\(x\): return \.\.\."),
        (np.argmax, r"wrap it in a function: def stage\(x\): return \.\.\."),
    ],
)
def test_stage_that_could_only_fail_is_refused_with_the_way_out(stage: Any, said: str) -> None:
    with pytest.raises(RuntimeError, match=said):
        register.register_method("y")(lambda x: register.add_stage(stage, x, outputs_count=1))


def test_method_without_parentheses_says_how_it_is_written() -> None:
    with pytest.raises(
        RuntimeError, match=r"write @register_method\(output_names=\.\.\.\) above s"
    ):
        register.register_method(same)  # type: ignore[arg-type]
