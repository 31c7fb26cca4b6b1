"""What the server says once it is ready: where it listens, what it serves, how to call it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from serving.config import ServerSettings
from serving.dataplane import DataPlane
from serving.request import Description
from serving.tensor import BF16, BOOL, TensorSpec

_LONGEST_EXAMPLE = 160


def banner(
    settings: ServerSettings, rest_port: int, grpc_port: int, plane: DataPlane, took_s: float
) -> Iterator[str]:
    """Yield the lines for people, in order."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    rows = plane.servables()
    up = [row for row in rows if row["state"] == "READY"]
    for row in rows:
        title = row["name"] if row["version"] is None else f"{row['name']} version {row['version']}"
        if row["state"] == "READY":
            description = plane.describe(row["name"], row["version"])
            yield f"serves {title}: {_signature(description)}"
        else:
            yield f"does not serve {title}: {row['reason']}"
    if not rows:
        yield "the model directory is empty: put a folder <name>/1/model.onnx into it"
    yield f"REST http://{host}:{rest_port}  (people: / and /docs)"
    yield f"gRPC {host}:{grpc_port}"
    if up:
        yield f"try: {example(plane.describe(up[0]['name']), f'http://{host}:{rest_port}')}"
    yield f"ready after {took_s:.1f} s, {len(up)} of {len(rows)} versions serve"


def example(description: Description, base: str) -> str:
    """Return a command line that calls a servable, or one that describes it if that is long."""
    inputs = description.signature.inputs
    axes = description.batch.inputs if description.batch.batched else (None,) * len(inputs)
    instance = {s.name: _value(s, axis) for s, axis in zip(inputs, axes, strict=True)}
    body = json.dumps({"servable": description.servable, "instances": [instance]})
    if len(body) > _LONGEST_EXAMPLE or any("'" in s.name for s in inputs):
        return f"curl {base}/v2/models/{description.servable}"
    return f"curl {base}/predict -d '{body}'"


def _signature(description: Description) -> str:
    signature = description.signature
    inputs = ", ".join(f"{s.name} {s.text()}" for s in signature.inputs)
    outputs = ", ".join(f"{s.name} {s.text()}" for s in signature.outputs)
    batch = description.batch
    how = f"batched up to {description.max_batch_size}" if batch.batched else "not batched"
    return f"{inputs} -> {outputs} ({description.details['backend']}, {how})"


def _value(spec: TensorSpec, axis: int | None) -> Any:
    dims = spec.shape or ()
    sizes = [d if isinstance(d, int) and d >= 0 else 1 for i, d in enumerate(dims) if i != axis]
    value: Any = 0
    if spec.dtype.is_bytes:
        value = "text"
    elif spec.dtype is BOOL:
        value = True
    elif spec.dtype is BF16 or (spec.dtype.numpy is not None and spec.dtype.numpy.kind == "f"):
        value = 0.5
    for size in reversed(sizes):
        value = [value] * min(size, _LONGEST_EXAMPLE)
    return value
