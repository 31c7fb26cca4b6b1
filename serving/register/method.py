"""``register_method`` and ``add_stage``: a function that runs once, on placeholders.

What it does with them is the method's graph; loops and conditions run as they stand. Nothing of it
runs when a request is answered.
"""

from __future__ import annotations

import inspect
from typing import Any, Callable, List, Optional, Tuple, TypeVar, Union

from serving.definition import INPUTS, Kind, Method, Node, Ref
from serving.register import checks, registry
from serving.register.model import Model
from serving.register.placeholder import Placeholder

_F = TypeVar("_F", bound=Callable[..., Any])
_PLACEHOLDER = "is a placeholder for data and must come from the method inputs or the outputs of "
_WRAP = " (wrap it in a function: def stage(x): return ...)"
_FIXED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Draft:
    """The method that is being registered."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.name = function.__name__
        self.function = function
        self.inputs = _input_names(function)
        self.nodes: List[Node] = []
        self.called: List[str] = []

    def placeholders(self, node: int, count: int) -> Tuple[Placeholder, ...]:
        """Return what stands for the outputs of a node (or INPUTS)."""
        return tuple(Placeholder(self, Ref(node, index)) for index in range(count))

    def refs(self, values: Tuple[Any, ...], subject: str) -> Tuple[Ref, ...]:
        """Return where values come from. Raises RuntimeError for what is no placeholder."""
        for value in values:
            if not isinstance(value, Placeholder) or value.draft is not self:
                raise RuntimeError(
                    f"Each value {subject} {_PLACEHOLDER}add_stage, now is {type(value).__name__}"
                )
        return tuple(value.ref for value in values)


_draft: Optional[Draft] = None


def draft(caller: str) -> Draft:
    """Return the method that is being registered. Raises RuntimeError if none is."""
    if _draft is None:
        raise RuntimeError(
            f"{caller} can only be used in a function that is wrapped by register_method"
        )
    return _draft


def register_method(
    output_names: Union[str, Tuple[str, ...], List[str]],
) -> Callable[[_F], _F]:
    """Make a method of a function: its parameters are the inputs, ``output_names`` the outputs.

    The function is called once, here, with placeholders, which it may pass to ``add_stage`` and
    return. Raises RuntimeError.
    """
    if inspect.isfunction(output_names):
        raise RuntimeError(
            "Parameter 'output_names' should be str or tuple/list of str, but actually <class "
            f"'function'> (write @register_method(output_names=...) above {output_names.__name__})"
        )
    names = checks.texts("output_names", output_names)

    def register(function: _F) -> _F:
        global _draft
        _draft = made = Draft(function)
        try:
            returned = function(*made.placeholders(INPUTS, len(made.inputs)))
        finally:
            _draft = None
        if not isinstance(returned, (tuple, list)):
            returned = (returned,)
        returns = made.refs(tuple(returned), "returned")
        if len(returns) != len(names):
            raise RuntimeError(
                f"Method return output size {len(returns)} not match registered {len(names)}"
            )
        method = Method(made.name, made.inputs, names, tuple(made.nodes), returns)
        registry.current().add_method(method)
        return function

    return register


def add_stage(
    stage: Any,
    *args: Any,
    outputs_count: int,
    batch_size: Optional[int] = None,
    tag: Optional[str] = None,
) -> Any:
    """Add a stage to the method: a model, a function, or a built-in stage ("argmax_cpp").

    ``args`` are placeholders, as many as the stage has inputs. Returns a placeholder, or a tuple
    of ``outputs_count``. With ``batch_size`` (functions only) the function gets a tuple of
    instances, each a tuple of values, and yields or returns the outputs of each: at most
    ``batch_size`` of them, 0 leaves it to the server. ``tag`` is what errors call the
    stage. Raises RuntimeError.
    """
    method = draft("add_stage")
    label = "" if tag is None else checks.text("tag", tag)
    refs = method.refs(args, "of parameter *args")
    checks.integer("outputs_count", outputs_count, 1)
    if not refs:
        raise RuntimeError(
            f"Check failed in method '{method.name}', the inputs count of a stage cannot be 0"
        )
    kind, name = _stage(method.name, stage, len(refs), outputs_count, batch_size)
    node = Node(kind, name, refs, outputs_count, tag=label)
    method.nodes.append(node)
    outputs = method.placeholders(len(method.nodes) - 1, outputs_count)
    return outputs[0] if outputs_count == 1 else outputs


def _stage(
    method: str, stage: Any, inputs: int, outputs: int, batch_size: Optional[int]
) -> Tuple[Kind, str]:
    """Register what a stage runs; return what it is, and its name."""
    known = registry.current()
    failed = f"Check failed in method '{method}', the parameter 'stage' of add_stage must be "
    if isinstance(stage, Model):
        if not any(stage is handle for handle in known.handles):
            raise RuntimeError(
                f"{failed}function or Model returned by declare_model, and ensure that interface "
                "'declare_model' can take effect when importing servable_config.py by the serving "
                "server"
            )
        known.check_model(stage.model_key, inputs, outputs)
        return Kind.MODEL, stage.model_key
    if inspect.isfunction(stage) or inspect.ismethod(stage):
        _check_kind(stage, batch_size)
        if batch_size is None:
            _check_parameters(stage, inputs)
        else:
            checks.integer("batch_size", batch_size, 0)
        return Kind.FUNCTION, known.add_function(method, stage, inputs, outputs, batch_size)
    if isinstance(stage, str):
        known.check_builtin(method, stage, inputs, outputs)
        return Kind.BUILTIN, stage
    fix = "" if isinstance(stage, Placeholder) or not callable(stage) else _WRAP
    raise RuntimeError(
        f"{failed}function or Model returned by declare_model, now is {type(stage)}{fix}"
    )


def _check_kind(function: Callable[..., Any], batch_size: Optional[int]) -> None:
    """Refuse functions whose every call would fail."""
    name = function.__name__
    if inspect.iscoroutinefunction(function):
        raise RuntimeError(f"function {name} is async; stages are plain functions (write 'def')")
    if batch_size is None and inspect.isgeneratorfunction(function):
        raise RuntimeError(
            f"function {name} yields, which is for stages that get many instances at a time "
            "(return its outputs, or give add_stage a batch_size)"
        )


def _check_parameters(function: Callable[..., Any], inputs: int) -> None:
    signature = inspect.signature(function)
    try:
        signature.bind(*range(inputs))
    except TypeError:
        raise RuntimeError(
            f"function {function.__name__} input args count {len(signature.parameters)} not match "
            f"the count {inputs} registered in method"
        ) from None


def _input_names(function: Callable[..., Any]) -> Tuple[str, ...]:
    parameters = inspect.signature(function).parameters
    for name, parameter in parameters.items():
        if parameter.kind not in _FIXED:
            raise RuntimeError(
                f"'{function.__name__}' input {name} cannot be {parameter.kind.name} !"
            )
    if not parameters:
        raise RuntimeError(f"Method '{function.__name__}' has no inputs")
    return tuple(parameters)
