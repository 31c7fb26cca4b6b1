"""What every backend promises, asked of all of them alike.

A module that asks it of one more imports all of this and defines ``engine`` anew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.backends.base import Backend, BackendError, Model, ModelSource
from serving.backends.registry import open_backend
from serving.channel.segment import Segment, view
from serving.tensor import BYTES, FP32, INT64, Tensor
from tests.contract.engines import ENGINES, Engine

Load = Callable[[str], Model]


def _name(engine: Engine) -> str:
    return f"{engine.name}-{engine.device.kind}"


@pytest.fixture(params=ENGINES, ids=_name, name="engine")
def _engine(request: pytest.FixtureRequest) -> Engine:
    chosen: Engine = request.param
    return chosen


@pytest.fixture
def machine(engine: Engine) -> Iterator[Any]:
    """Put the engine's double in place, and look afterwards at what was done to it."""
    with engine.present() as machine:
        yield machine
        if machine is not None:
            report = machine.report()
            assert report["violations"] == []
            assert report["live"] == {}


@pytest.fixture
def backend(engine: Engine, machine: Any) -> Iterator[Backend]:
    backend = open_backend(engine.name, engine.device)
    yield backend
    backend.close()


@pytest.fixture
def load(engine: Engine, backend: Backend, tmp_path: Path) -> Load:
    """Return what loads a model of a kind into the backend under test."""

    def load(kind: str) -> Model:
        path = tmp_path / kind
        write = getattr(engine, kind)
        if write is None:
            pytest.skip(f"{engine.name} has no model of the kind {kind!r}")
        write(path)
        return backend.load(ModelSource(str(path), 1))

    return load


def floats(*values: float) -> Tensor:
    return Tensor("x", FP32, (len(values),), np.array(values, np.float32))


def numbers(model: Model, *values: int) -> list[Tensor]:
    name = model.signature.inputs[0].name
    return [Tensor(name, INT64, (len(values),), np.array(values))]


def test_backend_writes_into_bound_outputs_again_and_again(load: Load) -> None:
    given, out = floats(1, 2, 3), np.zeros(3, np.float32)
    binding = load("echo").bind([given], [Tensor("y", FP32, (3,), out)])
    assert given.array is not None
    for round in range(6):
        given.array[1] = -round
        assert binding.run() is None
        assert out.tolist() == [1, -round, 3]


def test_backend_returns_outputs_that_are_not_bound(load: Load) -> None:
    binding = load("echo").bind([floats(4, 5)], None)
    for _ in range(2):
        outputs = binding.run()
        assert outputs is not None
        assert (outputs[0].name, outputs[0].dtype, outputs[0].shape) == ("y", FP32, (2,))
        assert outputs[0].array is not None
        assert outputs[0].array.tolist() == [4, 5]


def test_backend_reads_inputs_that_may_not_be_written(load: Load) -> None:
    given = floats(8, 9)
    assert given.array is not None
    given.array.flags.writeable = False
    out = np.zeros(2, np.float32)
    load("echo").bind([given], [Tensor("y", FP32, (2,), out)]).run()
    assert out.tolist() == [8, 9]


def test_backend_runs_on_the_rows_of_lent_memory(backend: Backend, load: Load) -> None:
    given = Segment.create(1, 4096, writable_elsewhere=False)
    taken = Segment.create(2, 4096, writable_elsewhere=True)
    backend.lend(given.address, given.size, writable=False)
    backend.lend(taken.address, taken.size, writable=True)
    rows, out = view(given, FP32, 256, (3,)), view(taken, FP32, 512, (3,))
    binding = load("echo").bind([Tensor("x", FP32, (3,), rows)], [Tensor("y", FP32, (3,), out)])
    for value in (1.5, 2.5):
        rows[:] = value
        binding.run()
        assert out.tolist() == [value] * 3
    backend.take_back(given.address)
    backend.take_back(taken.address)
    del rows, out, binding
    given.close()
    taken.close()


def test_backend_refuses_a_bound_output_of_another_size(load: Load) -> None:
    out = np.full(3, 5, np.float32)
    with pytest.raises(BackendError):
        load("echo").bind([floats(1, 2)], [Tensor("y", FP32, (3,), out)]).run()
    assert out.tolist() == [5, 5, 5]


def test_backend_carries_strings(load: Load) -> None:
    items = [b"", "zwölf".encode(), b"x" * 300]
    outputs = load("words").bind([Tensor("x", BYTES, (3,), items=items)], None).run()
    assert outputs is not None
    assert list(outputs[0].items or ()) == items


def test_backend_refuses_strings_where_the_model_takes_numbers(load: Load) -> None:
    with pytest.raises(BackendError):
        load("echo").bind([Tensor("x", BYTES, (1,), items=[b"no"])], None).run()


def test_backend_tells_a_failed_run_and_lives_on(load: Load) -> None:
    model = load("fails")
    with pytest.raises(BackendError):
        model.bind(numbers(model, 2, 0), None).run()
    assert model.bind(numbers(model, 2), None).run() is not None


def test_backend_fails_a_run_that_is_cancelled(engine: Engine, machine: Any, load: Load) -> None:
    model = load("long")
    if machine is not None:
        machine.sleep_s = 0.5
    binding = model.bind(numbers(model, 2**40), None)
    timer = threading.Timer(0.2, binding.cancel)
    timer.start()
    began = time.monotonic()
    with pytest.raises(BackendError):
        binding.run()
    timer.join()
    # Where a run cannot be stopped it ends by itself, and fails then.
    assert (0.1 if engine.stops else 0.4) < time.monotonic() - began < 20


def test_backend_runs_as_many_at_once_as_it_has_slots(
    engine: Engine, machine: Any, backend: Backend, load: Load
) -> None:
    model = load("echo")
    if machine is not None:
        machine.sleep_s = 0.2
    answers: dict[int, list[float]] = {}

    def run(slot: int) -> None:
        outputs = model.bind([floats(slot)], None).run()
        assert outputs is not None
        assert outputs[0].array is not None
        answers[slot] = outputs[0].array.tolist()

    threads = [threading.Thread(target=run, args=(slot,)) for slot in range(backend.slots)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {slot: [float(slot)] for slot in range(backend.slots)}


def test_backend_refuses_a_broken_file(backend: Backend, tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_bytes(b"no model at all")
    with pytest.raises(BackendError):
        backend.load(ModelSource(str(path), 1))


def test_backend_binding_takes_outputs_of_changing_size(load: Load) -> None:
    given = floats(1, 0, 1)
    assert given.array is not None
    binding = load("sizes").bind([given], None)
    for values, wanted in (([1, 0, 1], [[0, 2]]), ([0, 0, 0], [[]]), ([1, 1, 1], [[0, 1, 2]])):
        given.array[:] = values
        outputs = binding.run()
        assert outputs is not None
        assert outputs[0].array is not None
        assert outputs[0].array.tolist() == wanted
