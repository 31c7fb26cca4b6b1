"""``declare_model``, and the ``Model`` that stages and functions use."""

from __future__ import annotations

import logging
from typing import Any, List, NoReturn, Optional, Tuple, Union

from serving.definition import DeclaredModel
from serving.register import checks, registry
from serving.register.calls import call, title
from serving.register.context import AclOptions, Context, GpuOptions

_LOG = logging.getLogger(__name__)

_FORMATS = ("om", "mindir", "mindir_opt", "mindir_lite", "onnx")
Indices = Union[int, List[int], Tuple[int, ...]]


class Model:
    """A declared model; made by ``declare_model`` only."""

    def __init__(self, model_key: str) -> None:
        self.model_key = model_key

    def __call__(self, *_args: Any, **_named: Any) -> NoReturn:
        """Say how a model is run, which is not as a function."""
        raise RuntimeError(
            f"Model({self.model_key})() failed: a model is no function. "
            "register.add_stage(model, x, outputs_count=1) makes it a stage of a method; "
            "model.call(x) runs it from inside of a stage's function."
        )

    def call(self, *args: Any, subgraph: int = 0) -> Any:
        """Run the model from inside of a stage's function, and wait for its answer.

        ``call(x1, x2)`` takes one instance's inputs and returns its output, or a tuple of them.
        ``call([[x1, x2], ...])`` takes any number of instances and returns a tuple with a tuple
        of outputs for each. Raises RuntimeError.
        """
        checks.integer("subgraph", subgraph, 0)
        failed = f"{title(self.model_key, subgraph)} failed:"
        forms = "call(x1, x2) for single instance or call([[x1, x2], [x1, x2]]) for multi instances"
        if not args:
            raise RuntimeError(f"{failed} no inputs provided, the inputs can be {forms}.")
        if len(args) > 1 or not isinstance(args[0], (tuple, list)):
            outputs = call(self.model_key, subgraph, [args])[0]
            return outputs[0] if len(outputs) == 1 else outputs
        if not all(isinstance(instance, (tuple, list)) for instance in args[0]):
            raise RuntimeError(f"{failed} inputs format invalid, the inputs can be {forms}.")
        return call(self.model_key, subgraph, args[0])


def declare_model(
    model_file: Union[str, List[str], Tuple[str, ...]],
    model_format: str,
    with_batch_dim: bool = True,
    options: Union[AclOptions, GpuOptions, None] = None,
    without_batch_dim_inputs: Optional[Indices] = None,
    context: Optional[Context] = None,
    config_file: Optional[str] = None,
) -> Model:
    """Declare a model of the servable's version folder; a list of files is one with subgraphs.

    ``model_format`` is OM, MindIR, MindIR_Opt, MindIR_Lite or ONNX, in any case. With
    ``with_batch_dim`` axis 0 of all inputs and outputs counts rows, but for the inputs numbered in
    ``without_batch_dim_inputs``. ``context`` says how to run it on which device (``options`` is
    its old form), ``config_file`` names a file for the engine, relative to the servable's folder.
    Raises RuntimeError.
    """
    checks.flag("with_batch_dim", with_batch_dim)
    files = checks.texts("model_file", model_file)
    shared: Tuple[int, ...] = ()
    if without_batch_dim_inputs is not None:
        shared = checks.integers("without_batch_dim_inputs", without_batch_dim_inputs, 0)
    lowered = checks.text("model_format", model_format).lower()
    if lowered not in _FORMATS:
        raise RuntimeError(
            "model format can only be OM, MindIR or MindIR_Lite, case ignored (and MindIR_Opt or "
            f"ONNX), but given '{model_format}'"
        )
    chosen = _context(context, options)
    model = DeclaredModel(
        files,
        lowered,
        with_batch_dim,
        shared,
        {} if chosen is None else chosen.to_json(),
        "" if config_file is None else checks.text("config_file", config_file),
    )
    handle = Model(model.key)
    registry.current().add_model(model, handle)
    return handle


def _context(context: Any, options: Any) -> Optional[Context]:
    if context is not None:
        if not isinstance(context, Context):
            raise RuntimeError(f"Parameter 'context' should be Context, but gotten {type(context)}")
        if options is not None:
            _LOG.warning("'options' is ignored beside 'context'")
        return context
    if options is None:
        return None
    if not isinstance(options, (AclOptions, GpuOptions)):
        raise RuntimeError(
            "Parameter 'options' should be None, GpuOptions or AclOptions, but gotten "
            f"{type(options)}"
        )
    return options.context
