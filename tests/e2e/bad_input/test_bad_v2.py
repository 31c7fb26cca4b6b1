"""Wrong V2 calls over REST, with JSON and with binary tensors."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest

from tests.e2e.bad_input.calls import LEFT, RIGHT, Send, check, post
from tests.server import ServerProcess

INFER = "/v2/models/multi/infer"
LEFT_V2 = {"name": "left", "datatype": "FP32", "shape": [1, 3], "data": LEFT}
RIGHT_V2 = {"name": "right", "datatype": "INT64", "shape": [1, 2], "data": RIGHT}
RAW_LEFT = np.array(LEFT, "<f4").tobytes()
RAW_RIGHT = np.array(RIGHT, "<i8").tobytes()


def v2(left: dict[str, Any] | None = None, **body: Any) -> Send:
    """Send the good body with the first input changed, and with further keys."""
    return post(INFER, {"inputs": [{**LEFT_V2, **(left or {})}, RIGHT_V2], **body})


def binary(left: bytes = RAW_LEFT, size: Any = 12, length: str | None = None, **first: Any) -> Send:
    """Send the inputs as binary tensors; ``size`` and ``length`` may lie."""
    given = {"name": "left", "datatype": "FP32", "shape": [1, 3], **first}
    right = {"name": "right", "datatype": "INT64", "shape": [1, 2]}
    text = json.dumps({
        "inputs": [
            {**given, "parameters": {"binary_data_size": size}},
            {**right, "parameters": {"binary_data_size": 16}},
        ]
    }).encode()  # fmt: skip
    stated = str(len(text)) if length is None else length
    return post(INFER, text + left + RAW_RIGHT, inference_header_content_length=stated)


def words(data: bytes, size: int | None = None) -> Send:
    """Send strings as a binary tensor."""
    given = {"name": "word", "datatype": "BYTES", "shape": [1]}
    size = len(data) if size is None else size
    text = json.dumps({"inputs": [{**given, "parameters": {"binary_data_size": size}}]}).encode()
    stated = str(len(text))
    return post("/v2/models/words/infer", text + data, inference_header_content_length=stated)


CASES: dict[str, tuple[Send, int, tuple[str, ...]]] = {
    "unknown model": (post("/v2/models/mutli/infer", {}), 404, ("mutli", "multi")),
    "unknown version": (post("/v2/models/multi/versions/9/infer", {}), 404, ("9",)),
    "version that is no number": (post("/v2/models/multi/versions/x/infer", {}), 404, ("x",)),
    "metadata of an unknown model": (post("/v2/models/mutli", b"", "GET"), 404, ("multi",)),
    "unknown action": (post("/v2/models/multi/inferr", {}), 404, ()),
    "wrong method": (post(INFER, b"", "GET"), 405, ("POST",)),
    "broken JSON": (post(INFER, b'{"inputs": ['), 400, ("JSON",)),
    "not an object": (post(INFER, b"[]"), 400, ("object",)),
    "no inputs": (post(INFER, {}), 400, ("inputs",)),
    "inputs that are no list": (post(INFER, {"inputs": {"left": LEFT}}), 400, ("inputs",)),
    "input that is no object": (post(INFER, {"inputs": [1]}), 400, ("inputs[0]",)),
    "unknown input": (v2({"name": "lefd"}), 400, ("lefd", "left")),
    "missing input": (post(INFER, {"inputs": [LEFT_V2]}), 400, ("right",)),
    "input given twice": (post(INFER, {"inputs": [LEFT_V2, LEFT_V2, RIGHT_V2]}), 400, ("left",)),
    "input without a name": (post(INFER, {"inputs": [{"shape": [1]}]}), 400, ("name",)),
    "wrong datatype": (v2({"datatype": "FP64"}), 400, ("left", "FP32", "FP64")),
    "no datatype of the protocol": (v2({"datatype": "FLOAT32"}), 400, ("FLOAT32",)),
    "no shape": (v2({"shape": None}), 400, ("shape",)),
    "negative shape": (v2({"shape": [-1, 3]}), 400, ("shape",)),
    "overflowing shape": (v2({"shape": [2**62, 2**62]}), 400, ("shape",)),
    "shape of fractions": (v2({"shape": [1.5, 3]}), 400, ("shape",)),
    "shape of too many axes": (v2({"shape": [1] * 200}), 400, ("shape",)),
    "wrong rank": (v2({"shape": [3]}), 400, ("left", "[3]")),
    "wrong axis": (v2({"shape": [1, 2], "data": [1, 2]}), 400, ("left", "[1,2]")),
    "fewer numbers than the shape": (v2({"data": [1, 2]}), 400, ("left", "3", "2")),
    "ragged": (v2({"shape": [2, 3], "data": [[1, 2, 3], [4, 5]]}), 400, ("left",)),
    "no data": (post(INFER, {"inputs": [{k: v for k, v in LEFT_V2.items() if k != "data"}]}),
                400, ("data",)),
    "string for a number": (v2({"data": ["1", 2, 3]}), 400, ("left",)),
    "number for a string": (
        post("/v2/models/words/infer",
             {"inputs": [{"name": "word", "datatype": "BYTES", "shape": [1], "data": [1]}]}),
        400, ("word",),
    ),
    "no rows": (
        post(INFER, {"inputs": [{**LEFT_V2, "shape": [0, 3], "data": []},
                                {**RIGHT_V2, "shape": [0, 2], "data": []}]}),
        400, ("rows",),
    ),
    "unknown output": (v2(outputs=[{"name": "totla"}]), 400, ("totla", "total")),
    "output asked for twice": (v2(outputs=[{"name": "total"}] * 2), 400, ("total",)),
    "outputs that are no list": (v2(outputs="total"), 400, ("outputs",)),
    "id that is no text": (v2(id=[1]), 400, ("id",)),
    "negative timeout": (v2(parameters={"timeout": -1}), 400, ("timeout",)),
    "timeout as text": (v2(parameters={"timeout": "soon"}), 400, ("timeout",)),
    "priority out of range": (v2(parameters={"priority": -3}), 400, ("priority",)),
    "shared memory": (
        v2({"parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 12}}), 400,
        ("shared_memory_region",),
    ),
    "parameters that are no object": (v2(parameters=[1]), 400, ("parameters",)),
    "header length of no number": (binary(length="ten"), 400, ("ength",)),
    "negative header length": (binary(length="-4"), 400, ("ength",)),
    "header length beyond the body": (binary(length="100000"), 400, ("ength",)),
    "header length within the JSON": (binary(length="10"), 400, ("JSON",)),
    "binary size too small": (binary(size=8), 400, ("left",)),
    "binary size too large": (binary(size=16), 400, ("left",)),
    "binary size beyond the body": (binary(size=1 << 40), 400, ("left",)),
    "negative binary size": (binary(size=-12), 400, ("binary_data_size",)),
    "binary size as text": (binary(size="12"), 400, ("binary_data_size",)),
    "bytes left over": (binary(RAW_LEFT + b"!"), 400, ("bytes",)),
    "binary and JSON data": (binary(data=LEFT), 400, ("left",)),
    "string longer than its bytes": (words(struct.pack("<I", 99) + b"zero"), 400, ("word",)),
    "string length of 4 GiB": (words(struct.pack("<I", 2**32 - 1)), 400, ("word",)),
    "half a length": (words(b"\x04\x00"), 400, ("word",)),
    "more strings than the shape": (
        words((struct.pack("<I", 4) + b"zero") * 2), 400, ("word",),
    ),
    "truth of another value": (
        post("/v2/models/truth/infer",
             json.dumps({"inputs": [{"name": "x", "datatype": "BOOL", "shape": [1, 3],
                                     "parameters": {"binary_data_size": 3}}]}).encode()
             + b"\x00\x01\x07", inference_header_content_length="103"),
        400, (),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_v2_refuses(server: ServerProcess, case: str) -> None:
    send, status, said = CASES[case]
    check(server, send, status, *said)
    if status != 405:
        assert json.loads(send(server).text)["error"]
