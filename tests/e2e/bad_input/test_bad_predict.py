"""Wrong calls of ``POST /predict``, and wrong HTTP."""

from __future__ import annotations

import gzip
import json
import socket
import zlib

import pytest

from tests.e2e.bad_input.calls import (
    GOOD,
    LEFT,
    RIGHT,
    Send,
    check,
    head,
    inputs,
    post,
    predict,
    wire,
)  # fmt: skip
from tests.server import ServerProcess

MULTI = b'{"servable":"multi","inputs":{"left":'
ROW = {"left": LEFT, "right": RIGHT}
BOMB = zlib.compress(b" " * (64 << 20))

CASES: dict[str, tuple[Send, int, tuple[str, ...]]] = {
    # names
    "unknown servable": (predict(servable="mutli"), 404, ("mutli", "multi")),
    "servable left out of three": (predict(drop="servable"), 404, ("multi", "words")),
    "servable of another type": (predict(servable=7), 400, ("servable",)),
    "unknown version": (predict(version=9), 404, ("version 9", "1")),
    "version below one": (predict(version=0), 400, ("version",)),
    "unknown label": (predict(version="latest"), 404, ("label 'latest'", "version")),
    "version as a list": (predict(version=["1"]), 400, ("version",)),
    "unknown method": (predict(method="classify"), 404, ("classify", "predict")),
    "unknown input": (inputs(lefd=[LEFT], left=None), 400, ("lefd", "left")),
    "extra input": (inputs(middle=[1]), 400, ("middle",)),
    "missing input": (inputs(right=None), 400, ("right",)),
    "unknown key": (predict(input={}, drop="inputs"), 400, ("input", "inputs")),
    # values
    "string for a number": (inputs(left=[["1", "2", "3"]]), 400, ("left", "FP32")),
    "fraction for an integer": (inputs(right=[[1.5, 2]]), 400, ("right", "INT64", "1.5")),
    "integer out of range": (inputs(right=[[2**70, 2]]), 400, ("right",)),
    "number for a string": (
        predict(servable="words", inputs={"word": [1]}), 400, ("word",),
    ),
    "number for a truth": (
        predict(servable="truth", inputs={"x": [[1, 0, 7]]}), 400, ("x", "BOOL"),
    ),
    "null": (inputs(left=[[1, None, 3]]), 400, ("left",)),
    "object for a tensor": (inputs(left={"a": 1}), 400, ("left",)),
    "number too large for FP32": (inputs(left=[[1e300, 0, 0]]), 400, ("left",)),
    # shapes
    "wrong rank": (inputs(left=LEFT), 400, ("left", "[3]", "axes")),
    "too deep": (inputs(left=[[LEFT]]), 400, ("left",)),
    "wrong axis": (inputs(left=[[1, 2]]), 400, ("left", "axis 1", "[1,2]")),
    "ragged": (inputs(left=[[1, 2, 3], [1, 2]], right=[RIGHT] * 2), 400, ("left",)),
    "ragged within": (inputs(left=[[1, [2], 3]]), 400, ("left",)),
    "rows that disagree": (inputs(left=[LEFT] * 2), 400, ("left", "right", "rows")),
    "no rows": (inputs(left=[], right=[]), 400, ("left",)),
    # instances
    "empty instances": (predict(drop="inputs", instances=[]), 400, ("instances",)),
    "instances that are none": (
        post("/predict", {"servable": "multi", "instances": {"left": 1}}), 400, ("instances",),
    ),
    "second instance bad": (
        post("/predict", {"servable": "multi", "instances": [ROW, {**ROW, "left": [1]}]}),
        400, ("instances[1]", "left"),
    ),
    "instance without an input": (
        post("/predict", {"servable": "multi", "instances": [ROW, ROW, {"left": LEFT}]}),
        400, ("instances[2]", "right"),
    ),
    "instances and inputs": (predict(instances=[ROW]), 400, ("instances", "inputs")),
    "neither": (predict(drop="inputs"), 400, ("instances", "inputs")),
    # base64
    "bad base64": (
        inputs(left={"b64": "@@@@", "dtype": "FP32", "shape": [1, 3]}), 400, ("left", "b64"),
    ),
    "base64 of another length": (
        inputs(left={"b64": "AAAA", "dtype": "FP32", "shape": [1, 3]}), 400, ("left", "12"),
    ),
    "base64 of no dtype": (
        inputs(left={"b64": "AAAA", "dtype": "FLOAT", "shape": [1]}), 400, ("left", "FLOAT"),
    ),
    "base64 with a negative shape": (
        inputs(left={"b64": "AAAA", "dtype": "FP32", "shape": [-1, 3]}), 400, ("left", "shape"),
    ),
    "base64 with an overflowing shape": (
        inputs(left={"b64": "AAAA", "dtype": "FP32", "shape": [2**40, 2**40]}), 400, ("left",),
    ),
    # JSON
    "broken JSON": (post("/predict", b'{"servable": "multi", '), 400, ("JSON",)),
    "trailing comma": (post("/predict", b'{"servable": "multi",}'), 400, ("JSON",)),
    "a list": (post("/predict", b"[1, 2]"), 400, ("object",)),
    "a number": (post("/predict", b"7"), 400, ("object",)),
    "nothing": (post("/predict", b""), 400, ("empty",)),
    "not UTF-8": (post("/predict", b'{"servable": "\xff\xfe"}'), 400, ("UTF-8",)),
    "deep nesting": (post("/predict", b"[" * 200_000), 400, ("JSON",)),
    "deep nesting in a tensor": (
        post("/predict", MULTI + b"[" * 2000 + b"]" * 2000 + b"}}"),
        400, (),
    ),
    "a name given twice": (
        post("/predict", MULTI + b'[[1,2,3]],"left":[[4,5,6]],"right":[[4,5]]}}'),
        400, ("left", "twice"),
    ),
    # HTTP
    "unknown path": (post("/predcit", GOOD), 404, ("/predict",)),
    "wrong method": (post("/predict", b"", "GET"), 405, ("POST",)),
    "unknown encoding": (post("/predict", GOOD, content_encoding="br"), 415, ("br", "gzip")),
    "not gzip": (post("/predict", b"not gzip", content_encoding="gzip"), 400, ("compressed",)),
    "gzip cut short": (
        post("/predict", gzip.compress(b"{}" * 100)[:-9], content_encoding="gzip"), 400,
        ("compressed",),
    ),
    "zip bomb": (post("/predict", BOMB, content_encoding="deflate"), 413, ("4194304",)),
    "wrong content type": (
        post("/predict", b"<a/>", content_type="text/xml"), 415, ("text/xml", "application/json"),
    ),
    "oversize": (
        wire(head("/predict", "content-length: 5000000")), 413, ("4194304",),
    ),
    "oversize in pieces": (
        wire(
            head("/predict", "transfer-encoding: chunked"),
            *[b"100000\r\n" + b" " * (1 << 20) + b"\r\n"] * 5,
        ),
        413, ("4194304",),
    ),
    "content-length that is none": (wire(head("/predict", "content-length: x1")), 400, ()),
    "negative content-length": (wire(head("/predict", "content-length: -5")), 400, ()),
    "two lengths": (
        wire(head("/predict", "content-length: 2", "transfer-encoding: chunked"), b"0\r\n\r\n"),
        400, (),
    ),
    "not HTTP": (wire(b"\x16\x03\x01 hello\r\n\r\n"), 400, ()),
    "endless head": (wire(b"POST /predict HTTP/1.1\r\nx: " + b"a" * (65 << 10)), 431, ("64 KiB",)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_predict_refuses(server: ServerProcess, case: str) -> None:
    send, status, words = CASES[case]
    check(server, send, status, *words)


def test_predict_takes_a_body_in_a_thousand_pieces(server: ServerProcess) -> None:
    body = json.dumps(GOOD).encode() + b" " * 1000
    pieces = [b"1\r\n" + body[i : i + 1] + b"\r\n" for i in range(len(body))]
    first = head("/predict", "transfer-encoding: chunked", "connection: close")
    answer = wire(first, *pieces, b"0\r\n\r\n", hang_up=False)(server)
    assert answer.status == 200
    assert '"total":[6.0]' in answer.text


def test_predict_serves_others_while_a_client_stalls(server: ServerProcess) -> None:
    with socket.create_connection(("127.0.0.1", server.rest_port)) as link:
        link.sendall(head("/predict", "content-length: 100") + b'{"serv')
        for _ in range(20):
            status, answer = server.predict(GOOD)
            assert (status, answer["outputs"]["total"]) == (200, [6.0])
