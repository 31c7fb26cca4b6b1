"""Methods over REST, by the lane and the ordinary way: /predict, V2, and MindSpore Serving's."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from serving.errors import InvalidRequest, NotFound
from serving.frontends.rest.exchange import LARGE_BYTES
from serving.request import InferRequest
from serving.tensor import BYTES, FP32, INT32, TEXT
from tests.contract.rest.running import ECHO, PAGE, Serving, client
from tests.doubles import methods
from tests.doubles.plane import StubPlane

THREE = (methods.ECHO, methods.ADD, methods.PICK)


def plane(*more: Any) -> StubPlane:
    return StubPlane(*THREE, *more, model=methods.answer)


async def post(serving: Serving, found: StubPlane, path: str, body: Any, **headers: str) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with serving(found) as front, client(front) as caller:
        answer = await caller.post(path, content=data, headers=headers)
        return answer.status_code, answer.json()


async def predict(serving: Serving, **body: Any) -> Any:
    return await post(serving, plane(), "/predict", {"servable": "kinds", **body})


@pytest.mark.parametrize(
    "value",
    [5, 2**40, 1.5, True, "é", "", [1, 2], [[1.5], [2.5]], [True], ["a", "b"], {"b64": "AP8="}],
)
async def test_predict_takes_and_gives_values_of_any_type(serving: Serving, value: Any) -> None:
    status, answer = await predict(serving, method="echo", instances=[{"x": value}])
    assert status == 200
    assert answer == {
        "servable": "kinds", "version": 1, "method": "echo", "instances": [{"y": value}],
    }  # fmt: skip


async def test_bytes_that_look_like_text_stay_bytes(serving: Serving) -> None:
    _, answer = await predict(serving, method="echo", instances=[{"x": {"b64": "YWJj"}}])
    assert answer["instances"] == [{"y": {"b64": "YWJj"}}]


async def test_instances_of_different_types_each_have_their_own_answer(serving: Serving) -> None:
    values = [1, "a", [1.5, 2.5], [[True]]]
    _, answer = await predict(serving, method="echo", instances=values)
    assert answer["instances"] == [{"y": value} for value in values]


async def test_inputs_are_whole_tensors_whose_first_axis_counts_instances(serving: Serving) -> None:
    found = plane()
    body = {"servable": "kinds", "method": "echo", "inputs": {"x": [[1, 2], [3, 4], [5, 6]]}}
    _, answer = await post(serving, found, "/predict", body)
    assert answer["outputs"] == {"y": [[1, 2], [3, 4], [5, 6]]}
    (request,) = found.requests
    assert (request.inputs[0].dtype, request.inputs[0].shape) == (INT32, (3, 2))


async def test_base64_says_its_dtype_and_shape(serving: Serving) -> None:
    found = plane()
    value = {"b64": "AAABAAIA", "dtype": "UINT16", "shape": [1, 3]}
    body = {"servable": "kinds", "method": "echo", "instances": [value, {"x": value}]}
    _, answer = await post(serving, found, "/predict", body)
    assert answer["instances"] == [{"y": [[0, 1, 2]]}] * 2
    assert [r.inputs[0].shape for r in found.requests] == [(1, 1, 3)] * 2


async def test_what_goes_straight_into_a_model_takes_its_dtype(serving: Serving) -> None:
    instances = [{"x1": [1, 2], "x2": [0.5, 0.5]}]
    _, answer = await predict(serving, method="add", instances=instances)
    assert answer["instances"] == [{"y": [1.5, 2.5]}]


async def test_an_instance_that_fails_refuses_the_call_and_is_named(serving: Serving) -> None:
    found = plane()
    body = {"servable": "kinds", "method": "pick", "instances": [1, 2, -3, -4]}
    status, problem = await post(serving, found, "/predict", body)
    assert status == 400
    assert (problem["code"], problem["where"]) == ("stage_failed", "instances[2]")
    assert found.released == 2


async def test_an_instance_that_is_not_claimed_is_named(serving: Serving) -> None:
    class Picky(StubPlane):
        def claim(self, request: InferRequest) -> Any:
            if request.inputs[0].dtype is TEXT:
                raise InvalidRequest("no text", where="inputs.x")
            return super().claim(request)

    found = Picky(*THREE, model=methods.answer)
    body = {"servable": "kinds", "method": "echo", "instances": [1, "a"]}
    status, problem = await post(serving, found, "/predict", body)
    assert (status, problem["where"]) == (400, "instances[1].x")
    assert found.abandoned == 1


@pytest.mark.parametrize("method", [None, "nope", "predict"])
async def test_a_method_must_be_one_of_those_that_are_there(
    serving: Serving, method: str | None
) -> None:
    status, problem = await predict(serving, method=method, instances=[1])
    assert (status, problem["code"]) == (404, "unknown_method")


async def test_a_model_itself_has_the_method_predict(serving: Serving) -> None:
    for named in ({}, {"method": "predict"}):
        body = {"servable": "echo", "instances": [[1, 2]], **named}
        status, answer = await post(serving, StubPlane(ECHO), "/predict", body)
        assert (status, answer["method"]) == (200, "predict")


def v2(datatype: str, data: list[Any], **extra: Any) -> dict[str, Any]:
    tensor = {"name": "x", "datatype": datatype, "shape": [len(data)], "data": data}
    return {"inputs": [tensor], **extra}


@pytest.mark.parametrize(
    ("path", "extra"),
    [
        ("kinds:echo", {}),
        ("kinds%3Aecho", {}),
        ("kinds:echo/versions/1", {}),
        ("kinds", {"parameters": {"method": "echo"}}),
        ("kinds:echo", {"parameters": {"method": "echo"}}),
    ],
)
async def test_v2_names_a_method_in_the_model_or_in_parameters(
    serving: Serving, path: str, extra: Any
) -> None:
    body = v2("INT16", [1, 2], **extra)
    status, answer = await post(serving, plane(), f"/v2/models/{path}/infer", body)
    assert status == 200
    assert answer["model_name"] == path.split("/")[0].replace("%3A", ":")
    assert answer["outputs"] == [{"name": "y", "datatype": "INT16", "shape": [2], "data": [1, 2]}]


async def test_v2_method_in_parameters_goes_before_the_usual_one(serving: Serving) -> None:
    usual = methods.method("predict", methods.ADD.signature.inputs, methods.ADD.signature.outputs)
    body = v2("INT16", [1], parameters={"method": "echo"})
    status, _ = await post(serving, plane(usual), "/v2/models/kinds/infer", body)
    assert status == 200


@pytest.mark.parametrize(
    ("path", "extra", "status"),
    [
        ("kinds", {}, 404),
        ("kinds:nope", {}, 404),
        ("kinds:", {}, 404),
        ("echo:", {}, 404),
        ("kinds", {"parameters": {"method": "nope"}}, 404),
        ("kinds", {"parameters": {"method": 3}}, 400),
        ("kinds:add", {"parameters": {"method": "echo"}}, 400),
        ("nobody", {"parameters": {"method": "echo"}}, 404),
    ],
)
async def test_v2_refuses_methods_that_are_not_there(
    serving: Serving, path: str, extra: Any, status: int
) -> None:
    found, answer = await post(
        serving, plane(), f"/v2/models/{path}/infer", v2("INT16", [1], **extra)
    )
    assert (found, list(answer)) == (status, ["error"])


async def test_v2_strings_are_text_unless_one_is_base64(serving: Serving) -> None:
    for data, dtype in ((["a", "é"], TEXT), (["a", {"b64": "YQ=="}], BYTES)):
        found = plane()
        _, answer = await post(serving, found, "/v2/models/kinds:echo/infer", v2("BYTES", data))
        assert found.requests[0].inputs[0].dtype is dtype
        assert answer["outputs"][0]["datatype"] == "BYTES"


def binary(datatype: str, data: bytes, shape: list[int], **parameters: Any) -> tuple[bytes, str]:
    tensor = {
        "name": "x", "datatype": datatype, "shape": shape,
        "parameters": {"binary_data_size": len(data), **parameters},
    }  # fmt: skip
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + data, str(len(head))


@pytest.mark.parametrize(
    ("parameters", "item", "dtype"),
    [
        ({}, b"ab", BYTES),
        ({"content_type": "str"}, b"ab", TEXT),
        ({"content_type": "np"}, b"\xff", BYTES),
    ],
)
async def test_v2_binary_strings_are_bytes_unless_they_are_called_text(
    serving: Serving, parameters: Any, item: bytes, dtype: Any
) -> None:
    found = plane()
    body, length = binary("BYTES", struct.pack("<I", len(item)) + item, [1], **parameters)
    headers = {"inference-header-content-length": length}
    await post(serving, found, "/v2/models/kinds:echo/infer", body, **headers)
    (tensor,) = found.requests[0].inputs
    assert (tensor.dtype, tensor.items) == (dtype, [item])


async def test_v2_text_must_be_utf8(serving: Serving) -> None:
    body, length = binary("BYTES", b"\1\0\0\0\xff", [1], content_type="str")
    headers = {"inference-header-content-length": length}
    status, answer = await post(serving, plane(), "/v2/models/kinds:echo/infer", body, **headers)
    assert status == 400
    assert "not UTF-8" in answer["error"]


async def test_v2_binary_numbers_are_read_alike_again_and_again(serving: Serving) -> None:
    found = plane()
    body, length = binary("FP32", struct.pack("<4f", 1, 2, 3, 4), [2, 2])
    async with serving(found) as front, client(front) as caller:
        for _ in range(3):
            answer = await caller.post(
                "/v2/models/kinds:echo/infer",
                content=body,
                headers={"inference-header-content-length": length},
            )
            assert answer.json()["outputs"][0]["data"] == [1, 2, 3, 4]
    assert [(r.method, r.inputs[0].dtype, r.inputs[0].shape) for r in found.requests] == [
        ("echo", FP32, (2, 2))
    ] * 3


async def test_v2_refuses_a_datatype_that_is_none(serving: Serving) -> None:
    for datatype in ("ANY", "TEXT", "fp32", ""):
        status, answer = await post(
            serving, plane(), "/v2/models/kinds:echo/infer", v2(datatype, [1])
        )
        assert status == 400
        assert "inputs.x" in answer["error"]


async def test_v2_metadata_lists_methods_and_describes_one(serving: Serving) -> None:
    any_x = [{"name": "x", "datatype": "ANY", "shape": [-1]}]
    any_y = [{"name": "y", "datatype": "ANY", "shape": [-1]}]
    pairs = [{"name": n, "datatype": "FP32", "shape": [-1, 2]} for n in ("x1", "x2", "y")]
    async with serving(plane(ECHO)) as front, client(front) as caller:
        whole = (await caller.get("/v2/models/kinds")).json()
        one = (await caller.get("/v2/models/kinds:add/versions/1")).json()
        plain = (await caller.get("/v2/models/echo")).json()
        ready = [await caller.get(f"/v2/models/kinds{m}/ready") for m in ("", ":add", ":nope")]
    assert (whole["name"], whole["inputs"], whole["outputs"]) == ("kinds", [], [])
    assert whole["methods"] == [
        {"name": "echo", "inputs": any_x, "outputs": any_y},
        {"name": "add", "inputs": pairs[:2], "outputs": pairs[2:]},
        {"name": "pick", "inputs": any_x, "outputs": any_y},
    ]
    assert (one["name"], one["inputs"], "methods" in one) == ("kinds:add", pairs[:2], False)
    assert (plain["name"], "methods" in plain) == ("echo", False)
    assert [answer.status_code for answer in ready] == [200, 200, 404]


async def test_metadata_of_a_servable_are_those_of_its_usual_method(serving: Serving) -> None:
    usual = methods.method("predict", methods.ADD.signature.inputs, methods.ADD.signature.outputs)
    async with serving(plane(usual)) as front, client(front) as caller:
        told = (await caller.get("/v2/models/kinds")).json()
    assert [tensor["name"] for tensor in told["inputs"]] == ["x1", "x2"]
    assert len(told["methods"]) == 4


async def test_a_servable_without_any_method_is_told_as_such(serving: Serving) -> None:
    class Empty(StubPlane):
        def describe(self, *_: Any) -> Any:
            raise NotFound("servable 'kinds' registers no method", code="unknown_method")

        def methods(self, *_: Any) -> tuple[str, ...]:
            return ()

    async with serving(Empty(*THREE)) as front, client(front) as caller:
        for path in ("", "/ready", "/config", "/stats"):
            answer = await caller.get(f"/v2/models/kinds{path}")
            assert (answer.status_code, "no method" in answer.json()["error"]) == (404, True)
        assert (await caller.get("/")).status_code == 200


async def test_the_page_shows_a_call_of_each_method(serving: Serving) -> None:
    async with serving(plane(ECHO)) as front, client(front) as caller:
        text = (await caller.get("/", headers=PAGE)).text
        for method in methods.METHODS:
            assert f"<h3>{method}</h3>" in text
        halves = [0.5, 0.5]
        call = {"servable": "kinds", "method": "add", "instances": [{"x1": halves, "x2": halves}]}
        body = json.dumps(call)
        assert body.replace('"', "&quot;") in text
        answer = await caller.post("/predict", content=body)
    assert answer.json()["instances"] == [{"y": [1.0, 1.0]}]


async def test_mindspore_s_clients_name_methods_in_the_path(serving: Serving) -> None:
    async with serving(plane()) as front, client(front) as caller:
        good = await caller.post("/model/kinds:echo", content='{"instances": [{"x": [1, 2]}]}')
        mixed = await caller.post(
            "/model/kinds:pick", content='{"instances": [{"x": 1}, {"x": -1}]}'
        )
        none = await caller.post("/model/kinds:nope", content='{"instances": [{"x": 1}]}')
    assert good.json() == {"instances": [{"y": [1, 2]}]}
    assert mixed.json() == {"instances": [{"y": 1}, {"error_msg": "it is negative"}]}
    assert none.json() == {
        "error_msg": "Request servable(kinds) method(nope) , method is not available"
    }


async def test_large_bodies_are_read_on_a_thread_with_their_method(serving: Serving) -> None:
    numbers = [i / 2 for i in range(70_000)]
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, len(numbers)], "data": numbers}
    calls = [
        ("/predict", {"servable": "kinds", "method": "echo", "instances": [numbers]}),
        ("/v2/models/kinds/infer", {"inputs": [tensor], "parameters": {"method": "echo"}}),
        ("/model/kinds:echo", {"instances": [{"x": numbers}]}),
    ]
    found = plane()
    for path, body in calls:
        assert len(json.dumps(body)) > LARGE_BYTES
        status, _ = await post(serving, found, path, body)
        assert status == 200
    assert [(r.inputs[0].dtype, r.inputs[0].shape) for r in found.requests] == [
        (FP32, (1, len(numbers)))
    ] * 3
