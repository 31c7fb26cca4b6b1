"""Running functions: alone, in batches, and with every kind of mistake."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from serving.definition import BUILTINS, Function
from serving.register.builtin import BUILTIN_CALLS
from serving.register.execution import Outcome, run
from serving.register.values import from_python, to_python

Calls = list[list[int]]


def alone(call: Callable[..., Any], *instances: tuple[Any, ...], outputs: int = 1) -> list[Any]:
    return outcomes(Function("f", len(instances[0]), outputs), call, instances)


def together(call: Callable[..., Any], *values: Any, outputs: int = 1) -> list[Any]:
    return outcomes(Function("f", 1, outputs, 8), call, [(value,) for value in values])


def outcomes(function: Function, call: Callable[..., Any], instances: Any) -> list[Any]:
    """Return what each instance gave: a Python value, a tuple of them, or the text of a failure."""
    given = [tuple(map(from_python, instance)) for instance in instances]
    return [_plain(outcome) for outcome in run(function, call, "shop", given)]


def _plain(outcome: Outcome) -> Any:
    if isinstance(outcome, str):
        return f"failed: {outcome}"
    values = [to_python(tensor) for tensor in outcome]
    plain = [v.tolist() if isinstance(v, np.ndarray) else v for v in values]
    return plain[0] if len(plain) == 1 else tuple(plain)


def test_function_is_called_for_each_instance() -> None:
    assert alone(lambda x, y: x + y, (1, 2), (3, 4)) == [3, 7]


def test_function_returns_several_values_as_tuple_or_list() -> None:
    assert alone(lambda x: (x, "a"), (1,), outputs=2) == [(1, "a")]
    assert alone(lambda x: [x, "a"], (1,), outputs=2) == [(1, "a")]


def test_failure_is_the_instances_own(capsys: pytest.CaptureFixture[str]) -> None:
    def pick(x: Any) -> Any:
        if x == 2:
            raise ValueError("two is out")
        return x

    assert alone(pick, (1,), (2,), (3,)) == [1, "failed: two is out", 3]
    told = capsys.readouterr().err
    assert "function 'shop.f' failed" in told
    assert "test_execution.py" in told
    assert "ValueError: two is out" in told
    assert 'execution.py", line' not in told.replace("test_execution.py", "")


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise TypeError("no text")


def _raise(error: BaseException) -> Any:
    raise error


FAILURES: list[tuple[Callable[[Any], Any], str]] = [
    (lambda x: _raise(ValueError()), "ValueError"),
    (lambda x: _raise(KeyError("k")), "'k'"),
    (lambda x: _raise(SystemExit(3)), "the function left with sys.exit(3)"),
    (lambda x: _raise(KeyboardInterrupt()), "KeyboardInterrupt"),
    (lambda x: _raise(StopIteration()), "StopIteration"),
    (lambda x: _raise(MemoryError()), "MemoryError"),
    (lambda x: _raise(GeneratorExit()), "GeneratorExit"),
    (lambda x: _raise(asyncio.CancelledError()), "CancelledError"),
    (lambda x: _raise(Unspeakable()), "Unspeakable"),
    (lambda x: None, "function 'shop.f' returned None (a 'return' may be missing), which is"),
    (lambda x: {"a": 1}, "function 'shop.f' returned an object of type dict"),
    (lambda x: [[1, 2], [3, 4]], "The outputs number 2 of one instance returned by function "
     "'shop.f' is not equal to the outputs number 1 registered"),
    (lambda x: [[1, "a"]], "function 'shop.f' returned a list that holds something else than"),
    (lambda x: (), "The outputs number 0 of one instance"),
    (lambda x: (yield x), "function 'shop.f' returned a generator"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "text"), FAILURES)
def test_mistakes_are_told_and_survived(call: Callable[[Any], Any], text: str) -> None:
    (told,) = alone(call, (1,))
    assert told.startswith(f"failed: {text}")


@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.4.0", reason="an older numpy converts it"
)
@pytest.mark.parametrize("convert", [int, float])
def test_number_of_a_client_that_is_converted_is_told_how_to(convert: Callable[[Any], Any]) -> None:
    (told,) = alone(convert, (np.array([5]),))
    assert told.startswith("failed: only 0-dimensional arrays can be converted")
    assert "write x.item()" in told


def test_batch_is_a_tuple_of_tuples() -> None:
    seen: list[Any] = []

    def keep(instances: Any) -> Any:
        seen.append([type(instances), *(type(i) for i in instances)])
        return [x + y for x, y in instances]

    function = Function("f", 2, 1, 0)
    assert outcomes(function, keep, [(1, 2), (3, 4)]) == [3, 7]
    assert seen == [[tuple, tuple, tuple]]


def test_batch_may_be_answered_in_any_form_of_sequence() -> None:
    def yielding(instances: Any) -> Any:
        for (x,) in instances:
            yield x * 2

    def array(instances: Any) -> Any:
        return np.stack([x for (x,) in instances]) * 2

    assert together(yielding, 1, 2, 3) == [2, 4, 6]
    assert together(array, 1, 2, 3) == [2, 4, 6]
    assert together(lambda i: tuple(x * 2 for (x,) in i), 1, 2, 3) == [2, 4, 6]
    assert together(lambda i: [(x, "a") for (x,) in i], 1, outputs=2) == [(1, "a")]


def test_generator_that_fails_fails_one_instance_and_keeps_what_it_gave() -> None:
    calls: Calls = []

    def thirteen(instances: Any) -> Any:
        calls.append([int(x) for (x,) in instances])
        for (x,) in instances:
            if x == 13:
                raise RuntimeError("thirteen")
            yield x

    assert together(thirteen, 1, 13, 3, 4) == [1, "failed: thirteen", 3, 4]
    assert calls == [[1, 13, 3, 4], [13], [3], [4]]


def test_function_that_fails_on_a_batch_is_asked_for_each() -> None:
    def strict(instances: Any) -> Any:
        if any(x > 10 for (x,) in instances):
            raise ValueError("too large")
        return [x for (x,) in instances]

    assert together(strict, 1, 20, 3) == [1, "failed: too large", 3]


def test_answers_of_a_wrong_number_are_given_to_nobody() -> None:
    def skipping(instances: Any) -> Any:
        for (x,) in instances:
            if x != 2:
                yield x

    told = "failed: The number 0 of instances returned by function 'shop.f' is not equal to the "
    assert together(skipping, 1, 2, 3) == [
        1, told + "number 1 of instances provided to this function.", 3,
    ]  # fmt: skip
    assert together(lambda i: [1, 2], 1) == [
        "failed: The number 2 of instances returned by function 'shop.f' is not equal to the "
        "number 1 of instances provided to this function."
    ]


def test_generator_that_never_ends_is_not_waited_for() -> None:
    def endless(instances: Any) -> Any:
        while True:
            yield 7

    assert together(endless, 1, 2) == [7, 7]


def test_value_that_is_none_fails_its_instance_only() -> None:
    def third_missing(instances: Any) -> Any:
        for (x,) in instances:
            yield None if x == 3 else x

    first, second, third = together(third_missing, 1, 2, 3)
    assert (first, second) == (1, 2)
    assert third.startswith("failed: function 'shop.f' returned None")


@pytest.mark.parametrize("answers", [None, 5, "abc", {"a": 1}, np.array(1)])
def test_batch_that_is_no_batch_is_told(answers: Any) -> None:
    (told,) = together(lambda i: answers, 1)
    assert told.startswith("failed: function 'shop.f' has 'batch_size' and returned ")
    assert "must yield, or return a list of, the outputs of each instance" in told


def test_one_buffer_for_all_answers_is_no_trap() -> None:
    buffer = np.zeros(1, np.int64)

    def fill(x: Any) -> Any:
        buffer[0] = x
        return buffer

    assert alone(fill, (1,), (2,)) == [[1], [2]]
    assert together(lambda i: (fill(x) for (x,) in i), 1, 2, 3) == [[1], [2], [3]]


def argmax(value: Any) -> Any:
    return outcomes(BUILTINS["argmax_cpp"], BUILTIN_CALLS["argmax_cpp"], [(value,)])[0]


def test_argmax_counts_over_all_elements() -> None:
    assert argmax(np.array([[1.0, 2.0], [9.0, 0.0]], np.float32)) == 2
    assert argmax(np.array([3, 7, 7], np.uint8)) == 1
    assert argmax(np.float16(2)) == 0


def test_argmax_is_a_64_bit_scalar() -> None:
    (outcome,) = run(
        BUILTINS["argmax_cpp"],
        BUILTIN_CALLS["argmax_cpp"],
        "shop",
        [(from_python(np.ones(3, np.int8)),)],
    )
    assert isinstance(outcome, tuple)
    assert (outcome[0].dtype.name, outcome[0].shape) == ("INT64", ())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.array([True, False]), "Argmax not support data type kMSI_Bool"),
        ("text", "Argmax not support data type kMSI_String"),
        (np.zeros(0, np.float32), "Argmax needs at least one element"),
    ],
)
def test_argmax_refuses_what_has_no_order(value: Any, text: str) -> None:
    assert argmax(value) == f"failed: {text}"


def test_every_builtin_has_its_call() -> None:
    assert set(BUILTINS) == set(BUILTIN_CALLS)
