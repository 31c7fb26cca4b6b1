"""Loads and unloads with NVIDIA's own V2 client and prints as JSON what it was told.

    python triton_control_calls.py http|grpc HOST:PORT TOKEN MODEL.onnx

A program of its own: the client brings stubs for the same protobuf package as the server's.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.utils import InferenceServerException


def main() -> None:
    """Call in the order in which an operator would."""
    kind, address, token, file = sys.argv[1:]
    module = importlib.import_module(f"tritonclient.{kind}")
    client = module.InferenceServerClient(address)
    headers = {"authorization": f"Bearer {token}"}

    def index() -> list[list[str]]:
        rows: Any = client.get_model_repository_index()
        if kind == "grpc":
            rows = [{f: getattr(m, f) for f in ("name", "version", "state")} for m in rows.models]
        return [[r["name"], r["version"], r["state"]] for r in rows]

    def tag() -> float:
        tensor = module.InferInput("x", [1], "FP32")
        tensor.set_data_from_numpy(np.zeros(1, np.float32))
        return float(client.infer("m", [tensor]).as_numpy("tag")[0])

    def refused(call: Any, *args: Any, **how: Any) -> str:
        try:
            call(*args, **how)
        except InferenceServerException as error:
            return str(error.message())
        raise AssertionError(f"{call.__name__}{args} was not refused")

    told: dict[str, Any] = {"before": index()}
    told["no token"] = refused(client.load_model, "m")
    client.load_model("m", headers=headers)
    told["loaded"], told["tag"] = index(), tag()
    told["unknown"] = refused(client.load_model, "mm", headers=headers)
    files = {"file:7/model.onnx": Path(file).read_bytes()}
    config = json.dumps({"max_batch_size": 3})
    client.load_model("m", headers=headers, config=config, files=files)
    told["overridden"], told["overridden tag"] = index(), tag()
    found = client.get_model_config("m")
    told["batch"] = found["max_batch_size"] if kind == "http" else found.config.max_batch_size
    told["escape"] = refused(
        client.load_model, "m", headers=headers, config=config, files={"file:1/../x": b"x"}
    )
    told["garbage"] = refused(
        client.load_model, "m", headers=headers, config=config, files={"file:8/model.onnx": b"x"}
    )
    told["after garbage"] = tag()
    client.unload_model("m", headers=headers)
    told["unloaded"] = index()
    told["no token to unload"] = refused(client.unload_model, "m")
    client.load_model("m", headers=headers)
    told["again"] = tag()
    client.unload_model("m", headers=headers)
    client.close()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
