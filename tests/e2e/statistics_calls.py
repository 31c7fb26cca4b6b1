"""Asks a server for its statistics with NVIDIA's own V2 client and prints them as JSON.

    python statistics_calls.py http|grpc HOST:PORT MODEL

A program of its own, as ``triton_calls`` is: one process cannot hold the client's messages and
the server's. Prints those of all models, of one, of its version 1, and a refusal's status.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

from tritonclient.utils import InferenceServerException


def main() -> None:
    """Ask, print."""
    kind, address, model = sys.argv[1:]
    client = importlib.import_module(f"tritonclient.{kind}").InferenceServerClient(address)
    form: dict[str, Any] = {} if kind == "http" else {"as_json": True}
    told = {
        "all": client.get_inference_statistics(**form),
        "one": client.get_inference_statistics(model, **form),
        "version": client.get_inference_statistics(model, "1", **form),
    }
    try:
        client.get_inference_statistics("no-such-model", **form)
    except InferenceServerException as error:
        told["unknown"] = error.status()
    client.close()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
