"""What the server says once it is ready: where it listens, what it serves, how to call it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from serving.config import ServerSettings
from serving.frontends.example_call import one_line
from serving.lifecycle.state import State
from serving.master.plane import MasterPlane
from serving.request import Description


def banner(
    settings: ServerSettings, rest_port: int, grpc_port: int, plane: MasterPlane, took_s: float
) -> Iterator[str]:
    """Yield the lines for people, in order."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    secure = settings.tls_cert is not None
    rest = f"{'https' if secure else 'http'}://{host}:{rest_port}"
    rows = plane.listed()
    up = [row for row in rows if row["state"] == "READY"]
    yield from serves(plane)
    if not rows:
        yield "the model directory is empty: put a folder <name>/1/model.onnx into it"
    yield f"REST {rest}  (people: / and /docs)"
    yield f"gRPC {host}:{grpc_port}{' (TLS)' if secure else ''}"
    if up:
        name, version = up[0]["name"], up[0]["version"]
        first = plane.describe(name, version, next(iter(plane.methods(name, version)), None))
        yield f"try: {one_line(first, rest, settings.model_dir)}{_shown(settings)}"
    failed = sum(row["state"] == State.FAILED.value for row in rows)
    yield f"ready after {took_s:.1f} s, {len(up)} of {len(rows)} versions serve" + (
        f"; the errors above say why {failed} cannot" if failed else ""
    )


def serves(plane: MasterPlane) -> Iterator[str]:
    """Yield a line for each version: what it takes and gives, or why it is not served.

    Of those that failed there is none: when they did, an error in the log said so and why.
    """
    for row in plane.listed():
        title = row["name"] if row["version"] is None else f"{row['name']} version {row['version']}"
        if row["state"] == "READY":
            name, version = row["name"], row["version"]
            if methods := plane.methods(name, version):
                told = (_call(plane.describe(name, version, method)) for method in methods)
                yield f"serves {title}: {', '.join(told)}"
            else:
                yield f"serves {title}: {_signature(plane.describe(name, version))}"
        elif row["state"] != State.FAILED.value:
            yield f"does not serve {title}: {row['reason']}"


def _shown(settings: ServerSettings) -> str:
    """Return what a curl command has behind it where the server asks for a token."""
    file = settings.client_token_file
    if file is None:
        return ""
    return f' -H "Authorization: Bearer $(cat {shlex.quote(str(file))})"'


def _call(description: Description) -> str:
    """Return ``method(x, y)``."""
    inputs = ", ".join(spec.name for spec in description.signature.inputs)
    return f"{description.method}({inputs})"


def _signature(description: Description) -> str:
    signature = description.signature
    inputs = ", ".join(f"{s.name} {s.text()}" for s in signature.inputs)
    outputs = ", ".join(f"{s.name} {s.text()}" for s in signature.outputs)
    batch = description.batch
    how = f"batched up to {description.max_batch_size}" if batch.batched else "not batched"
    return f"{inputs} -> {outputs} ({description.details['backend']}, {how})"
