"""Calls a server with NVIDIA's own V2 client and prints as JSON what it was told.

    python triton_calls.py http|http.aio|grpc|grpc.aio HOST:PORT ROWS.npz

A program of its own: the client brings stubs for the same protobuf package as the server's, and
one process cannot hold both. ``ROWS.npz`` holds ``image`` (for ``digits``) and ``text`` (for
``language``). Arrays are printed as ``[dtype, shape, hexadecimal bytes or strings]``.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import inspect
import json
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

PACKAGES = ("tritonclient", "grpcio", "protobuf", "aiohttp", "geventhttpclient", "numpy")


class Caller:
    """One client of one kind; calls of the asynchronous ones are awaited."""

    def __init__(self, kind: str, address: str) -> None:
        self.kind = kind
        self._module = importlib.import_module(f"tritonclient.{kind}")
        self._client = self._module.InferenceServerClient(address)
        self._http = kind.startswith("http")

    async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        answer = getattr(self._client, method)(*args, **kwargs)
        return await answer if inspect.isawaitable(answer) else answer

    async def metadata(self, method: str, *args: Any) -> Any:
        """Return metadata as a dictionary over either wire."""
        told = {} if self._http else {"as_json": True}
        return await self.call(method, *args, **told)

    async def infer(self, model: str, name: str, rows: Any, binary: bool, **how: Any) -> Any:
        tensor = self._module.InferInput(name, list(rows.shape), np_to_triton_dtype(rows.dtype))
        tensor.set_data_from_numpy(rows, **({"binary_data": binary} if self._http else {}))
        outputs = how.pop("outputs", None)
        if outputs is not None:
            option = {"binary_data": binary} if self._http else {}
            outputs = [self._module.InferRequestedOutput(o, **option) for o in outputs]
        return await self.call("infer", model, [tensor], outputs=outputs, **how)

    async def stream(self, model: str, name: str, arrays: Sequence[Any], output: str) -> list[Any]:
        """Send arrays one behind the other on one call; return outputs, and the texts of errors."""
        requests = []
        for number, array in enumerate(arrays):
            tensor = self._module.InferInput(name, list(array.shape), "FP32")
            tensor.set_data_from_numpy(array)
            asked = {"model_name": model, "inputs": [tensor], "request_id": f"s-{number}"}
            requests.append({**asked, "enable_empty_final_response": True})
        if self.kind == "grpc.aio":
            told = [each async for each in self._client.stream_infer(_each(requests))]
        else:
            told = []
            self._client.start_stream(lambda result, error: told.append((result, error)))
            for request in requests:
                self._client.async_stream_infer(**request)
            self._client.stop_stream()  # waits for the answers
        return [_streamed(result, error, output) for result, error in told]

    async def refusal(self, method: str, *args: Any) -> list[str | None]:
        """Return status and text of the error that a call must meet."""
        try:
            told = await getattr(self, method)(*args)
        except InferenceServerException as error:
            return [error.status(), error.message()]
        raise AssertionError(f"{method}{args[:1]} was answered: {told}")

    async def close(self) -> None:
        await self.call("close")


async def _each(requests: Sequence[Any]) -> AsyncIterator[Any]:
    for request in requests:
        yield request


def _streamed(result: Any, error: Any, output: str) -> Any:
    if error is not None:
        return error.message()
    head = result.get_response()
    final = head.parameters["triton_final_response"].bool_param
    return [head.id, final, plain(result.as_numpy(output))]


def plain(array: Any) -> Any:
    if array.dtype == np.object_:
        items = [item.decode() if isinstance(item, bytes) else item for item in array.ravel()]
        return ["object", list(array.shape), items]
    return [array.dtype.name, list(array.shape), array.tobytes().hex()]


async def calls(caller: Caller, rows: Any) -> dict[str, Any]:
    """Make every call once."""
    image, text = rows["image"], rows["text"]
    told: dict[str, Any] = {
        "live": await caller.call("is_server_live"),
        "ready": await caller.call("is_server_ready"),
        "model ready": await caller.call("is_model_ready", "digits"),
        "version ready": await caller.call("is_model_ready", "digits", "1"),
        "unknown ready": await caller.call("is_model_ready", "no-such-model"),
        "server": await caller.metadata("get_server_metadata"),
        "model": await caller.metadata("get_model_metadata", "digits"),
    }
    outputs = ["label", "probabilities"]
    for binary in (True, False) if caller.kind.startswith("http") else (True,):
        how = "binary" if binary else "json"
        one = await caller.infer(
            "digits", "image", image[:1], binary, outputs=outputs, request_id="r-1"
        )
        head = one.get_response()
        told[f"{how} id"] = head["id"] if isinstance(head, dict) else head.id
        many = await caller.infer(
            "digits", "image", image, binary, outputs=outputs, model_version="1"
        )
        strings = await caller.infer("language", "text", text, binary, outputs=["language"])
        told[how] = {
            "one": [plain(one.as_numpy(name)) for name in outputs],
            "many": [plain(many.as_numpy(name)) for name in outputs],
            "strings": plain(strings.as_numpy("language")),
        }
    every = await caller.infer("digits", "image", image, True)
    told["no outputs named"] = plain(every.as_numpy("label"))
    told["unknown model"] = await caller.refusal("infer", "digit", "image", image, True)
    told["unknown metadata"] = await caller.refusal("metadata", "get_model_metadata", "digit")
    told["wrong shape"] = await caller.refusal("infer", "digits", "image", image[:, :, :7], True)
    if caller.kind.startswith("grpc"):
        arrays = [image[:1], image[1:3], image[:, :, :7], image[3:]]
        told["stream"] = await caller.stream("digits", "image", arrays, "label")
    return told


async def main() -> None:
    """Call, close, print."""
    kind, address, file = sys.argv[1:]
    # Made within the loop: the asynchronous clients take the running one.
    caller = Caller(kind, address)
    try:
        told = await calls(caller, np.load(file))
    finally:
        await caller.close()
    told["versions"] = {name: importlib.metadata.version(name) for name in PACKAGES}
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main())
