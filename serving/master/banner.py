"""What the server says once it is ready: where it listens, what it serves, how to call it."""

from __future__ import annotations

from collections.abc import Iterator

from serving.config import ServerSettings
from serving.dataplane import DataPlane
from serving.frontends.example_call import one_line
from serving.request import Description


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
        first = plane.describe(up[0]["name"])
        yield f"try: {one_line(first, f'http://{host}:{rest_port}', settings.model_dir)}"
    yield f"ready after {took_s:.1f} s, {len(up)} of {len(rows)} versions serve"


def _signature(description: Description) -> str:
    signature = description.signature
    inputs = ", ".join(f"{s.name} {s.text()}" for s in signature.inputs)
    outputs = ", ".join(f"{s.name} {s.text()}" for s in signature.outputs)
    batch = description.batch
    how = f"batched up to {description.max_batch_size}" if batch.batched else "not batched"
    return f"{inputs} -> {outputs} ({description.details['backend']}, {how})"
