"""Runs one stage's function on instances: alone or many at a time, and one's failure is one's own.

Called by stage workers, for one run at a time. Whatever a function raises (GeneratorExit and
CancelledError, too) is the failure of its instance and never the worker's end. A function that
cannot take a batch as a whole is called again for each of its instances: a bad one must not fail
what happened to wait beside it.
"""

from __future__ import annotations

import itertools
import sys
import traceback
from types import TracebackType
from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np

from serving.definition import Function
from serving.register.values import Unfit, from_python, to_python
from serving.tensor import Tensor

Instance = Tuple[Tensor, ...]
Outcome = Union[Instance, str]
"""What the function gave for an instance, or the text of its failure."""

_NO_SCALAR = "only 0-dimensional arrays can be converted to Python scalars"
_NO_SCALAR_FIX = (
    " (clients send a number as an array of one element, and int() and float() of it end like this "
    "from numpy 2.4 on: write x.item(), or install an older numpy for this servable)"
)


def run(
    function: Function,
    call: Callable[..., Any],
    servable: str,
    instances: Sequence[Instance],
) -> List[Outcome]:
    """Return an outcome for each instance, in order; never raises for what the function does."""
    stage = _Stage(function, call, f"{servable}.{function.name}", copy=len(instances) > 1)
    if function.batch_size is None:
        return [stage.alone(instance) for instance in instances]
    return stage.together(instances)


class _Stage:
    """A function and how its answers are read.

    ``copy`` is set where several instances share a run: a function may fill one buffer again and
    again, and its answers are read when all are there.
    """

    def __init__(
        self, function: Function, call: Callable[..., Any], title: str, copy: bool
    ) -> None:
        self._outputs = function.outputs
        self._call = call
        self._title = title
        self._copy = copy

    def alone(self, instance: Instance) -> Outcome:
        """Call the function with one instance's values."""
        try:
            return self._outcome(self._call(*map(to_python, instance)))
        except BaseException as error:
            return self._failure(error)

    def together(self, instances: Sequence[Instance]) -> List[Outcome]:
        """Call the function with a tuple of instances; it returns a list, or yields."""
        outcomes: List[Outcome] = []
        count = len(instances)
        try:
            answers = self._call(tuple(tuple(map(to_python, i)) for i in instances))
            for answer in itertools.islice(self._each(answers, count), count):
                outcomes.append(self._outcome(answer))
        except BaseException as error:
            failure = self._failure(error)
        else:
            if len(outcomes) == count:
                return outcomes
            failure = self._wrong_number(len(outcomes), count)
            outcomes = []  # one may have been left out in the middle: nobody knows whose these are
        if count == 1:
            return [failure]
        rest = instances[len(outcomes) :]
        return outcomes + [outcome for one in rest for outcome in self.together([one])]

    def _each(self, answers: Any, count: int) -> Iterator[Any]:
        """Iterate over a batch's answers.

        A generator is not asked for more than there are instances: those that never end are fine.
        """
        if isinstance(answers, (tuple, list)) or (
            isinstance(answers, np.ndarray) and answers.ndim > 0
        ):
            if len(answers) != count:
                raise Unfit(self._wrong_number(len(answers), count))
            return iter(answers)
        if hasattr(answers, "__next__"):
            return iter(answers)
        raise Unfit(
            f"function '{self._title}' has 'batch_size' and returned {type(answers).__name__}; it "
            "must yield, or return a list of, the outputs of each instance"
        )

    def _outcome(self, answer: Any) -> Outcome:
        values = answer if isinstance(answer, (tuple, list)) else (answer,)
        if len(values) != self._outputs:
            return (
                f"The outputs number {len(values)} of one instance returned by function "
                f"'{self._title}' is not equal to the outputs number {self._outputs} registered"
            )
        try:
            return tuple(self._value(value) for value in values)
        except Unfit as error:
            return f"function '{self._title}' returned {error}"

    def _value(self, value: Any) -> Tensor:
        tensor = from_python(value)
        if self._copy and tensor.array is not None:
            tensor.array = tensor.array.copy()
        return tensor

    def _wrong_number(self, given: int, expected: int) -> str:
        return (
            f"The number {given} of instances returned by function '{self._title}' is not equal to "
            f"the number {expected} of instances provided to this function."
        )

    def _failure(self, error: BaseException) -> str:
        """Return the text for the client; the log of the worker gets the lines of code."""
        if isinstance(error, Unfit):
            return str(error)
        _log(self._title, error)
        if isinstance(error, SystemExit):
            return f"the function left with sys.exit({error.code!r})"
        return _text(error)


def _text(error: BaseException) -> str:
    """Return what an exception says, or else its name: some cannot be turned into text."""
    try:
        said = str(error) or type(error).__name__
        return said + _NO_SCALAR_FIX if said == _NO_SCALAR else said
    except Exception:
        return type(error).__name__


def _log(title: str, error: BaseException) -> None:
    theirs = _after_this_file(error.__traceback__)
    lines = traceback.format_exception(type(error), error, theirs)
    sys.stderr.write(f"function '{title}' failed\n" + "".join(lines))
    sys.stderr.flush()


def _after_this_file(trace: Optional[TracebackType]) -> Optional[TracebackType]:
    """Leave out the lines of this file, which tell the user nothing."""
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace
