"""What a ``servable_config.py`` registers, held against its models and its settings; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from serving.definition import Definition, Kind, Method, Node
from serving.tensor import Signature, TensorSpec

Signatures = Mapping[tuple[str, int], Signature]
"""What models take and give, by key and subgraph; without those that only a device can read."""


def misfit(definition: Definition, signatures: Signatures, hidden: bool) -> str:
    """Say why a definition cannot be served with these models, or return ``""``.

    ``hidden``: the models themselves may be called, so that no method is needed.
    """
    if not definition.methods and not hidden:
        return (
            "servable_config.py registers no method: it only declares models (wrap a function with "
            "register_method, see docs/pipelines.md)"
        )
    for method in definition.methods:
        for node in method.nodes:
            signature = signatures.get((node.name, node.subgraph))
            if node.kind is Kind.MODEL and signature is not None:
                problem = _counts(method, node, signature)
                if problem:
                    return problem
    return ""


def _counts(method: Method, node: Node, signature: Signature) -> str:
    model = f"model '{node.name}'"
    if len(node.inputs) != len(signature.inputs):
        return (
            f"method '{method.name}' gives {model} {_inputs(len(node.inputs))}, and it takes "
            f"{_listed(signature.inputs)} (correct its add_stage in servable_config.py)"
        )
    if node.outputs != len(signature.outputs):
        return (
            f"method '{method.name}' says outputs_count={node.outputs} of {model}, which gives "
            f"{_listed(signature.outputs)} (correct its add_stage in servable_config.py)"
        )
    return ""


def _inputs(count: int) -> str:
    return "1 input" if count == 1 else f"{count} inputs"


def _listed(specs: Sequence[TensorSpec]) -> str:
    return f"{len(specs)}: {', '.join(f'{spec.name} {spec.text()}' for spec in specs)}"
