"""What a version's methods offer, take in, count and refuse; without workers."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from serving.channel.arena import Arena
from serving.definition import INPUTS, DeclaredModel, Definition, Function, Kind, Method, Node, Ref
from serving.errors import InvalidRequest, NotFound, Overloaded, Unavailable
from serving.request import Description, InferRequest
from serving.scheduling.crowd import Crowd, CrowdLimits
from serving.scheduling.pipeline.pipeline import Pipeline
from serving.scheduling.pipeline.port import Port
from serving.scheduling.scheduler import Scheduler
from serving.scheduling.stages.scheduler import StageScheduler
from serving.tensor import ANY, FP32, BatchAxes, Signature, Tensor, TensorSpec

X, Y = Ref(INPUTS, 0), Ref(INPUTS, 1)
NET = Node(Kind.MODEL, "net", (X,), 1)
CALL = Node(Kind.FUNCTION, "f", (X,), 1)
SWAP = Method("swap", ("x", "y"), ("a", "b"), (), (Y, X))
CLASSIFY = Method("classify", ("x",), ("scores", "x"), (NET,), (Ref(0, 0), X))
OPEN = Method("open", ("x",), ("y",), (CALL,), (Ref(0, 0),))


def port() -> Port:
    specs = (TensorSpec("in", FP32, ("n", 3)),), (TensorSpec("out", FP32, ("n", 10)),)
    description = Description("m:net", 1, Signature(*specs), BatchAxes.refused(""), 0, "")
    line: Any = SimpleNamespace(
        description=description, model=5, snapshot=lambda _now, _clock_s: None
    )
    return Port(line, description.signature, (0,), (0,))


def build(
    *methods: Method, hidden: bool = False, most: int = 10, crowd: Crowd | None = None
) -> Pipeline:
    arena = Arena(1 << 24)
    base = Description(
        "m", 1, Signature((), ()), BatchAxes.refused(""), 32, "mindspore_serving", generation=9
    )
    definition = Definition((DeclaredModel(("net",), "onnx"),), (Function("f", 1, 1),), methods)
    return Pipeline(
        base, definition, {("net", 0): port()}, Scheduler(arena), StageScheduler(arena),
        most=most, hidden=hidden, crowd=crowd,
    )  # fmt: skip


def request(method: str | None, **inputs: int) -> InferRequest:
    tensors = [Tensor.of(name, np.array([value], np.int32)) for name, value in inputs.items()]
    return InferRequest("m", tuple(tensors), method=method)


def test_description_tells_what_models_say_and_leaves_the_rest_open() -> None:
    pipeline = build(CLASSIFY, OPEN)
    known = pipeline.description("classify")
    assert known.signature.inputs == (TensorSpec("x", FP32, ("", 3)),)
    assert known.signature.outputs == (
        TensorSpec("scores", FP32, ("", 10)),
        TensorSpec("x", FP32, ("", 3)),
    )
    assert (known.method, known.methods, known.generation) == ("classify", ("classify", "open"), 9)
    assert (known.batch.batched, known.batch.inputs, known.batch.outputs) == (True, (0,), (0, 0))
    free = pipeline.description("open")
    assert free.signature.inputs == (TensorSpec("x", ANY, None),)
    assert free.signature.outputs == (TensorSpec("y", ANY, None),)


def test_method_may_be_left_out_if_there_is_one_or_one_called_predict() -> None:
    assert build(SWAP).description(None).method == "swap"
    predict = Method("predict", ("x",), ("y",), (), (X,))
    assert build(SWAP, predict).description("").method == "predict"
    with pytest.raises(NotFound, match="several methods: name one; expected one of 'open', 'swap'"):
        build(SWAP, OPEN).description(None)


def test_unknown_method_is_named_with_the_nearest() -> None:
    with pytest.raises(NotFound, match="did you mean 'swap'") as caught:
        build(SWAP, OPEN).description("swab")
    assert caught.value.code == "unknown_method"


def test_hidden_methods_are_there_if_asked_for_and_never_listed() -> None:
    pipeline = build(CLASSIFY, hidden=True)
    hidden = pipeline.description("@call_net_0")
    assert [spec.name for spec in hidden.signature.inputs] == ["x0"]
    assert [spec.name for spec in hidden.signature.outputs] == ["y0"]
    assert hidden.methods == ("classify",)
    with pytest.raises(NotFound):
        build(CLASSIFY).description("@call_net_0")


def test_hidden_methods_are_listed_where_a_servable_has_no_others() -> None:
    pipeline = build(hidden=True)
    assert pipeline.names == ("@call_net_0",)
    assert pipeline.description(None).method == "@call_net_0"


async def test_claim_answers_by_the_inputs_names_in_any_order() -> None:
    call = build(SWAP).claim(request("swap", y=2, x=1))
    assert not call.answer.done(), "nothing runs before it is committed"
    call.start()
    response = await call.answer
    assert [(t.name, int(t.array[0])) for t in response.outputs if t.array is not None] == [
        ("a", 2),
        ("b", 1),
    ]
    assert (response.servable, response.version) == ("m", 1)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (request("swap", x=1), "missing_input"),
        (request("swap", x=1, y=2, z=3), "unknown_input"),
        (request("swap", x=1, y=2)._replace(outputs=("c",)), "unknown_output"),
    ],
)
async def test_claim_refuses_wrong_names_and_counts_it(asked: InferRequest, code: str) -> None:
    pipeline = build(SWAP)
    with pytest.raises(InvalidRequest) as caught:
        pipeline.claim(asked)
    assert caught.value.code == code
    counted = pipeline.snapshots(0.0, 0.0)[0]
    assert counted.servable == "m:swap"
    assert [refusal.code for refusal in counted.refusals] == [code]


async def test_claim_takes_no_more_than_there_may_be() -> None:
    pipeline = build(SWAP, most=2)
    calls = [pipeline.claim(request("swap", x=1, y=2)) for _ in range(2)]
    with pytest.raises(Overloaded) as caught:
        pipeline.claim(request("swap", x=1, y=2))
    assert caught.value.limit == 2
    calls[0].abandon()
    pipeline.claim(request("swap", x=1, y=2)).abandon()
    calls[1].abandon()


async def test_requests_of_methods_count_among_all_that_wait_until_they_are_answered() -> None:
    crowd = Crowd(CrowdLimits(requests=2))
    pipeline = build(SWAP, crowd=crowd)
    calls = [pipeline.claim(request("swap", x=1, y=2)) for _ in range(2)]
    assert (crowd.waiting, crowd.waiting_bytes) == (2, 16)
    with pytest.raises(Overloaded, match="at most 2 requests waiting for all servables"):
        pipeline.claim(request("swap", x=1, y=2))
    calls[0].abandon()
    calls[1].start()
    (await calls[1].answer).release()
    assert (crowd.waiting, crowd.waiting_bytes) == (0, 0)


async def test_value_that_the_model_cannot_take_fails_in_its_words() -> None:
    call = build(CLASSIFY).claim(request("classify", x=1))
    call.start()
    with pytest.raises(InvalidRequest, match="input 0 size 4 not match the size 12"):
        await call.answer


async def test_drain_waits_for_what_is_under_way_and_fails_what_is_late() -> None:
    pipeline = build(SWAP)
    soon, late = (pipeline.claim(request("swap", x=1, y=2)) for _ in range(2))
    draining = asyncio.create_task(pipeline.drain(0.3))
    await asyncio.sleep(0.02)
    soon.start()
    assert not draining.done()
    await draining
    assert (await soon.answer).version == 1
    with pytest.raises(Unavailable, match="unloaded"):
        await late.answer


def test_pipeline_serves_while_its_models_and_functions_have_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = {"model": True, "stages": True}
    monkeypatch.setattr(Scheduler, "has_slot", lambda self, model: there["model"])
    monkeypatch.setattr(StageScheduler, "has_worker", lambda self, generation: there["stages"])
    models, functions = build(CLASSIFY), build(OPEN)
    assert (models.serves, functions.serves) == (True, True)
    there["stages"] = False
    assert (models.serves, functions.serves) == (True, False)
    there["model"] = False
    assert (models.serves, functions.serves) == (False, False)
