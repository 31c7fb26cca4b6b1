"""Methods of ``servable_config.py`` on real servers: values, batches, calls of models, company."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests import servables
from tests.server import ServerProcess, serving, until

HERE = '''
import os
import time

import numpy as np
from mindspore_serving.server import register


def span(seconds):
    """Return when it began and ended, on the clock that all processes share."""
    began = time.monotonic()
    time.sleep(float(seconds))
    return np.array([began, time.monotonic()])


def left(seconds):
    return span(seconds)


def right(seconds):
    return span(seconds)


def join(one, other):
    return max(one[0], other[0]) < min(one[1], other[1]), one, other


def quick(x):
    return x + 1


@register.register_method(output_names=["overlap", "left", "right"])
def side_by_side(seconds):
    one = register.add_stage(left, seconds, outputs_count=1)
    other = register.add_stage(right, seconds, outputs_count=1)
    return register.add_stage(join, one, other, outputs_count=3)


@register.register_method(output_names=["span"])
def slow(seconds):
    return register.add_stage(span, seconds, outputs_count=1)


@register.register_method(output_names=["y"])
def fast(x):
    return register.add_stage(quick, x, outputs_count=1)
'''

ADD = {"x1": [[1.5, 2.5], [3.5, 4.5]], "x2": [[0.5, 0.5], [0.5, 0.5]]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    home = tmp_path_factory.mktemp("pipelines")
    repository = home / "models"
    servables.lay_out(repository, ("add_sub", "addb", "kinds"))
    (repository / "here").mkdir()
    (repository / "here" / "servable_config.py").write_text(HERE)
    (repository / "here" / "servable.toml").write_text("[stages]\nworkers = 2\n")
    (repository / "addb" / "servable.toml").write_text("[methods]\nhidden = true\n")
    with serving(repository, home / "scratch") as running:
        yield running


def ask(server: ServerProcess, method: str, *instances: dict[str, Any]) -> list[dict[str, Any]]:
    """Call ``servable:method`` by MindSpore Serving's REST; raises AssertionError on an error."""
    status, told = server.post(f"/model/{method}", {"instances": list(instances)})
    assert status == 200
    assert "instances" in told, told
    answers: list[dict[str, Any]] = told["instances"]
    return answers


def test_pipeline_of_two_models_adds_and_subtracts(server: ServerProcess) -> None:
    three = {**ADD, "x3": [[1.0, 1.0], [1.0, 1.0]]}
    (answer,) = ask(server, "add_sub:add_sub_only_model", three)
    assert answer == {"y": [[1.0, 2.0], [3.0, 4.0]]}


def test_pipeline_of_models_and_a_function_gives_values_of_every_stage(
    server: ServerProcess,
) -> None:
    given = {**ADD, "x3": [[1.0, 1.0], [1.0, 1.0]], "factor": 2.0}
    (answer,) = ask(server, "add_sub:add_scale_sub", given)
    assert answer == {"y": [[3.0, 5.0], [7.0, 9.0]], "sum": [[2.0, 3.0], [4.0, 5.0]]}


def test_pipeline_runs_models_side_by_side(server: ServerProcess) -> None:
    given = {**ADD, "x3": [[9.0, 9.0], [9.0, 9.0]]}
    (answer,) = ask(server, "add_sub:side_by_side", given)
    assert answer == {"both": [[2.0, 3.0], [4.0, 5.0]], "three": [[7.0, 6.0], [5.0, 4.0]]}


def test_pipeline_counts_each_method_and_each_model(server: ServerProcess) -> None:
    def counts() -> dict[str, int]:
        _, told = server.get("/v2/models/stats")
        return {m["name"]: m["inference_count"] for m in told["model_stats"]}

    before = counts()
    ask(server, "add_sub:add_sub_only_model", *[{**ADD, "x3": ADD["x1"]}] * 3)
    after = counts()
    risen = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert risen == {
        "add_sub:add_sub_only_model": 3,
        "add_sub:tensor_add.mindir": 3,
        "add_sub:tensor_sub.onnx": 3,
    }


def test_pipeline_without_models_passes_any_value(server: ServerProcess) -> None:
    values = [1, 2.5, True, "text", [1, 2, 3], [[1.5], [2.5]]]
    instances = [{"x": value} for value in values]
    assert [a["y"] for a in ask(server, "kinds:echo", *instances)] == values
    assert [a["y"] for a in ask(server, "kinds:passthrough", *instances)] == values


def test_pipeline_error_is_its_instance_s_own(server: ServerProcess) -> None:
    answers = ask(server, "kinds:fail_odd", {"x": 2}, {"x": 3}, {"x": 4})
    assert answers[0] == {"y": 2}
    assert answers[1] == {
        "error_msg": "Call Function 'kinds._fail' Failed, method: 'fail_odd', "
        "stage index(begin with 1): 1, error msg: odd value 3"
    }
    assert answers[2] == {"y": 4}


def test_pipeline_batches_what_comes_together(server: ServerProcess) -> None:
    answers = ask(server, "kinds:batchlen8", *[{"x": n} for n in range(20)])
    sizes = [answer["n"] for answer in answers]
    assert max(sizes) == 8
    assert sum(1 / size for size in sizes) == pytest.approx(round(sum(1 / s for s in sizes)))


def test_pipeline_function_calls_a_model_for_one_for_many_and_for_more_than_its_batch(
    server: ServerProcess,
) -> None:
    pair = {"x1": [1.5, 2.5], "x2": [0.5, 1.5]}
    (one,) = ask(server, "addb:via_call", pair)
    assert one == {"y": [2.0, 4.0]}
    many = ask(server, "addb:via_call_batch", *[pair] * 3)
    assert [answer["y"] for answer in many] == [[2.0, 4.0]] * 3
    (six,) = ask(server, "addb:via_call_six", pair)
    assert six == {"y": [[2.0, 4.0]] * 6}


def test_pipeline_keeps_inputs_without_a_batch_axis_apart(server: ServerProcess) -> None:
    instances = [{"x": [1.5, 2.5], "v": [float(n) + 0.5, 0.5]} for n in range(8)]
    answers = ask(server, "addb:predict_v", *instances)
    assert [answer["s"] for answer in answers] == [[n + 2.0, 3.0] for n in range(8)]


def test_pipeline_hidden_methods_are_there_only_if_asked_for(server: ServerProcess) -> None:
    (answer,) = ask(server, "addb:@call_add_b4.mindir_0", {"x0": [1.5, 2.5], "x1": [1.5, 2.5]})
    assert answer == {"y0": [3.0, 5.0]}
    _, told = server.post(
        "/model/add_sub:@call_tensor_add.mindir_0", {"instances": {"x0": [], "x1": []}}
    )
    assert "method is not available" in told["error_msg"]


def test_pipeline_runs_independent_stages_at_the_same_time(server: ServerProcess) -> None:
    (answer,) = ask(server, "here:side_by_side", {"seconds": 0.5})
    assert answer["overlap"] is True, answer


async def test_pipeline_slow_method_leaves_the_fast_one_its_way(server: ServerProcess) -> None:
    slow = asyncio.create_task(asyncio.to_thread(ask, server, "here:slow", {"seconds": 2.5}))
    await asyncio.sleep(0.3)
    for number in range(20):
        (answer,) = await asyncio.to_thread(ask, server, "here:fast", {"x": number})
        assert answer == {"y": number + 1}
    assert not slow.done(), "the fast ones waited for the slow one"
    await slow


def test_pipeline_keeps_several_instances_of_one_request_apart(server: ServerProcess) -> None:
    answers = ask(server, "here:fast", *[{"x": number} for number in range(600)])
    assert [answer["y"] for answer in answers] == list(range(1, 601))


def lent_bytes(server: ServerProcess) -> float:
    _, told = server.get("/metrics")
    (lent,) = [
        line for line in told.splitlines() if line.startswith("serving_tensor_memory_lent_bytes ")
    ]
    return float(lent.split()[1])


async def test_pipeline_holds_nothing_for_clients_that_left(server: ServerProcess) -> None:
    pair = {"x1": [1.5, 2.5], "x2": [0.5, 1.5]}
    asked = {
        "here:slow": {"seconds": 0.2},
        "here:side_by_side": {"seconds": 0.1},
        "addb:via_call_six": pair,
        "addb:predict": pair,
    }

    async def leave(http: httpx.AsyncClient, number: int) -> None:
        method = list(asked)[number % len(asked)]
        with contextlib.suppress(httpx.TimeoutException):
            body = {"instances": [asked[method]] * 5}
            await http.post(f"/model/{method}", json=body, timeout=0.005 + 0.01 * (number % 9))

    async with httpx.AsyncClient(base_url=server.base) as http:
        await asyncio.gather(*[leave(http, number) for number in range(64)])
    await asyncio.to_thread(until, lambda: lent_bytes(server) == 0, 20, "all memory to be back")
    assert ask(server, "here:fast", {"x": 1}) == [{"y": 2}]


def test_pipeline_ends_at_its_deadline(server: ServerProcess) -> None:
    body = json.dumps({"servable": "here", "method": "slow", "instances": [{"seconds": 5.0}]})
    headers = {"x-request-timeout-ms": "200", "content-type": "application/json"}
    told = httpx.post(f"{server.base}/predict", content=body, headers=headers, timeout=20)
    assert told.status_code == 504, told.text
    assert told.elapsed.total_seconds() < 4


def test_list_agrees_with_what_the_server_offers(server: ServerProcess) -> None:
    _, told = server.get("/v2/models/here")
    assert [method["name"] for method in told["methods"]] == ["side_by_side", "slow", "fast"]
