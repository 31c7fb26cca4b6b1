"""Methods that are one model: claimed, renamed, counted and refused without a walk."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import numpy as np
import pytest

from serving.channel.arena import Arena
from serving.definition import INPUTS, DeclaredModel, Definition, Function, Kind, Method, Node, Ref
from serving.errors import DeadlineExceeded, InternalError, InvalidRequest, Overloaded
from serving.request import Description, InferRequest, InferResponse
from serving.scheduling.line import Line, LineSettings
from serving.scheduling.pipeline.call import MethodCall
from serving.scheduling.pipeline.direct import DirectTicket
from serving.scheduling.pipeline.pipeline import Pipeline
from serving.scheduling.pipeline.port import Port
from serving.scheduling.pipeline.together import TogetherClaim
from serving.scheduling.scheduler import Scheduler
from serving.scheduling.sheaf import Sheaf
from serving.scheduling.stages.scheduler import StageScheduler
from serving.tensor import BF16, BYTES, FP32, BatchAxes, DType, Signature, Tensor, TensorSpec

A, B = Ref(INPUTS, 0), Ref(INPUTS, 1)
NET = Node(Kind.MODEL, "net", (B, A), 2)
SWAPPED = Method("swapped", ("a", "b"), ("p", "q"), (NET,), (Ref(0, 1), Ref(0, 0)))
PASSED = Method("passed", ("a", "b"), ("p", "a"), (NET,), (Ref(0, 0), A))
TWICE = Method("twice", ("a", "b"), ("p",), (NET, NET), (Ref(1, 0),))
CALLED = Method("called", ("a",), ("y",), (Node(Kind.FUNCTION, "f", (A,), 1),), (Ref(0, 0),))
WHOLE: tuple[int | None, ...] = (None, None)


class Bench:
    """A pipeline over one model without a worker: what is committed waits."""

    def __init__(
        self,
        *methods: Method,
        dtype: DType = FP32,
        axes: tuple[int | None, ...] = (0, 0),
        most: int = 10,
    ) -> None:
        first = "n" if axes == (0, 0) else 2
        signature, free = (
            Signature(
                (TensorSpec("x0", dtype, (dim, 3)), TensorSpec("x1", dtype, (dim, 3))),
                (TensorSpec("y0", dtype, (dim, 3)), TensorSpec("y1", dtype, (dim, 3))),
            )
            for dim in (first, "n")
        )
        batch = BatchAxes(True, "", (0, 0), (0, 0))
        arena = Arena(1 << 24)
        self.scheduler = Scheduler(arena)
        told = Description("m:net", 4, free, batch, 32, "", generation=9)
        rows = 1 if axes == (0, 0) else 2
        self.line = Line(5, told, LineSettings(), True, arena, None, rows)
        self.scheduler.add_line(self.line)
        base = Description(
            "m", 4, Signature((), ()), BatchAxes.refused(""), 32, "mindspore_serving", generation=9
        )
        definition = Definition((DeclaredModel(("net",), "onnx"),), (Function("f", 1, 1),), methods)
        port = Port(self.line, signature, axes, axes)
        self.pipeline = Pipeline(
            base, definition, {("net", 0): port}, self.scheduler, StageScheduler(arena),
            most=most, hidden=False,
        )  # fmt: skip

    def claim(self, method: str = "swapped", **given: Any) -> MethodCall | DirectTicket:
        return self.pipeline.claim(request(method, **given))

    def counted(self) -> tuple[int, int, int, list[str], list[str]]:
        """Return what the method has counted: in all, answered, under way, failed, refused."""
        seen = self.pipeline.snapshots(0.0, 0.0)[0]
        statistics = self.pipeline._entries["swapped"].statistics
        return (
            statistics.requests, seen.successes, seen.unfinished,
            [f.code for f in seen.failures], [r.code for r in seen.refusals],
        )  # fmt: skip


def request(method: str, *, shape: tuple[int, ...] = (1, 3), **more: Any) -> InferRequest:
    count = int(np.prod(shape))
    a = Tensor.of("a", np.arange(count, dtype=np.float32).reshape(shape))
    b = Tensor.of("b", -np.arange(count, dtype=np.float32).reshape(shape))
    return InferRequest("m", (b, a), method=method, id="r", priority=2, **more)


def answer(*shape: int) -> tuple[InferResponse, list[str]]:
    """Return an answer of the model, and a list that tells when it is released."""
    released: list[str] = []
    outputs = tuple(
        Tensor(name, FP32, shape, np.full(shape, number, np.float32))
        for name, number in (("y0", 10), ("y1", 11))
    )
    return InferResponse("m:net", 4, "r", outputs, lambda: released.append("once")), released


async def test_request_is_a_ticket_of_the_model_with_its_names_order_and_terms() -> None:
    bench = Bench(SWAPPED)
    ticket = bench.claim()
    assert isinstance(ticket, DirectTicket)
    assert ticket.line is bench.line
    assert [(t.name, t.shape) for t in ticket.inputs] == [("x0", (1, 3)), ("x1", (1, 3))]
    assert [t.array.tolist() for t in ticket.inputs if t.array is not None] == [
        [[-0.0, -1.0, -2.0]],
        [[0.0, 1.0, 2.0]],
    ]
    asked = ticket.request
    assert (asked.id, asked.priority, asked.servable) == ("r", 2, "m")
    assert (bench.line.waiting, bench.counted()) == (1, (1, 0, 1, [], []))
    bench.scheduler.abandon(ticket)
    assert (bench.line.waiting, bench.counted()) == (0, (1, 0, 0, ["cancelled"], []))


async def test_answer_is_the_method_s_in_names_order_and_shape() -> None:
    bench = Bench(SWAPPED)
    ticket = bench.claim()
    assert isinstance(ticket, DirectTicket)
    response, released = answer(1, 3)
    ticket.succeed(response)
    found = await ticket.answer
    assert [(t.name, t.shape) for t in found.outputs] == [("p", (1, 3)), ("q", (1, 3))]
    assert [t.array.max() for t in found.outputs if t.array is not None] == [11, 10]
    assert (found.servable, found.version, found.id, released) == ("m", 4, "r", [])
    found.release()
    assert (released, bench.counted()) == (["once"], (1, 1, 0, [], []))


async def test_answer_holds_what_was_asked_for() -> None:
    ticket = Bench(SWAPPED).claim(outputs=("q",))
    assert isinstance(ticket, DirectTicket)
    ticket.succeed(answer(1, 3)[0])
    assert [t.name for t in (await ticket.answer).outputs] == ["q"]


async def test_whole_instance_goes_in_as_all_its_rows_and_comes_out_as_one() -> None:
    bench = Bench(SWAPPED, axes=WHOLE)
    ticket = bench.claim(shape=(1, 2, 3))
    assert isinstance(ticket, DirectTicket)
    assert [t.shape for t in ticket.inputs] == [(2, 3), (2, 3)]
    assert ticket.rows == 2
    ticket.succeed(answer(2, 3)[0])
    assert [t.shape for t in (await ticket.answer).outputs] == [(1, 2, 3), (1, 2, 3)]


async def test_bytes_count_and_not_shapes_and_the_model_s_sizes_are_exact() -> None:
    bench = Bench(SWAPPED, axes=WHOLE)
    assert isinstance(bench.claim(shape=(1, 6)), DirectTicket)
    for shape in ((1, 1, 3), (1, 4, 3)):
        call = bench.claim(shape=shape)
        assert isinstance(call, MethodCall)
        call.start()
        with pytest.raises(InvalidRequest, match="not match the size 24 defined in model"):
            await call.answer


async def test_output_that_is_no_row_is_an_error_and_gives_its_memory_back() -> None:
    bench = Bench(SWAPPED)
    ticket = bench.claim()
    assert isinstance(ticket, DirectTicket)
    response, released = answer(2, 3)
    ticket.succeed(response)
    with pytest.raises(InternalError, match="does not have the one row it should"):
        await ticket.answer
    assert (released, bench.counted()) == (["once"], (1, 0, 0, ["internal"], []))


@pytest.mark.parametrize("method", ["passed", "twice", "called"])
async def test_method_that_is_more_than_a_model_is_walked(method: str) -> None:
    bench = Bench(PASSED, TWICE, CALLED)
    assert all(entry.direct is None for entry in bench.pipeline._entries.values())
    asked = request(method)
    if method == "called":
        asked = asked._replace(inputs=asked.inputs[1:])
    assert isinstance(bench.pipeline.claim(asked), MethodCall)


@pytest.mark.parametrize("dtype", [BF16, BYTES], ids=repr)
async def test_model_whose_values_change_on_the_way_is_walked(dtype: DType) -> None:
    bench = Bench(SWAPPED, dtype=dtype)
    assert bench.pipeline._entries["swapped"].direct is None


async def test_request_of_several_instances_is_walked() -> None:
    assert isinstance(Bench(SWAPPED).claim(shape=(2, 3)), MethodCall)


async def test_names_are_checked_as_ever() -> None:
    bench = Bench(SWAPPED)
    with pytest.raises(InvalidRequest, match="has no output 'c'"):
        bench.claim(outputs=("c",))
    asked = request("swapped")
    with pytest.raises(InvalidRequest, match="needs input 'a'"):
        bench.pipeline.claim(asked._replace(inputs=asked.inputs[:1]))
    assert bench.counted() == (0, 0, 0, [], ["missing_input", "unknown_output"])


async def test_full_pipeline_refuses_and_counts_it() -> None:
    bench = Bench(SWAPPED, most=2)
    tickets = [bench.claim() for _ in range(2)]
    with pytest.raises(Overloaded) as caught:
        bench.claim()
    assert caught.value.limit == 2
    assert bench.counted() == (2, 0, 2, [], ["queue_full"])
    assert isinstance(tickets[0], DirectTicket)
    bench.scheduler.abandon(tickets[0])
    bench.claim()


async def test_request_that_comes_too_late_is_refused_and_leaves_nothing() -> None:
    bench = Bench(SWAPPED)
    with pytest.raises(DeadlineExceeded):
        bench.claim(deadline=0.0)
    assert bench.counted() == (0, 0, 0, [], ["deadline_exceeded"])
    assert (bench.line.waiting, bench.line.outstanding) == (0, 0)


async def test_drain_waits_for_tickets_and_leaves_late_ones_to_their_line() -> None:
    bench = Bench(SWAPPED)
    ticket = bench.claim()
    assert isinstance(ticket, DirectTicket)
    await bench.pipeline.drain(0.01)
    assert not ticket.closed
    bench.scheduler.abandon(ticket)
    await bench.pipeline.drain(20.0)  # at once: nothing is under way


# -- callers who come together --------------------------------------------------------------------

Heard = list[tuple[int, int, InferResponse | BaseException]]


def together(
    bench: Bench, callers: int, method: str = "swapped", size: int = 1, unit: int = 1, **more: Any
) -> tuple[TogetherClaim | None, Heard]:
    """Bring so many callers, whose instances have shape [size,3] (size 1: [3])."""
    heard: Heard = []
    shape = (callers, 3) if size == 1 else (callers, size, 3)
    asked = request(method, shape=shape)._replace(id="", priority=0, **more)
    return bench.pipeline.take_rows(asked, unit, lambda *told: heard.append(told)), heard


def sheaf_of(claim: TogetherClaim | None) -> Sheaf:
    assert claim is not None
    assert claim.claim is not None
    (sheaf,) = claim.claim.sheaves
    return sheaf


async def test_callers_with_several_instances_each_come_one_by_one() -> None:
    bench = Bench(SWAPPED)
    claim, heard = together(bench, 4, unit=2)
    assert (claim, heard, bench.line.waiting) == (None, [], 0)


async def test_callers_come_as_rows_of_the_model_and_hear_what_the_method_answers() -> None:
    bench = Bench(SWAPPED)
    claim, heard = together(bench, 3)
    sheaf = sheaf_of(claim)
    assert [(t.name, t.shape) for t in sheaf.inputs] == [("x0", (3, 3)), ("x1", (3, 3))]
    assert [t.array.ravel()[-1] for t in sheaf.inputs if t.array is not None] == [-8, 8]
    assert (bench.line.waiting, bench.counted()) == (3, (3, 0, 3, [], []))
    response, released = answer(3, 3)
    sheaf.succeed(response)
    ((first, count, found),) = heard
    assert isinstance(found, InferResponse)
    assert (first, count, found.servable, found.version) == (0, 3, "m", 4)
    assert [(t.name, t.shape) for t in found.outputs] == [("p", (3, 3)), ("q", (3, 3))]
    assert [t.array.max() for t in found.outputs if t.array is not None] == [11, 10]
    assert (released, bench.counted()) == ([], (3, 3, 0, [], []))


async def test_whole_instances_of_callers_stand_behind_one_another() -> None:
    bench = Bench(SWAPPED, axes=WHOLE)
    claim, heard = together(bench, 2, size=2)
    sheaf = sheaf_of(claim)
    assert (sheaf.rows, sheaf.callers) == (4, 2)
    assert [t.shape for t in sheaf.inputs] == [(4, 3), (4, 3)]
    sheaf.succeed(answer(4, 3)[0])
    ((_, _, found),) = heard
    assert isinstance(found, InferResponse)
    assert [t.shape for t in found.outputs] == [(2, 2, 3), (2, 2, 3)]
    assert bench.counted() == (2, 2, 0, [], [])


async def test_callers_hear_of_the_outputs_that_they_asked_for() -> None:
    claim, heard = together(Bench(SWAPPED), 2, outputs=("q",))
    sheaf_of(claim).succeed(answer(2, 3)[0])
    ((_, _, found),) = heard
    assert isinstance(found, InferResponse)
    assert [t.name for t in found.outputs] == ["q"]


async def test_caller_who_leaves_is_counted_and_hears_nothing() -> None:
    bench = Bench(SWAPPED)
    claim, heard = together(bench, 3)
    assert claim is not None
    for _ in range(2):  # the second time there is nobody
        bench.pipeline.abandon_row(claim, 1)
        assert (bench.line.waiting, bench.counted()) == (2, (3, 0, 2, ["cancelled"], []))
    assert claim.claim is not None
    singles = claim.claim.singles
    for caller in (0, 2):
        singles[caller].succeed(answer(1, 3)[0])
    assert [(first, count) for first, count, _ in heard] == [(0, 1), (2, 1)]
    assert bench.counted() == (3, 2, 0, ["cancelled"], [])
    await bench.pipeline.drain(20.0)  # at once: nobody is under way


async def test_caller_who_leaves_when_its_error_is_on_its_way_is_counted_once() -> None:
    bench = Bench(SWAPPED)
    claim, heard = together(bench, 2)
    assert claim is not None
    bench.scheduler.fail_line(bench.line, InternalError("it broke"))
    bench.pipeline.abandon_row(claim, 0)
    await asyncio.sleep(0)
    assert [(first, count) for first, count, _ in heard] == [(0, 2)]
    assert bench.counted() == (2, 0, 0, ["internal"], [])


async def test_output_that_has_not_the_callers_rows_is_an_error_of_all() -> None:
    bench = Bench(SWAPPED)
    claim, heard = together(bench, 2)
    response, released = answer(3, 3)
    sheaf_of(claim).succeed(response)
    ((_, count, found),) = heard
    assert isinstance(found, InternalError)
    assert (count, released, bench.counted()) == (2, ["once"], (2, 0, 0, ["internal"], []))


async def test_callers_come_one_by_one_where_they_cannot_come_together() -> None:
    bench = Bench(SWAPPED, TWICE, most=3)
    assert together(bench, 2, "twice")[0] is None
    assert together(bench, 4)[0] is None  # more than may be under way
    assert together(bench, 2)[0] is not None
    assert together(bench, 2)[0] is None
    bench.claim()
    with pytest.raises(Overloaded):
        bench.claim()
    frozen = Bench(SWAPPED, axes=WHOLE)
    assert together(frozen, 2, size=3)[0] is None  # not the instance that the model has
    assert frozen.counted() == (0, 0, 0, [], [])


async def test_nothing_of_callers_who_have_heard_is_left_to_the_garbage_collector() -> None:
    bench = Bench(SWAPPED)
    claim, _ = together(bench, 2)
    gc.collect()
    gc.disable()
    try:
        sheaf_of(claim).succeed(answer(2, 3)[0])
        claim = None
        left = [kind for each in gc.get_objects() if (kind := type(each)) in (Sheaf, TogetherClaim)]
        # The batch, which no run has taken here, still has the sheaf.
        assert left == [Sheaf]
    finally:
        gc.enable()
