"""The methods that MindSpore Serving makes of every model: ``@call_<model>_<subgraph>``; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from serving.definition import INPUTS, Kind, Method, Node, Ref
from serving.scheduling.pipeline.port import Port
from serving.scheduling.pipeline.signature import PortKey


def hidden_methods(ports: Mapping[PortKey, Port]) -> Iterator[Method]:
    """Iterate over them: inputs ``x0``, ``x1``, ... go to the model, ``y0``, ... come out of it."""
    for (key, subgraph), port in ports.items():
        inputs = tuple(Ref(INPUTS, index) for index in range(len(port.input_rows)))
        count = len(port.output_rows)
        yield Method(
            f"@call_{key}_{subgraph}",
            tuple(f"x{index}" for index in range(len(inputs))),
            tuple(f"y{index}" for index in range(count)),
            (Node(Kind.MODEL, key, inputs, count, subgraph),),
            tuple(Ref(0, index) for index in range(count)),
        )
