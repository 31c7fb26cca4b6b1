"""The registration of before MindSpore Serving 1.5: ``call_preprocess`` and its family.

Such a method has at most one pre-processing, one model and one post-processing, in this order, and
nothing says how many outputs each of them has: that is read off the left side of the assignment
in the method's source.
"""

from __future__ import annotations

import ast
import functools
import inspect
import logging
import textwrap
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

from serving.register import registry
from serving.register.context import AclOptions, GpuOptions
from serving.register.method import Draft, add_stage, draft
from serving.register.model import Indices, Model, declare_model

_LOG = logging.getLogger(__name__)

_PRE = ("call_preprocess", "call_preprocess_pipeline")
_MODEL = ("call_servable",)
_POST = ("call_postprocess", "call_postprocess_pipeline")
_ORDER = (_PRE, _MODEL, _POST)
_PLAIN = (ast.Assign, ast.Return, ast.Expr)


def declare_servable(
    servable_file: Union[str, List[str], Tuple[str, ...]],
    model_format: str,
    with_batch_dim: bool = True,
    options: Union[AclOptions, GpuOptions, None] = None,
    without_batch_dim_inputs: Optional[Indices] = None,
) -> Model:
    """Declare a model. Deprecated: use ``declare_model``."""
    _warn("declare_servable", "declare_model")
    return declare_model(
        servable_file, model_format, with_batch_dim, options, without_batch_dim_inputs
    )


def call_preprocess(preprocess_fun: Callable[..., Any], *args: Any) -> Any:
    """Add the function before the model. Deprecated: use ``add_stage``."""
    outputs = _outputs("call_preprocess")
    return add_stage(preprocess_fun, *args, outputs_count=outputs, tag="Preprocess")


def call_preprocess_pipeline(preprocess_fun: Callable[..., Any], *args: Any) -> Any:
    """Add the function before the model, for many instances. Deprecated: use ``add_stage``."""
    outputs = _outputs("call_preprocess_pipeline")
    return add_stage(preprocess_fun, *args, outputs_count=outputs, batch_size=0, tag="Preprocess")


def call_servable(*args: Any) -> Any:
    """Add the one model that is declared. Deprecated: use ``add_stage``."""
    handles = registry.current().handles
    if not handles:
        raise RuntimeError(
            "There is no model declared, you can use declare_model to declare models."
        )
    if len(handles) > 1:
        raise RuntimeError(
            "There are more than one servable declared when the interface 'call_servable' is used, "
            "use 'add_stage' to replace 'call_servable'"
        )
    return add_stage(handles[0], *args, outputs_count=_outputs("call_servable"))


def call_postprocess(postprocess_fun: Callable[..., Any], *args: Any) -> Any:
    """Add the function after the model. Deprecated: use ``add_stage``."""
    outputs = _outputs("call_postprocess")
    return add_stage(postprocess_fun, *args, outputs_count=outputs, tag="Postprocess")


def call_postprocess_pipeline(postprocess_fun: Callable[..., Any], *args: Any) -> Any:
    """Add the function after the model, for many instances. Deprecated: use ``add_stage``."""
    outputs = _outputs("call_postprocess_pipeline")
    return add_stage(postprocess_fun, *args, outputs_count=outputs, batch_size=0, tag="Postprocess")


def _outputs(name: str) -> int:
    """Note that a call was made, check its place, and return how many outputs it is to have."""
    _warn(name, "add_stage")
    method = draft(name)
    _check_order(method, name)
    method.called.append(name)
    counts = _assigned(method)
    if name not in counts:
        raise RuntimeError(_too_complex(method.name, name))
    return counts[name]


def _check_order(method: Draft, name: str) -> None:
    place = next(i for i, names in enumerate(_ORDER) if name in names)
    for before in method.called:
        position = next(i for i, names in enumerate(_ORDER) if before in names)
        if position == place:
            both = " or ".join(_ORDER[place])
            raise RuntimeError(
                f"Check failed in method '{method.name}', {both} should not be invoked more than "
                "once"
            )
        if position > place:
            later = " or ".join(_ORDER[position])
            raise RuntimeError(
                f"Check failed in method '{method.name}', {later} should be invoked after {name}"
            )


def _assigned(method: Draft) -> Dict[str, int]:
    """Return, for each of the family that the method's source assigns, to how many names."""
    source = textwrap.dedent(inspect.getsource(method.function))
    definition = ast.parse(source).body[0]
    counts: Dict[str, int] = {}
    assert isinstance(definition, (ast.FunctionDef, ast.AsyncFunctionDef))
    for statement in definition.body:
        if not isinstance(statement, _PLAIN):
            raise RuntimeError(_too_complex(method.name, method.called[-1]))
        called = _called(getattr(statement, "value", None))
        if isinstance(statement, ast.Assign) and called:
            target = statement.targets[0]
            counts[called] = len(target.elts) if isinstance(target, ast.Tuple) else 1
    return counts


def _called(value: Any) -> str:
    """Return the name of the function that an expression calls, if it is one of the family."""
    function = value.func if isinstance(value, ast.Call) else None
    name = getattr(function, "attr", getattr(function, "id", ""))
    return name if any(name in names for names in _ORDER) else ""


def _too_complex(method: str, name: str) -> str:
    return (
        f"Failed to parse method '{method}', complex statements such as conditions and loops are "
        f"not supported in register_method when the interface '{name}' is used, use 'add_stage' to "
        f"replace '{name}'"
    )


@functools.cache  # once for each is enough
def _warn(old: str, new: str) -> None:
    _LOG.warning("'%s' is deprecated, use '%s' instead", old, new)
