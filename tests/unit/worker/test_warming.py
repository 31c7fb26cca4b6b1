"""Samples run before a model is loaded: from files, made up, as often and as large as asked for."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.backends.stub import StubModel
from serving.channel.messages import Load, Loaded, LoadFailed
from serving.tensor import BYTES, FP32, INT64, Array, BatchAxes, Signature, Tensor, TensorSpec
from serving.warmup import FILE, ZEROS, Fill, WarmUp
from serving.worker import sample_file
from serving.worker.host import Host
from serving.worker.samples import AS_GIVEN, Samples
from tests.doubles.model import FunctionModel

ROWS = BatchAxes(True, "asserted", (0,), (0,))
ALONE = BatchAxes.refused("test")


class Bench:
    """A stub that writes down what it runs, and a host to load it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tally = folder / "tally"

    def load(
        self,
        *warmup: WarmUp,
        axes: BatchAxes = ROWS,
        spec: TensorSpec = TensorSpec("x", FP32, ("n", 2)),  # noqa: B008
        sample: str = "",
        prove: bool = False,
        do: dict[str, Any] | None = None,
    ) -> Loaded | LoadFailed:
        path = self.folder / "stub.json"
        known = Signature((spec,), (spec,))
        told = {**known.to_json(), "do": {**(do or {}), "tally": str(self._tally)}}
        path.write_text(json.dumps(told))
        asked = [json.loads(json.dumps(one.to_json())) for one in warmup]
        order = Load(1, "m", str(path), "stub", axes.to_json(), True, 4, 1, prove, asked, sample)
        return Host().load(order, lambda _phase: None)

    @property
    def ran(self) -> list[int]:
        """The rows of every run, in order."""
        return [int(line.split()[1]) for line in self._tally.read_text().splitlines()]

    def file(self, name: str, content: Any) -> str:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return str(path)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_warming_without_samples_runs_one_row(bench: Bench) -> None:
    assert isinstance(bench.load(), Loaded)
    assert bench.ran == [1]


def test_warming_runs_each_sample_as_often_and_as_large_as_asked_for(bench: Bench) -> None:
    made = WarmUp("made", rows=3, count=2)
    shaped = WarmUp("shaped", inputs={"x": Fill(ZEROS, (4, 2))})
    assert isinstance(bench.load(made, shaped), Loaded)
    assert [rows for rows in bench.ran if rows > 1] == [3, 3, 4]


def test_warming_runs_the_rows_of_a_file_in_batches(bench: Bench) -> None:
    rows = [[float(n), 0.5] for n in range(6)]
    instances = bench.file("instances.json", {"instances": [{"x": row} for row in rows]})
    inputs = bench.file("inputs.json", {"inputs": {"x": rows[:2]}})
    assert isinstance(bench.load(WarmUp("a", instances), WarmUp("b", inputs)), Loaded)
    assert bench.ran == [4, 2, 2]  # at most max_batch_size


def test_warming_of_a_model_that_is_not_batched_runs_instances_alone(bench: Bench) -> None:
    spec = TensorSpec("x", FP32, (2,))
    file = bench.file("two.json", {"instances": [[1.0, 2.0], [3.0, 4.0]]})
    assert isinstance(bench.load(WarmUp("w", file), axes=ALONE, spec=spec), Loaded)
    assert len(bench.ran) == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"instances": [[1.0, 666.0]]}, "an input holds 666"),
        ({"instances": [[1.0]]}, "input 'x' has shape [1] instead of"),
        ({"instances": [{"y": [1.0, 2.0]}]}, "input 'x' is missing"),
        ({"instances": []}, "no rows"),
        ({"rows": []}, "no body of POST /predict"),
        (b"{", "Expecting"),
    ],
)
def test_warming_that_fails_keeps_the_model_from_loading_unless_it_may(
    bench: Bench, content: Any, reason: str
) -> None:
    file = bench.file("bad.json", content)
    failed = bench.load(WarmUp("morning", file), do={"fail_on": 666})
    assert isinstance(failed, LoadFailed)
    assert "warm-up sample 'morning' failed" in failed.message
    assert reason in failed.message
    may = bench.load(WarmUp("morning", file, required=False), do={"fail_on": 666})
    assert isinstance(may, Loaded)
    assert reason in may.note


def test_warming_reads_elements_of_binary_files(bench: Bench) -> None:
    data = bench.file("x", np.array([[1, 2], [3, 666]], np.float32).tobytes())
    sample = WarmUp("w", inputs={"x": Fill(FILE, (2, 2), data, "FP32")})
    failed = bench.load(sample, do={"fail_on": 666})
    assert isinstance(failed, LoadFailed)  # so that very value was run
    assert bench.ran == [2]
    short = WarmUp("w", inputs={"x": Fill(FILE, (3, 2), data)})
    failed = bench.load(short)
    assert isinstance(failed, LoadFailed)
    assert "16 bytes" in failed.message
    other = WarmUp("w", inputs={"x": Fill(FILE, (2, 2), data, "INT64")})
    assert "FP32, not INT64" in getattr(bench.load(other), "message", "")


def test_warming_reads_strings_of_binary_files(bench: Bench) -> None:
    texts = TensorSpec("s", BYTES, ("n",))
    words = b"".join(struct.pack("<I", len(word)) + word for word in (b"a", b"", b"word"))
    data = bench.file("s", words)
    sample = WarmUp("w", inputs={"s": Fill(FILE, (3,), data)})
    assert isinstance(bench.load(sample, spec=texts), Loaded)
    cut = WarmUp("w", inputs={"s": Fill(FILE, (3,), bench.file("cut", words[:-1]))})
    assert "ends within a string" in getattr(bench.load(cut, spec=texts), "message", "")


def test_warming_names_an_input_that_the_model_does_not_have(bench: Bench) -> None:
    failed = bench.load(WarmUp("w", inputs={"z": Fill(ZEROS, (1, 2))}))
    assert isinstance(failed, LoadFailed)
    assert "no input 'z'" in failed.message


def test_sample_file_reads_what_predict_takes(tmp_path: Path) -> None:
    signature = Signature(
        (TensorSpec("n", INT64, ("b",)), TensorSpec("s", BYTES, ("b",)),
         TensorSpec("x", FP32, ("b", 2))), (),
    )  # fmt: skip
    raw = base64.b64encode(np.array([1, 2], np.float32).tobytes()).decode()
    body = {"servable": "m", "instances": [{"n": 3, "s": "é", "x": {"b64": raw}}]}
    file = tmp_path / "sample.json"
    file.write_text(json.dumps(body))
    ((n, s, x),) = sample_file.read(str(file), signature, (0, 0, 0))
    assert n.array is not None
    assert x.array is not None
    assert (n.array.tolist(), s.items, x.array.tolist()) == (3, ["é".encode()], [1.0, 2.0])
    body["instances"][0]["n"] = 3.5  # type: ignore[index]
    file.write_text(json.dumps(body))
    with pytest.raises(ValueError, match="'n' holds numbers that INT64 cannot"):
        sample_file.read(str(file), signature, (0, 0, 0))


def test_given_rows_are_turned_where_more_are_needed() -> None:
    spec = TensorSpec("x", INT64, ("n", 3))
    signature = Signature((spec,), ())
    given = [
        [sample_file._named({"x": row}, signature, [(3,)])[0]] for row in ([1, 2, 3], [4, 5, 6])
    ]
    samples = Samples(signature, BatchAxes(True, "t", (0,), ()), given)
    (x,) = samples.rows(range(5), AS_GIVEN)
    assert x.array is not None
    assert x.array.tolist() == [[1, 2, 3], [4, 5, 6], [3, 1, 2], [6, 4, 5], [2, 3, 1]]


def test_given_rows_that_are_all_alike_prove_nothing() -> None:
    """Row by row equal inputs agree whatever a model does: made-up rows are used instead."""
    spec = TensorSpec("x", INT64, ("n", 3))
    signature = Signature((spec,), (TensorSpec("y", INT64, ("n", 3)),))
    given = [sample_file._named({"x": [7, 7, 7]}, signature, [(3,)])]
    samples = Samples(signature, BatchAxes(True, "t", (0,), (0,)), given)
    seen: list[Array] = []

    def model(x: Array) -> Array:
        seen.append(x)
        return x

    assert samples.fitting_size(FunctionModel(signature, model)) != (AS_GIVEN, "")
    assert not any((x == 7).any() for x in seen)


def test_given_rows_prove_a_model_that_refuses_all_others(bench: Bench) -> None:
    """Made-up integers are 0 and 1."""
    spec = TensorSpec("x", INT64, ("n", 2))
    sample = bench.file("sample.json", {"servable": "m", "instances": [[5, 6], [7, 8]]})
    refused = bench.load(spec=spec, prove=True, do={"fail_on": 0})
    assert isinstance(refused, Loaded)
    assert not BatchAxes.from_json(refused.batch).batched
    proved = bench.load(spec=spec, prove=True, do={"fail_on": 0}, sample=sample)
    assert isinstance(proved, Loaded)
    assert BatchAxes.from_json(proved.batch).batched


def test_given_rows_do_not_excuse_a_model_that_mixes_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def minus_the_first_row(self: StubModel, inputs: Any, _stop: Any) -> Any:
        (x,) = inputs
        y = x.array - x.array[:1]
        return (Tensor("x", FP32, y.shape, y),)

    monkeypatch.setattr(StubModel, "compute", minus_the_first_row)
    sample = bench.file("sample.json", {"servable": "m", "instances": [[0.5, 0.25]]})
    loaded = bench.load(prove=True, sample=sample)
    assert isinstance(loaded, Loaded)
    batch = BatchAxes.from_json(loaded.batch)
    assert not batch.batched
    assert "differs from itself alone" in batch.reason
