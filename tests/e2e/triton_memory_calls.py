"""Sends tensors in shared memory with NVIDIA's own V2 client; prints as JSON what it was told.

    python triton_memory_calls.py http|grpc HOST:PORT KEY

A program of its own, as ``triton_calls`` is. ``KEY`` is a prefix for the names of shared memory
objects; none of them is left. The server has the model ``double``: y = 2 x, FP32 [n, 4].
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from tritonclient.utils import InferenceServerException
from tritonclient.utils import shared_memory as shm

ROWS, SIZE = 3, 3 * 4 * 4
AT = 64


def refusal(call: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Any]:
    """Return status and text of the error that a call must meet."""
    try:
        told = call(*args, **kwargs)
    except InferenceServerException as error:
        return [error.status(), error.message()]
    raise AssertionError(f"{args} was answered: {told}")


class Session:
    """One client, and the objects that it shares."""

    def __init__(self, kind: str, address: str, key: str) -> None:
        self.module = importlib.import_module(f"tritonclient.{kind}")
        self.client = self.module.InferenceServerClient(address)
        self.told = {} if kind == "http" else {"as_json": True}
        self.key = key

    def input(self, size: int = SIZE, offset: int = 0, region: str = "in") -> Any:
        tensor = self.module.InferInput("x", [ROWS, 4], "FP32")
        tensor.set_shared_memory(region, size, offset)
        return tensor

    def output(self, size: int = SIZE, offset: int = 0) -> Any:
        wanted = self.module.InferRequestedOutput("y")
        wanted.set_shared_memory("out", size, offset)
        return wanted

    def status(self) -> Any:
        found = self.client.get_system_shared_memory_status(**self.told)
        return found if isinstance(found, list) else list(found.get("regions", {}).values())


def calls(session: Session) -> dict[str, Any]:
    """Make every call once."""
    client, key, told = session.client, session.key, {}
    rows = np.arange(ROWS * 4, dtype=np.float32).reshape(ROWS, 4)
    # The name with a slash and the one without are the same object.
    given = shm.create_shared_memory_region("in", f"/{key}-in", AT + SIZE)
    taken = shm.create_shared_memory_region("out", f"{key}-out", AT + 2 * SIZE)
    try:
        shm.set_shared_memory_region(given, [rows], offset=AT)
        client.register_system_shared_memory("in", f"/{key}-in", SIZE, offset=AT)
        client.register_system_shared_memory("out", f"{key}-out", AT + 2 * SIZE)
        told["status"] = session.status()
        result = client.infer("double", [session.input()], outputs=[session.output(2 * SIZE, AT)])
        output = result.get_output("y")
        told["parameters"] = (
            output["parameters"]
            if isinstance(output, dict)
            else {
                name: value.string_param or value.int64_param
                for name, value in output.parameters.items()
            }
        )
        told["both"] = shm.get_contents_as_numpy(taken, np.float32, [ROWS, 4], AT).tolist()
        plain = client.infer("double", [session.input()])
        told["input"] = plain.as_numpy("y").tolist()
        tensor = session.module.InferInput("x", [ROWS, 4], "FP32")
        for factor in (1, 3):  # the second time the message is one that the server knows
            tensor.set_data_from_numpy(rows * factor)
            client.infer("double", [tensor], outputs=[session.output()])
            found = shm.get_contents_as_numpy(taken, np.float32, [ROWS, 4])
            told[f"output {factor}"] = found.tolist()
        infer = client.infer
        told["too far"] = refusal(infer, "double", [session.input(offset=4)])
        told["wrong size"] = refusal(infer, "double", [session.input(SIZE - 4)])
        told["unknown"] = refusal(infer, "double", [session.input(region="no-such")])
        small = [session.output(SIZE - 4)]
        told["too small"] = refusal(infer, "double", [session.input()], outputs=small)
        register = client.register_system_shared_memory
        told["twice"] = refusal(register, "in", f"/{key}-in", SIZE)
        told["no object"] = refusal(register, "other", f"/{key}-no-such", SIZE)
        told["too large"] = refusal(register, "other", f"/{key}-in", 1 << 20)
        told["cuda"] = refusal(client.get_cuda_shared_memory_status)
        client.unregister_cuda_shared_memory()
        client.unregister_cuda_shared_memory("no-such")
        client.unregister_system_shared_memory("in")
        told["left"] = [region["name"] for region in session.status()]
        told["unregistered"] = refusal(infer, "double", [session.input()])
        client.unregister_system_shared_memory()
        told["none left"] = session.status()
        told["extensions"] = client.get_server_metadata(**session.told)["extensions"]
    finally:
        shm.destroy_shared_memory_region(given)
        shm.destroy_shared_memory_region(taken)
        client.close()
    return told


if __name__ == "__main__":
    print(json.dumps(calls(Session(*sys.argv[1:]))))
