"""MindSpore Serving's paths and bodies over HTTP: by the lane, and everything the ordinary way."""

from __future__ import annotations

import functools
from typing import Any

import httpx
import numpy as np
import pytest

from serving.errors import ExecutionFailed, InternalError, Overloaded, ServingError, Unavailable
from serving.frontends.mindspore.target import Target
from serving.frontends.rest import ms_codec, ms_route
from serving.request import InferRequest, InferResponse
from serving.tensor import BF16, BYTES, FP16, FP32, Tensor
from tests.contract.rest import running
from tests.contract.rest.running import ECHO, TEXTS, HeldPlane, RefusingPlane, Serving
from tests.doubles.plane import StubPlane
from tests.unit.frontends.rest.served import describe_as, only, spec

PATH = "/model/echo:predict"
ROW = {"x": [1.5, 2.0]}


@pytest.fixture(params=["lane", "ordinary"])
def serving(request: pytest.FixtureRequest) -> Serving:
    return functools.partial(running.serving, lane=request.param == "lane")


async def post(serving: Serving, plane: StubPlane, body: Any, path: str = PATH) -> httpx.Response:
    async with serving(plane) as front, running.client(front) as client:
        if isinstance(body, bytes):
            return await client.post(path, content=body)
        return await client.post(path, json=body)


def said(answer: httpx.Response) -> str:
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    (key,) = answer.json()
    assert key == "error_msg"
    return str(answer.json()[key])


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        (b"/model/add:m", ("add", None, "m")),
        (b"/v1/model/add:m", ("add", None, "m")),
        (b"/model/add/:m", ("add", None, "m")),
        (b"/model/add/version/12:m", ("add", "12", "m")),
        (b"/model/add/version/12/:m", ("add", "12", "m")),
        (b"/model/add", ("add", None, None)),
        (b"/model/add:", ("add", None, "")),
        (b"/model/:m", ("", None, "m")),
        (b"/model/a%20b:call:2", ("a b", None, "call:2")),
        (b"/model/add%3Am", ("add", None, "m")),
        (b"/model/add/version/12%3aca%3All", ("add", "12", "ca:ll")),
        (b"/model/add%253Am", ("add%3Am", None, None)),
        (b"/model/a%2Fb%3Am", ("a/b", None, "m")),
        (b"/models/add:m", None),
        (b"/model/add/versions/1:m", None),
        (b"/v2/model/add:m", None),
        (b"/model", None),
    ],
)
def test_a_path_is_taken_apart(path: bytes, parts: tuple[str | None, ...] | None) -> None:
    found = ms_route.find(path)
    assert parts == (None if found is None else (found._name, found._version, found._method))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/model/:predict", "please check url, the keyword:[model] must contain."),
        ("/model/echo", "please check url, the keyword:[service method] must contain."),
        ("/model/echo/version/x:predict", "the keyword:[version] value invalid, request version"),
        (
            "/model/echo/version/-1:predict",
            "version number range failed, request version number -1",
        ),
        ("/model/echo/version/4294967295:predict", "version number range failed"),
        ("/model/echo/version/99999999999999999999:predict", "version number range failed"),
        (
            "/model/echo/version/3:predict",
            "method(predict)  version(3) , servable is not available",
        ),
        ("/model/echo:nope", "Request servable(echo) method(nope) , method is not available"),
        ("/model/" + "n" * 300 + ":m", "servable is not available"),
    ],
)
async def test_a_path_that_leads_nowhere_is_told_why(
    serving: Serving, path: str, text: str
) -> None:
    assert text in said(await post(serving, StubPlane(ECHO), {"instances": ROW}, path))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "http message invalid"),
        (b"{", "Illegal JSON format."),
        (b'{"instances": "\xff"}', "Illegal JSON format."),
        (b"[" * 5000, "Illegal JSON format."),
        ([], "key 'instances' expects to exist once, but actually 0 times"),
        ({"instances": 1}, "instances no key mode is not supported"),
        ({"instances": []}, "instances value is array type, but no value"),
        ({"instances": [5, ROW]}, "instances no key mode is not supported"),
        ({"instances": {}}, "json object, value is empty"),
        ({"instances": [{}]}, "json array, instance is object type, but no value"),
        ({"instances": [ROW, 5]}, "json array, instance is not object type"),
        ({"instances": {"y": 1}}, "Cannot find input x in instance input , servable echo"),
        ({"instances": {"x": {"b64": "!!!!"}}}, "'!!!!' is illegal b64 encode string"),
        ({"instances": {"x": [1, 2]}}, "data type kMSI_Int32 not match the data type kMSI_Float32"),
        ({"instances": {"x": [1.0, 1e300]}}, "input 0 value 1e+300 not in the range of the data"),
    ],
)
async def test_a_body_that_cannot_be_run_is_told_why(
    serving: Serving, body: Any, text: str
) -> None:
    assert text in said(await post(serving, StubPlane(ECHO), body))


async def test_each_instance_is_a_request_and_each_is_released(serving: Serving) -> None:
    plane = StubPlane(ECHO)
    answer = await post(serving, plane, {"instances": [ROW, {"x": [0.1, 3.0]}], "other": 1})
    assert answer.text == '{"instances":[{"x":[1.5,2.0]},{"x":[0.10000000149011612,3.0]}]}'
    assert [t.shape for r in plane.requests for t in r.inputs] == [(1, 2), (1, 2)]
    assert plane.released == 2


async def test_an_instance_that_fails_while_it_runs_fails_alone(serving: Serving) -> None:
    def model(request: InferRequest) -> tuple[Tensor, ...]:
        if request.inputs[0].array[0, 0] == 13:
            raise ExecutionFailed("thirteen")
        return request.inputs

    rows = [ROW, {"x": [13.0, 0.0]}, {"x": [1.0]}, ROW]
    answer = await post(serving, StubPlane(ECHO, model=model), {"instances": rows})
    assert answer.json()["instances"] == [
        ROW,
        {"error_msg": "thirteen"},
        {"error_msg": "Given model input 0 size 4 not match the size 8 defined in model"},
        ROW,
    ]


async def test_instances_that_fail_alike_are_one_error(serving: Serving) -> None:
    bad = {"x": [1.0]}
    assert "size 4 not match" in said(
        await post(serving, StubPlane(ECHO), {"instances": [bad] * 3})
    )


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            Overloaded("full", code="queue_full", limit=1),
            "Serving Error: enqueued requests count exceeds the limit 1",
        ),
        (
            Unavailable("loading"),
            "Request servable(echo) method(predict) , servable is not available",
        ),
        (InternalError("the server failed"), "the server failed (request id7)"),
    ],
)
async def test_what_concerns_the_whole_call_is_one_error(
    serving: Serving, error: ServingError, text: str
) -> None:
    plane = RefusingPlane(1, error)
    async with serving(plane) as front, running.client(front) as client:
        answer = await client.post(
            PATH, json={"instances": [ROW, ROW]}, headers={"x-request-id": "id7"}
        )
    assert said(answer) == text
    assert answer.headers["x-request-id"] == "id7"
    assert plane.abandoned == 1


async def test_a_body_over_the_limit_is_told_the_limit(serving: Serving) -> None:
    async with serving(StubPlane(ECHO), max_request_mb=1) as front, running.client(front) as client:
        answer = await client.post(PATH, content=b" " * (1 << 20) + b" ")
    assert said(answer) == "http message is bigger than 1048576"


async def test_only_post_is_taken(serving: Serving) -> None:
    async with serving(StubPlane(ECHO)) as front, running.client(front) as client:
        for method in ("GET", "PUT", "DELETE", "OPTIONS"):
            answer = await client.request(method, PATH)
            assert said(answer) == "http message only support POST right now"
        head = await client.head(PATH)
        assert (head.status_code, head.content) == (200, b"")


async def test_a_large_call_is_read_and_written_off_the_loop(serving: Serving) -> None:
    plane = StubPlane(ECHO)
    rows = [{"x": [float(i), -1.0]} for i in range(16000)]
    answer = await post(serving, plane, {"instances": rows})
    assert answer.json()["instances"] == rows
    assert plane.released == 16000


async def test_a_client_that_leaves_withdraws_its_instances(serving: Serving) -> None:
    plane = HeldPlane(ECHO)
    async with serving(plane) as front, running.connection(front) as (_, writer):
        writer.write(running.post({"instances": [ROW, ROW]}, PATH))
        await running.until(lambda: len(plane.held) == 2)
        writer.close()
        await running.until(lambda: plane.abandoned == 2)


async def test_a_header_bounds_the_time_of_the_requests(serving: Serving) -> None:
    plane = StubPlane(ECHO)
    async with serving(plane) as front, running.client(front) as client:
        await client.post(PATH, json={"instances": ROW}, headers={"x-request-timeout-ms": "9000"})
        refused = await client.post(
            PATH, json={"instances": ROW}, headers={"x-request-timeout-ms": "soon"}
        )
    assert [request.deadline is not None for request in plane.requests] == [True]
    assert "the request's timeout cannot be read" in said(refused)


async def test_text_and_bytes_come_back_as_what_they_are(serving: Serving) -> None:
    rows = [{"s": "é"}, {"s": ["a"]}, {"s": {"b64": "/wA="}}]
    answer = await post(serving, StubPlane(TEXTS), {"instances": rows}, "/model/texts:predict")
    assert answer.json() == {"instances": [{"s": "é"}, {"s": "a"}, {"s": {"b64": "/wA="}}]}


def answered(*outputs: Tensor) -> InferResponse:
    return InferResponse("m", 3, "", outputs)


def written(dtype: Any, *values: Any) -> bytes:
    """Return what is written for one output ``y`` that holds the values."""
    described = describe_as((spec("x", FP32, "n"),), (spec("y", dtype, "n", len(values)),))
    target = Target("m", "predict", 0)
    call = ms_codec.decode(b"", [{"x": 1.5}], target, {}, only(described), 0.0)
    array = np.array([values], dtype.numpy)
    response = answered(Tensor("y", dtype, array.shape, array))
    return call.encode([response]).body


def test_what_json_cannot_hold_is_null() -> None:
    values = [float("nan"), float("inf"), float("-inf"), 1.0]
    assert written(FP32, *values) == b'{"instances":[{"y":[null,null,null,1.0]}]}'


def test_floats_are_written_as_the_doubles_they_are() -> None:
    assert written(FP32, 6.6) == b'{"instances":[{"y":[6.599999904632568]}]}'
    assert written(FP16, 0.1) == b'{"instances":[{"y":[0.0999755859375]}]}'
    assert written(BF16, 0x3FC0) == b'{"instances":[{"y":[1.5]}]}'


def test_outputs_stand_in_the_order_of_their_names() -> None:
    described = describe_as((spec("x", BYTES, "n"),), tuple(spec(n, BYTES, "n") for n in "cab"))
    target = Target("m", "predict", 0)
    call = ms_codec.decode(b"", [{"x": "q"}], target, {}, only(described), 0.0)
    outputs = [Tensor(n, BYTES, (1,), items=[n.encode()]) for n in "cab"]
    body = call.encode([answered(*outputs)]).body
    assert body == b'{"instances":[{"a":"a","b":"b","c":"c"}]}'
