"""Every way in which a load can end is a message, and nothing of a failed load is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serving.backends.stub import Stub, StubModel
from serving.channel.messages import Load, Loaded, LoadFailed, Progress, Unloaded
from serving.tensor import FP32, BatchAxes, Signature, Tensor, TensorSpec
from serving.worker.host import Host

SIGNATURE = Signature(
    (TensorSpec("x", FP32, ("batch", 2)),), (TensorSpec("y", FP32, ("batch", 2)),)
)
ROWS = BatchAxes(True, "claimed", (0,), (0,))


def order(path: Path, backend: str = "stub", batch: BatchAxes = ROWS, prove: bool = True) -> Load:
    return Load(1, "net", str(path), backend, batch.to_json(), True, 8, 1, prove)


@pytest.fixture
def stub(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.write_text(json.dumps({**SIGNATURE.to_json(), "do": {}}))
    return path


def load(what: Load) -> tuple[Host, Loaded | LoadFailed, list[Progress]]:
    host = Host()
    phases: list[Progress] = []
    return host, host.load(what, phases.append), phases


def test_host_loads_warms_and_forgets(stub: Path) -> None:
    host, loaded, phases = load(order(stub))
    assert isinstance(loaded, Loaded)
    assert loaded.model == 1
    assert Signature.from_json(loaded.signature) == SIGNATURE
    assert BatchAxes.from_json(loaded.batch) == ROWS
    assert loaded.note == ""
    assert phases == [Progress(1, "warming")]
    assert host.get(1).axes == ROWS
    assert host.unload(1) == Unloaded(1)
    with pytest.raises(KeyError):
        host.get(1)
    assert host.unload(1) == Unloaded(1)


def test_host_runs_the_model_under_the_axes_that_the_proof_left(
    stub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that the runs contradict must not be used by the slots either."""
    monkeypatch.setattr(StubModel, "compute", _minus_the_first_row)
    host, loaded, _ = load(order(stub))
    assert isinstance(loaded, Loaded)
    assert not BatchAxes.from_json(loaded.batch).batched
    assert not host.get(1).axes.batched
    assert "contradict" in host.get(1).axes.reason


def _minus_the_first_row(
    model: StubModel, inputs: tuple[Tensor, ...], stop: object
) -> tuple[Tensor, ...]:
    (x,) = inputs
    assert x.array is not None
    array = x.array - x.array[:1]
    return (Tensor("y", FP32, array.shape, array),)


def test_host_proves_nothing_that_was_proved_before(
    stub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StubModel, "compute", _minus_the_first_row)
    host, loaded, _ = load(order(stub, prove=False))
    assert isinstance(loaded, Loaded)
    assert host.get(1).axes == ROWS


FAILURES = {
    "no such backend": ("nosuch", ROWS, "no backend is called 'nosuch'; known: "),
    "a claim of too many inputs": (
        "stub", BatchAxes(True, "claimed", (0, 0), (0,)),
        "the engine sees 1 inputs and 1 outputs, the batch axes were given for 2 and 1",
    ),
    "a claim of too few outputs": (
        "stub", BatchAxes(True, "claimed", (0,), ()),
        "the engine sees 1 inputs and 1 outputs, the batch axes were given for 1 and 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("backend", "claim", "said"), FAILURES.values(), ids=FAILURES)
def test_host_tells_why_a_load_failed(
    stub: Path, backend: str, claim: BatchAxes, said: str
) -> None:
    host, failed, _ = load(order(stub, backend, claim))
    assert isinstance(failed, LoadFailed)
    assert (failed.model, failed.code) == (1, "load_failed")
    assert failed.message.startswith(said)
    with pytest.raises(KeyError):
        host.get(1)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "the machine's memory does not suffice"),
        (
            RuntimeError("/secret/path"),
            "unexpected failure while loading (RuntimeError); the log has more",
        ),
    ],
    ids=["no memory", "a bug"],
)
def test_host_survives_a_backend_that_breaks(
    stub: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def breaks(self: Stub, source: object) -> StubModel:
        raise error

    monkeypatch.setattr(Stub, "load", breaks)
    _, failed, _ = load(order(stub))
    assert isinstance(failed, LoadFailed)
    assert failed.message == said


def test_host_cuts_the_words_of_an_engine(stub: Path) -> None:
    stub.write_text("not a description")
    host, failed, phases = load(order(stub))
    assert isinstance(failed, LoadFailed)
    assert failed.message.startswith("not a stub description: ")
    assert phases == []
    long = host.load(order(stub, "x" * 10_000), phases.append)
    assert isinstance(long, LoadFailed)
    assert len(long.message) <= 4096
