"""Whatever is batched with whatever, every answer is the bare engine's, bit for bit."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.errors import ExecutionFailed, ServingError
from serving.scheduling.line import Line, LineSettings
from serving.scheduling.ticket import Ticket
from serving.tensor import BY_NAME, BYTES, FP32, INT64, Array, BatchAxes, Tensor
from tests import models
from tests.e2e.fleet import Fleet, Pause, fleet

few = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SMALL = LineSettings(max_batch_size=8)
ROWS = BatchAxes(True, "test", (0,), (0,))
ALONE = BatchAxes.refused("test")


@dataclass
class Bench:
    """Workers, and the models that a test has opened on them."""

    fleet: Fleet
    folder: Path
    lines: dict[str, tuple[Line, Path]] = field(default_factory=dict)

    def line(
        self, key: str, build: object, axes: BatchAxes, *, static: bool = True
    ) -> tuple[Line, Path]:
        if key not in self.lines:
            path = build(self.folder / f"{key}.onnx")  # type: ignore[operator]
            self.lines[key] = self.fleet.open(path, axes, SMALL, static=static), path
        return self.lines[key]


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    with fleet(request.param) as running:
        yield Bench(running, tmp_path_factory.mktemp("models"))


def bare(path: Path, feed: dict[str, object]) -> list[Array]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    outputs: list[Array] = session.run(None, feed)
    return outputs


Arrivals = Sequence[tuple[Pause, Pause]]


def check(
    bench: Bench,
    key: tuple[Line, Path],
    requests: Sequence[dict[str, Array]],
    arriving: Arrivals,
) -> None:
    """Send arrays and compare each answer with a run of the bare engine on it alone."""
    line, path = key
    tensors = [[Tensor.of(name, array) for name, array in feed.items()] for feed in requests]
    answers = bench.fleet.ask(line, tensors, arriving)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for feed, answer in zip(requests, answers, strict=True):
        assert isinstance(answer, list), answer
        for got, wanted in zip(answer, session.run(None, dict(feed)), strict=True):
            assert got.array is not None
            assert got.shape == wanted.shape
            assert got.array.dtype == wanted.dtype
            assert got.array.tobytes() == wanted.tobytes()


def noise(seed: int, dtype: str, shape: tuple[int, ...]) -> Array:
    """Return any bits at all, except that a BOOL is 0 or 1."""
    kind = BY_NAME[dtype].numpy
    assert kind is not None
    random = np.random.default_rng(seed)
    if dtype == "BOOL":
        return random.integers(0, 2, shape).astype(bool)
    raw = random.integers(0, 256, int(np.prod(shape)) * kind.itemsize, dtype=np.uint8)
    return raw.view(kind).reshape(shape)


DTYPES = [n for n in BY_NAME if n not in ("BYTES", "BF16")]
counts = st.lists(st.integers(1, 11), min_size=1, max_size=12)
seeds = st.integers(0, 2**32 - 1)
pauses = st.builds(Pause, st.integers(0, 6), st.sampled_from([0.0, 0.0, 0.0, 0.1, 0.3, 0.9]))
arrivals = st.lists(st.tuples(pauses, pauses), max_size=12)
"""From all at once (an empty list) to one after the other."""


@few
@given(
    dtype=st.sampled_from(DTYPES),
    row=st.sampled_from([(), (1,), (3,), (5, 7), (2, 1, 3)]),
    rows=counts,
    seed=seeds,
    arriving=arrivals,
)
def test_batching_of_any_dtype_and_shape_equals_the_bare_engine(
    bench: Bench, dtype: str, row: tuple[int, ...], rows: list[int], seed: int, arriving: Arrivals
) -> None:
    shape = ("batch", *row)
    name = f"id-{dtype}-{'x'.join(map(str, row))}"
    line = bench.line(name, lambda p: models.identity(p, dtype, shape), ROWS)
    check(
        bench,
        line,
        [{"x": noise(seed + i, dtype, (n, *row))} for i, n in enumerate(rows)],
        arriving,
    )


@few
@given(
    rows=counts,
    widths=st.lists(st.integers(0, 5), min_size=12, max_size=12),
    seed=seeds,
    arriving=arrivals,
)
def test_batching_of_mixed_widths_keeps_them_apart(
    bench: Bench, rows: list[int], widths: list[int], seed: int, arriving: Arrivals
) -> None:
    line = bench.line("width", models.variable_width, ROWS)
    random = np.random.default_rng(seed)
    requests = [
        {"x": random.normal(size=(n, w)).astype(np.float32)}
        for n, w in zip(rows, widths, strict=False)
    ]
    check(bench, line, requests, arriving)


@few
@given(rows=counts, seed=seeds, arriving=arrivals)
def test_batching_of_several_inputs_and_outputs_equals_the_bare_engine(
    bench: Bench, rows: list[int], seed: int, arriving: Arrivals
) -> None:
    axes = BatchAxes(True, "test", (0, 0), (0, 0, 0))
    random = np.random.default_rng(seed)
    requests: list[dict[str, Array]] = [
        # Small whole numbers: their sums are exact in any order.
        {
            "left": random.integers(-99, 99, (n, 3)).astype(np.float32),
            "right": random.integers(-(2**62), 2**62, (n, 2)),
        }
        for n in rows
    ]
    check(bench, bench.line("multi", models.multi, axes), requests, arriving)


@few
@given(
    rows=counts,
    scales=st.lists(st.sampled_from([0.5, 2.0]), min_size=12, max_size=12),
    arriving=arrivals,
)
def test_batching_joins_only_requests_with_the_same_shared_input(
    bench: Bench, rows: list[int], scales: list[float], arriving: Arrivals
) -> None:
    line = bench.line("scale", models.scalar_input, BatchAxes(True, "test", (0, None), (0,)))
    requests = [
        {"x": np.full((n, 4), i + 1, np.float32), "scale": np.array(s, np.float32)}
        for i, (n, s) in enumerate(zip(rows, scales, strict=False))
    ]
    check(bench, line, requests, arriving)


@few
@given(rows=counts, seed=seeds, arriving=arrivals)
def test_batching_on_another_axis_equals_the_bare_engine(
    bench: Bench, rows: list[int], seed: int, arriving: Arrivals
) -> None:
    random = np.random.default_rng(seed)
    line = bench.line(
        "axis1",
        lambda p: models.identity(p, "INT32", (2, "batch", 3)),
        BatchAxes(True, "test", (1,), (1,)),
    )
    requests = [{"x": random.integers(-(2**31), 2**31, (2, n, 3), np.int32)} for n in rows]
    check(bench, line, requests, arriving)


@few
@given(rows=counts, seed=seeds, arriving=arrivals)
def test_batching_of_a_frozen_batch_size_gives_everyone_their_own_rows(
    bench: Bench, rows: list[int], seed: int, arriving: Arrivals
) -> None:
    line, _ = bench.line("fixed", lambda p: models.identity(p, "INT64", (4, 2)), ROWS)
    feeds = [noise(seed + i, "INT64", (n, 2)) for i, n in enumerate(rows)]
    answers = bench.fleet.ask(line, [[Tensor.of("x", feed)] for feed in feeds], arriving)
    for feed, answer in zip(feeds, answers, strict=True):
        assert isinstance(answer, list), answer
        assert np.array_equal(answer[0].array, feed)


def test_batching_of_a_frozen_batch_size_spares_rows_that_are_not_committed(
    bench: Bench,
) -> None:
    line, _ = bench.line("fixed", lambda p: models.identity(p, "INT64", (4, 2)), ROWS)

    async def story() -> None:
        scheduler = bench.fleet.scheduler
        first, second = (
            bench.fleet.claim(line, [Tensor.of("x", np.full((1, 2), n, np.int64))]) for n in (7, 8)
        )
        scheduler.commit(first)
        one = await bench.fleet.answer(first)
        scheduler.commit(second)
        two = await bench.fleet.answer(second)
        for answer, number in ((one, 7), (two, 8)):
            assert isinstance(answer, list), answer
            assert np.array_equal(answer[0].array, np.full((1, 2), number))

    bench.fleet.run(story())


@few
@given(
    words=st.lists(
        st.lists(st.sampled_from(["zero", "one", "two", "", "ünknown", "x" * 999]), min_size=1),
        min_size=1,
        max_size=10,
    ),
    arriving=arrivals,
)
def test_batching_of_strings_equals_the_bare_engine(
    bench: Bench, words: list[list[str]], arriving: Arrivals
) -> None:
    line, path = bench.line("words", models.string_lookup, ROWS)
    requests = [[Tensor("word", BYTES, (len(w),), items=[s.encode() for s in w])] for w in words]
    for given_, answer in zip(words, bench.fleet.ask(line, requests, arriving), strict=True):
        assert isinstance(answer, list), answer
        (wanted,) = bare(path, {"word": np.array(given_, dtype=object)})
        assert np.array_equal(answer[0].array, wanted)


@few
@given(
    words=st.lists(
        st.lists(st.text(max_size=9).filter(lambda s: "\0" not in s), min_size=1, max_size=11),
        min_size=1,
        max_size=9,
    ),
    arriving=arrivals,
)
def test_batching_of_string_outputs_gives_everyone_their_own(
    bench: Bench, words: list[list[str]], arriving: Arrivals
) -> None:
    line, _ = bench.line("echo", lambda p: models.identity(p, "BYTES", ("batch",)), ROWS)
    items = [[s.encode() for s in w] for w in words]
    requests = [[Tensor("x", BYTES, (len(w),), items=w)] for w in items]
    for wanted, answer in zip(items, bench.fleet.ask(line, requests, arriving), strict=True):
        assert isinstance(answer, list), answer
        assert list(answer[0].items or ()) == wanted


@few
@given(
    values=st.lists(
        st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=9), min_size=1, max_size=8
    ),
    arriving=arrivals,
)
def test_batching_leaves_sizes_that_depend_on_the_data_alone(
    bench: Bench, values: list[list[float]], arriving: Arrivals
) -> None:
    line = bench.line("nonzero", models.non_zero, ALONE, static=False)
    check(bench, line, [{"x": np.array(v, np.float32)} for v in values], arriving)


@few
@given(
    lengths=counts,
    seed=seeds,
    arriving=arrivals,
)
def test_batching_leaves_unbatched_models_alone(
    bench: Bench, lengths: list[int], seed: int, arriving: Arrivals
) -> None:
    line = bench.line("softmax", models.softmax_over_rows, ALONE)
    random = np.random.default_rng(seed)
    check(
        bench,
        line,
        [{"x": random.normal(size=(n, 4)).astype(np.float32)} for n in lengths],
        arriving,
    )


@few
@given(rows=counts, seed=seeds, arriving=arrivals)
def test_batching_of_a_net_of_whole_numbers_equals_the_bare_engine(
    bench: Bench, rows: list[int], seed: int, arriving: Arrivals
) -> None:
    """Its sums are exact in any order, so that nothing but a mix-up can change them."""
    random = np.random.default_rng(seed)
    feeds = [random.integers(-8, 9, (n, 16)).astype(np.float32) for n in rows]
    line = bench.line("whole", models.mlp_whole_numbers, ROWS)
    check(bench, line, [{"x": feed} for feed in feeds], arriving)


@few
@given(rows=counts, seed=seeds, arriving=arrivals)
def test_batching_of_a_net_is_within_rounding_of_each_alone(
    bench: Bench, rows: list[int], seed: int, arriving: Arrivals
) -> None:
    """A matrix product may sum in another order for another number of rows."""
    line, path = bench.line("mlp", models.mlp, ROWS)
    random = np.random.default_rng(seed)
    feeds = [random.normal(size=(n, 16)).astype(np.float32) for n in rows]
    answers = bench.fleet.ask(line, [[Tensor.of("x", feed)] for feed in feeds], arriving)
    for feed, answer in zip(feeds, answers, strict=True):
        assert isinstance(answer, list), answer
        np.testing.assert_allclose(answer[0].array, bare(path, {"x": feed})[0], 1e-5, 1e-6)


@few
@given(
    ids=st.lists(
        st.lists(st.sampled_from([0, 3, 9, 10, 99]), min_size=1, max_size=3),
        min_size=2,
        max_size=10,
    ),
    arriving=arrivals,
)
def test_batching_fails_only_the_requests_that_are_at_fault(
    bench: Bench, ids: list[list[int]], arriving: Arrivals
) -> None:
    line, path = bench.line("picky", models.picky, ROWS)
    requests = [[Tensor("id", INT64, (len(i),), np.array(i, np.int64))] for i in ids]
    for asked, answer in zip(ids, bench.fleet.ask(line, requests, arriving), strict=True):
        if max(asked) > 9:
            assert isinstance(answer, ExecutionFailed)
            assert "out of data bounds" in str(answer)
        else:
            assert isinstance(answer, list), answer
            wanted = bare(path, {"id": np.array(asked, np.int64)})[0]
            assert answer[0].array is not None
            assert answer[0].array.tobytes() == wanted.tobytes()


def test_batching_runs_requests_together(bench: Bench) -> None:
    """Without this the other tests might pass because nothing is ever batched."""
    line, _ = bench.line("together", models.add, BatchAxes(True, "test", (0, 0), (0,)))
    one = Tensor("x", FP32, (1,), np.ones(1, np.float32))
    two = Tensor("y", FP32, (1,), np.ones(1, np.float32))
    bench.fleet.ask(line, [[one, two]] * 16)
    assert max(line.statistics.batch_sizes) == 8
    assert line.statistics.rows == 16
    assert line.statistics.runs < 16
    assert line.outstanding == 0
    assert line.waiting == 0


def test_batching_joins_what_arrives_turn_by_turn_while_all_workers_are_busy(
    bench: Bench,
) -> None:
    """The premise of arrivals that are spread over time: they meet, and not only at the start."""
    line, _ = bench.line("width", models.variable_width, ROWS)

    async def story() -> None:
        workers = len(bench.fleet.supervisor.workers)
        sizes = Counter(line.statistics.batch_sizes)
        tickets: list[Ticket] = []
        with bench.fleet.stopped_workers():
            for number in range(workers + 8):
                row = np.full((1, 3), number, np.float32)
                tickets.append(bench.fleet.claim(line, [Tensor.of("x", row)]))
                bench.fleet.scheduler.commit(tickets[-1])
                await Pause(turns=2).over()
            assert bench.fleet.scheduler.running == workers
        answers = await asyncio.gather(*[bench.fleet.answer(ticket) for ticket in tickets])
        for number, answer in enumerate(answers):
            assert isinstance(answer, list), answer
            assert np.array_equal(answer[0].array, np.full((1, 3), 2 * number))
        # The first went to the workers one by one; what came later shared what came free.
        ran = Counter(line.statistics.batch_sizes) - sizes
        assert sum(ran.elements()) == workers + 8
        assert ran[1] >= workers
        # How many share is the batcher's to decide, and has its own tests.
        assert max(ran) > 1

    bench.fleet.run(story())


def test_batching_gives_buffers_while_earlier_answers_are_still_unread(bench: Bench) -> None:
    """One call may bring many requests and read no answer before it has them all."""
    line, _ = bench.line("width", models.variable_width, ROWS)

    async def story() -> None:
        arrays = [np.full((1, width), width, np.float32) for width in range(1, 25)]
        tickets = [bench.fleet.claim(line, [Tensor.of("x", array)]) for array in arrays]
        for ticket in tickets:
            bench.fleet.scheduler.commit(ticket)
        responses = [await bench.fleet.response(ticket) for ticket in tickets]
        for array, response in zip(arrays, responses, strict=True):
            assert np.array_equal(response.outputs[0].array, array * 2)
            response.release()

    bench.fleet.run(story())


def test_batching_refuses_what_only_unread_answers_leave_no_memory_for(bench: Bench) -> None:
    """A call whose answers fill the memory must not wait for itself to read them."""
    line, _ = bench.line("width", models.variable_width, ROWS)

    async def story() -> None:
        arrays = [np.full((1, width), 1, np.float32) for width in range(9 << 20, (9 << 20) + 12)]
        tickets: list[Ticket] = []
        refused: list[ServingError] = []
        for array in arrays:
            try:
                tickets.append(bench.fleet.claim(line, [Tensor.of("x", array)]))
            except ServingError as error:
                refused.append(error)
                continue
            bench.fleet.scheduler.commit(tickets[-1])
        answered = []
        for ticket in tickets:
            try:
                answered.append(await bench.fleet.response(ticket))
            except ServingError as error:
                refused.append(error)
        assert answered
        assert refused
        assert {error.code for error in refused} == {"memory_budget_full"}
        for response in answered:
            response.release()
        # With the memory back, the servable answers as before.
        again = bench.fleet.claim(line, [Tensor.of("x", arrays[0])])
        bench.fleet.scheduler.commit(again)
        assert isinstance(await bench.fleet.answer(again), list)

    bench.fleet.run(story())
