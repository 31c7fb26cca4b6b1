"""Whether inputs whose first axes have names of their own must bring equally many rows after all.

Two towers exported together, one for pictures and one for texts, take as many of each as their
caller likes. Were the rows of both one batch, a caller with other numbers would be refused.
"""

from __future__ import annotations

from typing import Iterator

import onnx

from serving.formats.batch_axis.claim import numbered_axes
from serving.formats.batch_axis.step import Refusal


def check_ties(graph: onnx.GraphProto) -> None:
    """Raise ``Refusal`` where an output is made without one of several axes of other names."""
    axes = numbered_axes(graph)
    wanted = frozenset(axes.values())
    if len(wanted) < 2:
        return
    made_of = {name: frozenset((axis,)) for name, axis in axes.items()}
    for node in graph.node:
        given = [made_of.get(name, frozenset()) for name in _read(node)]
        made_of.update(dict.fromkeys(node.output, frozenset().union(*given)))
    for output in graph.output:
        if made_of.get(output.name, frozenset()) != wanted:
            told = " and ".join(f"'{axis}' ({name})" for name, axis in axes.items())
            raise Refusal(
                f"the inputs name their first axes differently: {told}; output '{output.name}' is "
                "not made of all of them, so their lengths may differ"
            )


def _read(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names that a node reads, and those that graphs inside it do."""
    yield from node.input
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
            for inner in graph.node:
                yield from _read(inner)
            yield from (output.name for output in graph.output)
