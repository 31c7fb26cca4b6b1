"""What the client does step by step: attempts and pauses, and descriptions that grow old."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pytest

from serving.client import retry
from serving.client.steps import Ask, Order, Pause, Steps, Talk
from serving.errors import (
    DeadlineExceeded,
    ExecutionFailed,
    InvalidRequest,
    NotFound,
    Overloaded,
    ServingError,
    Unavailable,
)
from serving.request import Description
from serving.tensor import BY_NAME, BatchAxes, Signature, Tensor, TensorSpec
from serving.v1 import description, tensors
from serving.v1.stubs import serving_v1_pb2 as pb

T = TypeVar("T")


def gone() -> Unavailable:
    return Unavailable("nothing listens", code="no_server")


def servable(dtype: str, version: int = 1) -> Description:
    specs = (TensorSpec("x", BY_NAME[dtype], ("n",)),)
    signature = Signature(specs, specs)
    return Description("m", version, signature, BatchAxes.refused(""), 0, "p")


class Play:
    """Carries steps out against a script; time passes only in pauses and as the script says."""

    def __init__(self, answer: Callable[[Ask], bytes | ServingError], retries: int = 3) -> None:
        self._answer = answer
        self.now = 100.0
        self.asks: list[Ask] = []
        self.pauses: list[float] = []
        self.talk = Talk(retries, lambda: self.now, lambda: 1.0)

    def run(self, steps: Steps[T]) -> T:
        reply: Any = None
        try:
            while True:
                step = steps.throw(reply) if isinstance(reply, Exception) else steps.send(reply)
                if isinstance(step, Pause):
                    self.pauses.append(step.seconds)
                    self.now += step.seconds
                    reply = b""
                else:
                    self.asks.append(step)
                    reply = self._answer(step)
        except StopIteration as end:
            result: T = end.value
            return result


class Server:
    """Echoes ``x`` of a servable whose version may change; refuses another dtype."""

    def __init__(self, known: Description) -> None:
        self.known = known

    def __call__(self, ask: Ask) -> bytes | ServingError:
        if ask.method == "Describe":
            return bytes(description.to_message(self.known).SerializeToString())
        sent = pb.PredictRequest.FromString(ask.payload).inputs[0]
        if sent.dtype != self.known.signature.inputs[0].dtype.name:
            return InvalidRequest("another dtype", code="wrong_dtype")
        head = pb.PredictResponse(servable="m", version=self.known.version, outputs=[sent])
        return bytes(head.SerializeToString())

    def methods(self, play: Play) -> list[str]:
        return [ask.method for ask in play.asks]


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (gone(), True),
        (Unavailable("loading", code="not_ready", retry_after_s=1.0), True),
        (Unavailable("failed to load", code="not_ready"), False),
        (Unavailable("worker lost", code="worker_lost", retry_after_s=1.0), False),
        (Unavailable("reset", code="connection_lost"), False),
        (Overloaded("full", retry_after_s=1.0), False),
        (DeadlineExceeded("late"), False),
        (ExecutionFailed("bad values"), False),
        (NotFound("none"), False),
    ],
)
def test_only_what_surely_did_not_run_is_sent_again(error: ServingError, again: bool) -> None:
    assert (retry.pause_s(error, 0, 3, 0.5) is not None) is again
    assert retry.pause_s(error, 3, 3, 0.5) is None


def test_pauses_grow_are_bounded_and_spread() -> None:
    late = [retry.pause_s(gone(), attempt, 99, 1.0) for attempt in range(12)]
    early = [retry.pause_s(gone(), attempt, 99, 0.0) for attempt in range(12)]
    assert late[:3] == [0.05, 0.1, 0.2]
    assert late[-1] == retry.LONGEST_PAUSE_S
    assert early == [pause / 2 for pause in late if pause is not None]


def test_a_server_that_says_when_is_waited_for() -> None:
    loading = Unavailable("loading", code="not_ready", retry_after_s=1.5)
    assert retry.pause_s(loading, 0, 3, 0.5) == 1.5


def test_calls_are_made_again_until_they_work() -> None:
    script = [gone(), gone(), pb.ListResponse().SerializeToString()]
    play = Play(lambda _: script.pop(0))
    assert play.run(play.talk.servables(None)) == []
    assert play.pauses == [0.05, 0.1]


def test_the_last_error_is_raised_when_retries_are_used_up() -> None:
    play = Play(lambda _: gone(), retries=2)
    with pytest.raises(Unavailable):
        play.run(play.talk.servables(None))
    assert len(play.asks) == 3


def test_attempts_share_one_deadline() -> None:
    def slow(ask: Ask) -> ServingError:
        assert ask.timeout_s is not None
        play.now += min(0.4, ask.timeout_s)
        return gone()

    play = Play(slow, retries=99)
    with pytest.raises(Unavailable):
        play.run(play.talk.servables(play.talk.deadline(1.0)))
    assert [round(ask.timeout_s or 0, 3) for ask in play.asks] == [1.0, 0.55, 0.05]
    assert play.now == pytest.approx(101.0)


def test_a_description_is_asked_for_once() -> None:
    server = Server(servable("FP32"))
    play = Play(server)
    for _ in range(3):
        answer = play.run(play.talk.predict(Order("m"), [1, 2], None))
        np.testing.assert_array_equal(answer["x"], np.array([1, 2], np.float32))
    assert server.methods(play) == ["Describe", "Predict", "Predict", "Predict"]


def test_a_new_signature_is_learnt_on_the_first_refusal() -> None:
    server = Server(servable("FP32"))
    play = Play(server)
    play.run(play.talk.predict(Order("m"), [1], None))
    server.known = servable("INT64", version=2)
    answer = play.run(play.talk.predict(Order("m"), [1], None))
    assert (answer.version, answer["x"].dtype) == (2, np.int64)
    assert server.methods(play)[2:] == ["Predict", "Describe", "Predict"]


def test_a_new_version_is_described_before_the_request_after_it() -> None:
    server = Server(servable("FP32"))
    play = Play(server)
    play.run(play.talk.predict(Order("m"), [1], None))
    server.known = servable("FP32", version=2)
    play.run(play.talk.predict(Order("m"), [1], None))
    play.run(play.talk.predict(Order("m"), [1], None))
    assert server.methods(play)[2:] == ["Predict", "Describe", "Predict"]


def test_rows_learn_a_new_signature_after_one_refusal() -> None:
    server = Server(servable("FP32"))
    play = Play(server)
    known = play.run(play.talk.describe("m", None, None, None))
    server.known = servable("INT64", version=2)
    one = [Tensor.of("x", np.array([1], np.float32))]
    with pytest.raises(InvalidRequest):
        play.run(play.talk.send(Order("m"), one, known, None))
    assert play.run(play.talk.describe("m", None, None, None)).version == 2


def test_a_wrong_request_is_refused_once_where_the_signature_is_the_same() -> None:
    server = Server(servable("FP32"))
    play = Play(server)
    play.run(play.talk.predict(Order("m"), [1], None))
    with pytest.raises(InvalidRequest):
        play.run(play.talk.predict(Order("m"), np.array([1.0]), None))
    assert server.methods(play)[2:] == ["Describe"]


def test_a_tuple_is_in_order_and_must_be_complete() -> None:
    play = Play(Server(servable("FP32")))
    assert play.run(play.talk.predict(Order("m"), ([1],), None))["x"].tolist() == [1]
    with pytest.raises(InvalidRequest) as refused:
        play.run(play.talk.predict(Order("m"), ([1], [2]), None))
    assert refused.value.code == "wrong_count"


def test_all_that_is_ordered_is_sent() -> None:
    play = Play(Server(servable("FP32")))
    order = Order("m", 1, "predict", ("x",), "id-1", 3)
    play.run(play.talk.predict(order, [1.5], None))
    sent = pb.PredictRequest.FromString(play.asks[-1].payload)
    one = [(Tensor.of("x", np.array([1.5], np.float32)), False)]
    whole = tensors.pack(b"", tensors.REQUEST_INPUTS, one)
    inputs = pb.PredictRequest.FromString(whole).inputs
    assert sent == pb.PredictRequest(
        servable="m", version=1, method="predict", outputs=["x"], id="id-1", priority=3,
        inputs=inputs,
    )  # fmt: skip


def test_waiting_ends_with_the_first_yes() -> None:
    script = [gone(), pb.ReadyResponse().SerializeToString(), pb.ReadyResponse(ready=True)]
    answers: list[Any] = [*script[:2], script[2].SerializeToString()]
    play = Play(lambda _: answers.pop(0))
    play.run(play.talk.wait_until_ready("here", None, 5.0))
    assert len(play.asks) == 3


def test_waiting_ends_in_time_and_says_for_what() -> None:
    play = Play(lambda _: gone())
    with pytest.raises(DeadlineExceeded, match="servable 'm' on here was not ready within 2 s"):
        play.run(play.talk.wait_until_ready("here", "m", 2.0))
    assert 101.8 < play.now <= 102


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan")])
def test_a_timeout_must_be_above_zero(timeout_s: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Talk(0).deadline(timeout_s)
