"""What goes wrong with a call: refused in words, nothing stays claimed or held."""

from __future__ import annotations

import asyncio
import logging

import pytest

from serving.errors import ExecutionFailed, Overloaded, Unavailable
from serving.request import InferRequest
from serving.tensor import BYTES, Tensor
from tests.contract.rest.running import (
    CALL,
    ECHO,
    TEXTS,
    WIDE,
    HeldPlane,
    RefusingPlane,
    Serving,
    client,
    connection,
    post,
    until,
)
from tests.doubles.plane import StubPlane


async def test_a_failing_sibling_refuses_the_call_and_the_others_are_released(
    serving: Serving,
) -> None:
    def model(request: InferRequest) -> tuple[Tensor, ...]:
        if request.inputs[0].shape[1] == 2:
            raise ExecutionFailed("the model refused")
        return request.inputs

    plane = StubPlane(WIDE, model=model)
    async with serving(plane) as front, client(front) as http:
        found = await http.post("/predict", json={"instances": [[1], [1, 2], [1, 2, 3]]})
    assert (found.status_code, found.json()["detail"]) == (400, "the model refused")
    assert plane.released == 2


async def test_one_failure_abandons_the_siblings_that_still_run(serving: Serving) -> None:
    plane = HeldPlane(WIDE)
    async with serving(plane) as front, client(front) as http:
        call = asyncio.create_task(http.post("/predict", json={"instances": [[1], [1, 2]]}))
        await until(lambda: len(plane.held) == 2)
        lost = Unavailable("the worker was lost", retry_after_s=1.0)
        plane.held[1].answer.set_exception(lost)
        found = await call
    assert (found.status_code, found.headers["retry-after"]) == (503, "1")
    assert (plane.abandoned, plane.released) == (1, 0)


async def test_a_refused_claim_abandons_the_earlier_ones(serving: Serving) -> None:
    plane = RefusingPlane(2, Overloaded("the queue is full", retry_after_s=2.5))
    async with serving(plane) as front, client(front) as http:
        call = {"servable": "wide", "instances": [[1], [1, 2], [1, 2, 3]]}
        found = await http.post("/predict", json=call)
    assert (found.status_code, found.headers["retry-after"]) == (429, "3")
    assert (plane.abandoned, plane.released) == (2, 0)


async def test_a_fault_of_the_server_is_logged_and_tells_nothing(
    serving: Serving,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plane = RefusingPlane(0, ZeroDivisionError("secret /path"))
    with caplog.at_level(logging.ERROR, "serving.rest"):
        async with serving(plane) as front, client(front) as http:
            found = await http.post("/predict", json=CALL)
    assert (found.status_code, found.json()["code"]) == (500, "internal")
    assert "secret" not in found.text
    assert found.json()["request_id"] in caplog.text
    assert "ZeroDivisionError" in caplog.text


async def test_an_answer_that_cannot_be_written_is_released(serving: Serving) -> None:
    plane = StubPlane(TEXTS, model=lambda r: (Tensor("s", BYTES, (1,), None, [b"\xff"]),))
    call = {"inputs": [{"name": "s", "shape": [1], "datatype": "BYTES", "data": ["x"]}]}
    async with serving(plane) as front, client(front) as http:
        found = await http.post("/v2/models/texts/infer", json=call)
    assert found.status_code == 400
    assert "binary_data" in found.json()["error"]
    assert plane.released == 1


async def test_a_client_that_goes_away_abandons_its_request(serving: Serving) -> None:
    plane = HeldPlane(ECHO)
    async with serving(plane) as front:
        async with connection(front) as (_, writer):
            writer.write(post(CALL))
            await until(lambda: bool(plane.held))
        await until(lambda: plane.abandoned == 1)


async def test_a_client_that_goes_away_while_sending_claims_nothing(serving: Serving) -> None:
    plane = StubPlane(ECHO)
    async with serving(plane) as front:
        async with connection(front) as (_, writer):
            writer.write(b"POST /predict HTTP/1.1\r\nhost: t\r\ncontent-length: 99\r\n\r\n{")
            await writer.drain()
            await until(lambda: any(c.cycle for c in front._connections()))
        await until(lambda: not front._connections())
    assert plane.requests == []


BAD = [
    b"",
    b"\xff\xfe",
    b"null",
    b"[" * 5000,
    b'{"instances": ' + b"[" * 500 + b"]" * 500 + b"}",
    b'{"instances": [[1, 2], [1]]}',
    b'{"instances": [[1, NaN]]}',
    b'{"instances": [[1, 1e40]]}',
    b'{"instances": [{"b64": "====", "shape": [1e99]}]}',
    b'{"inputs": [{"name": "x", "shape": [-1, 2], "datatype": "FP32", "data": []}]}',
    b'{"inputs": [{"name": "x", "shape": [99999999999999999999], "datatype": "FP32"}]}',
    b'{"inputs": [{"name": "\\ud800"}]}',
    b'{"servable": "\\u0000", "instances": [1]}',
    b'{"servable": "../../etc", "instances": [1]}',
]


@pytest.mark.parametrize("path", ["/predict", "/v2/models/echo/infer"])
async def test_bad_bodies_are_the_callers_mistake_in_words(serving: Serving, path: str) -> None:
    async with serving(StubPlane(ECHO)) as front, client(front) as http:
        for body in BAD:
            found = await http.post(path, content=body)
            assert 400 <= found.status_code < 500, body
            told = found.json()
            assert len(told["error" if path.startswith("/v2") else "detail"]) > 10
            assert "Traceback" not in found.text
