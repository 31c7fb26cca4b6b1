"""What people who have Triton's own client do with a model repository of theirs.

Run as a program: ``triton_repository_calls.py <host:REST port> <host:gRPC port>``; prints one JSON
object of answers, both protocols' side by side. It has a process of its own because Triton's stubs
and the server's cannot share one.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException


def infer(
    module: Any, client: Any, model: str, inputs: dict[str, np.ndarray], **more: Any
) -> dict[str, Any]:
    """Return every output as a list, with what the answer says of itself."""
    tensors = []
    for name, array in inputs.items():
        datatype = {"O": "BYTES", "i": "INT32", "f": "FP32"}[array.dtype.kind]
        tensor = module.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    answer = client.infer(model, tensors, **more)
    head = answer.get_response()
    if not isinstance(head, dict):
        head = {
            "model_version": head.model_version,
            "outputs": [{"name": o.name} for o in head.outputs],
        }
    outputs = {o["name"]: answer.as_numpy(o["name"]) for o in head["outputs"]}
    return {
        "version": head["model_version"],
        "shapes": {name: list(array.shape) for name, array in outputs.items()},
        **{name: plain(array) for name, array in outputs.items()},
    }


def plain(array: np.ndarray) -> list[Any]:
    if array.dtype.kind == "O":
        return [item.decode() for item in array.reshape(-1)]
    return list(array.reshape(-1).tolist())


def refusal(call: Any) -> str:
    try:
        call()
    except InferenceServerException as error:
        return str(error)
    return ""


def numbers(shape: list[int], start: int = 0) -> np.ndarray:
    return np.arange(start, start + int(np.prod(shape)), dtype=np.int32).reshape(shape)


def texts(array: np.ndarray) -> np.ndarray:
    return np.array([str(n).encode() for n in array.reshape(-1)], object).reshape(array.shape)


def ask(module: Any, client: Any) -> dict[str, Any]:
    one, many = numbers([1, 16]), numbers([20, 16])
    ones, manies = np.ones_like(one), np.full_like(many, 2)
    x = np.array([[3]], np.int32)
    return {
        "simple": infer(module, client, "simple", {"INPUT0": one, "INPUT1": ones}),
        "simple over the batch": infer(
            module, client, "simple", {"INPUT0": many, "INPUT1": manies}
        ),
        "simple one output": infer(
            module,
            client,
            "simple",
            {"INPUT0": one, "INPUT1": ones},
            outputs=[module.InferRequestedOutput("OUTPUT1")],
        ),
        "simple_string": infer(
            module, client, "simple_string", {"INPUT0": texts(one), "INPUT1": texts(ones)}
        ),
        "simple_identity": infer(
            module, client, "simple_identity", {"INPUT0": texts(numbers([2, 3]))}
        ),
        "dynamic": infer(module, client, "dynamic", {"x": np.ones((2, 5), np.float32)}),
        "dynamic other": infer(module, client, "dynamic", {"x": np.ones((3, 2), np.float32)}),
        "narrow": infer(module, client, "narrow", {"x": np.ones((2, 4), np.float32)}),
        "narrow refused": refusal(
            lambda: infer(module, client, "narrow", {"x": np.ones((2, 5), np.float32)})
        ),
        "labelled": infer(
            module,
            client,
            "labelled",
            {"x": np.array([[1, 3, 2], [9, 8, 7]], np.float32)},
            outputs=[module.InferRequestedOutput("y", class_count=2)],
        ),
        "labelled badly": refusal(
            lambda: infer(
                module,
                client,
                "simple_identity",
                {"INPUT0": texts(numbers([1, 2]))},
                outputs=[module.InferRequestedOutput("OUTPUT0", class_count=2)],
            )
        ),
        "asserted": infer(module, client, "asserted", {"x": numbers([2, 3]).astype(np.float32)}),
        "all": infer(module, client, "all", {"x": x}),
        "all 1": infer(module, client, "all", {"x": x}, model_version="1"),
        "all 2": infer(module, client, "all", {"x": x}, model_version="2"),
        "specific": infer(module, client, "specific", {"x": x}),
        "specific 3": refusal(
            lambda: infer(module, client, "specific", {"x": x}, model_version="3")
        ),
        "latest 1": refusal(lambda: infer(module, client, "latest", {"x": x}, model_version="1")),
        "latest 2": infer(module, client, "latest", {"x": x}, model_version="2"),
        "toml": infer(module, client, "toml", {"x": x}),
        "ready": {
            name: client.is_model_ready(name)
            for name in ("simple", "pipeline", "script", "typo", "mismatch")
        },
        "ready 3": client.is_model_ready("all", "3"),
        "pipeline": refusal(lambda: client.get_model_metadata("pipeline")),
    }


def main(rest: str, grpc: str) -> None:
    http_client = tritonclient.http.InferenceServerClient(rest)
    grpc_client = tritonclient.grpc.InferenceServerClient(grpc)
    http = ask(tritonclient.http, http_client)
    http["metadata"] = {n: http_client.get_model_metadata(n) for n in ("simple", "all", "narrow")}
    http["config"] = {
        n: http_client.get_model_config(n) for n in ("simple", "dynamic", "asserted", "toml")
    }
    http["config of a version"] = http_client.get_model_config("all", "2")
    second = ask(tritonclient.grpc, grpc_client)
    second["metadata"] = {
        n: grpc_client.get_model_metadata(n, as_json=True) for n in ("simple", "all", "narrow")
    }
    second["config"] = {
        n: grpc_client.get_model_config(n, as_json=True)["config"]
        for n in ("simple", "dynamic", "asserted", "toml")
    }
    http_client.close()
    grpc_client.close()
    print(json.dumps({"http": http, "grpc": second}))


if __name__ == "__main__":
    main(*sys.argv[1:])
