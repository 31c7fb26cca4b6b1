"""What a real server says over REST to requests that newcomers get wrong."""

from __future__ import annotations

import base64
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests import models
from tests.server import ServerProcess, call, serving

ROW = [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("models")
    models.fixed_batch(root / "fixed1" / "model.onnx")
    models.string_lookup(root / "words" / "model.onnx")
    models.garbage(root / "broken" / "1" / "model.onnx")
    with serving(root, tmp_path_factory.mktemp("scratch")) as started:
        yield started


def test_a_row_for_a_model_frozen_to_batch_1_is_told_to_be_the_whole_tensor(
    server: ServerProcess,
) -> None:
    status, problem = server.predict({"servable": "fixed1", "instances": [{"x": ROW}]})
    assert (status, problem["code"], problem["where"]) == (400, "wrong_rank", "instances[0].x")
    assert problem["fix"] == (
        "the model is frozen to batch 1, so an instance is the whole tensor [1,8]: put one more "
        "[ ] around it; or export it with a dynamic batch axis"
    )
    status, answer = server.predict({"servable": "fixed1", "instances": [{"x": [ROW]}] * 2})
    assert (status, len(answer["instances"])) == (200, 2)


def test_two_instances_for_a_model_frozen_to_batch_1_are_told_to_come_one_by_one(
    server: ServerProcess,
) -> None:
    path = "/v1/models/fixed1%3Apredict"
    status, answer = server.post(path, {"instances": [ROW, ROW]})
    assert status == 400
    assert answer["error"].startswith("instances: the model takes 1 instance at a time")
    assert "send them one by one (the model is frozen to batch 1), or export" in answer["error"]
    status, answer = server.post(path, {"instances": [ROW]})
    assert (status, len(answer["predictions"])) == (200, 1)


def test_a_wrong_number_of_axes_has_one_code_on_every_way(server: ServerProcess) -> None:
    tensor = {"name": "x", "shape": [8], "datatype": "FP32", "data": ROW}
    for path, body in (
        ("/predict", {"servable": "fixed1", "inputs": {"x": ROW}}),
        ("/v2/models/fixed1/infer", {"inputs": [tensor]}),
        ("/v1/models/fixed1:predict", {"inputs": ROW}),
    ):
        _, before = server.get("/metrics")
        status, _ = server.post(path, body)
        _, after = server.get("/metrics")
        assert status == 400
        assert _refused(after) == _refused(before) + 1, path


def _refused(metrics: str) -> float:
    start = 'serving_errors_total{front_end="rest",reason="wrong_rank"} '
    lines = [line for line in metrics.splitlines() if line.startswith(start)]
    return float(lines[0].removeprefix(start)) if lines else 0.0


def test_a_model_that_failed_to_load_says_no_time_to_try_again(server: ServerProcess) -> None:
    request = urllib.request.Request(f"{server.base}/v2/models/broken/infer", b'{"inputs": []}')
    with pytest.raises(urllib.error.HTTPError) as refused, urllib.request.urlopen(request):
        pass
    with refused.value as answer:
        assert (answer.code, answer.headers["retry-after"]) == (503, None)


def test_bytes_that_are_no_text_are_told_the_way(server: ServerProcess) -> None:
    jpeg = {"b64": base64.b64encode(b"\xff\xd8\xff\xe0").decode()}
    status, answer = server.post("/v1/models/words:predict", {"instances": [{"word": jpeg}]})
    assert status == 400
    assert "input 'word' element 0 is not UTF-8 text" in answer["error"]
    assert "export it with a UINT8 input" in answer["error"]


def test_a_request_for_no_servable_is_told_how_to_name_one(server: ServerProcess) -> None:
    status, problem = server.predict({"instances": [1]})
    assert (status, problem["code"]) == (404, "servable_not_named")
    assert problem["fix"] == 'add "servable": "fixed1", or another of them'


def test_the_page_says_what_list_says_of_a_model(server: ServerProcess) -> None:
    _, page = server.get("/")
    assert "onnx on onnxruntime, " in page
    assert "onnxruntime_onnx" not in page
    assert server.get("/v2/models/fixed1")[1]["platform"] == "onnxruntime_onnx"


def test_nulls_of_a_client_made_from_a_schema_are_absent(server: ServerProcess) -> None:
    tensor = {"name": "x", "shape": [1, 8], "datatype": "FP32", "data": ROW, "parameters": None}
    body = {"id": None, "parameters": None, "inputs": [tensor], "outputs": None}
    status, answer = call("POST", f"{server.base}/v2/models/fixed1/infer", body)
    assert (status, answer.get("id")) == (200, None)
