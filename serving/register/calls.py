"""``Model.call`` inside of a stage's function: values to tensors, to whoever runs models, and back.

A stage worker sets the caller, which asks the master and waits; nobody else does, so that calling a
model while ``servable_config.py`` is imported is refused.
"""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Sequence, Tuple

from serving.register.values import Unfit, from_python, to_python
from serving.tensor import Tensor

Instances = List[Tuple[Tensor, ...]]
Caller = Callable[[str, int, Instances], Instances]
"""Takes a model's key, a subgraph and instances; answers each, in order, with values that are the
function's to keep. Raises CallFailed."""


class CallFailed(Exception):
    """The model did not answer; the text is for the function that called."""


_caller: Optional[Caller] = None


def set_caller(caller: Optional[Caller]) -> None:
    """Say who runs models from now on; None for nobody."""
    global _caller
    _caller = caller


def call(
    model_key: str, subgraph: int, instances: Sequence[Sequence[Any]]
) -> Tuple[Tuple[Any, ...], ...]:
    """Run instances, however many, through a model. Raises RuntimeError with the reason."""
    try:
        if _caller is None:
            raise CallFailed("models are there for stages only, while a request is answered")
        given = [tuple(from_python(value) for value in instance) for instance in instances]
        answers = _caller(model_key, subgraph, given) if given else []
        if len(answers) != len(given):
            raise CallFailed(f"{len(answers)} instances came back for {len(given)}")
    except Unfit as error:
        raise RuntimeError(f"{title(model_key, subgraph)} failed: it was given {error}") from None
    except CallFailed as error:
        raise RuntimeError(f"{title(model_key, subgraph)} failed: {error}") from None
    return tuple(tuple(to_python(tensor, copy=False) for tensor in answer) for answer in answers)


def title(model_key: str, subgraph: int) -> str:
    """Return how errors of MindSpore Serving name such a call."""
    part = f" ,subgraph={subgraph}" if subgraph else ""
    return f"Model({model_key}{part}).call()"
