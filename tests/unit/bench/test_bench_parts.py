"""The parts of ``serving bench`` that need no server."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.bench import plot
from serving.bench.arrivals import poisson
from serving.bench.check import agree
from serving.bench.load import Load
from serving.bench.payload import answer, http_request, payload, refusal
from serving.bench.point import batches_between, milliseconds, notes, point, row
from serving.bench.record import Record
from serving.bench.sample import generate, repeated
from serving.bench.target import described
from serving.errors import ConfigError, InvalidRequest
from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from serving.tensor import BYTES, FP32, Tensor

METADATA = {
    "name": "m",
    "versions": ["1", "3"],
    "platform": "onnxruntime_onnx",
    "inputs": [
        {"name": "x", "datatype": "FP32", "shape": [-1, 4]},
        {"name": "words", "datatype": "BYTES", "shape": [-1, -1]},
        {"name": "ids", "datatype": "INT64", "shape": [-1, 2]},
    ],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
    "properties": {"batched": "true", "max_batch_size": "32"},
}


def test_metadata_becomes_a_description():
    known = described("m", METADATA, {})
    assert known.version == 3
    assert known.batch.inputs == (0, 0, 0)
    assert known.max_batch_size == 32


def test_another_servers_configuration_says_whether_it_batches():
    plain = {k: v for k, v in METADATA.items() if k != "properties"}
    assert described("m", plain, {"max_batch_size": 8}).batch.batched
    assert not described("m", plain, {}).batch.batched


def test_a_document_that_is_no_metadata_is_refused():
    with pytest.raises(InvalidRequest, match="no V2 metadata"):
        described("m", {"inputs": 3}, {})


def test_made_up_inputs_have_the_shapes_that_were_asked_for_and_are_the_same_each_time():
    known = described("m", METADATA, {})
    once = generate(known, 3, {"words": (3, 5)}, (10, 20), 2)
    again = generate(known, 3, {"words": (3, 5)}, (10, 20), 2)
    assert [t.shape for t in once[0]] == [(3, 4), (3, 5), (3, 2)]
    assert once[0][2].array is not None
    assert 10 <= once[0][2].array.min() <= once[0][2].array.max() < 20
    for first, second in zip(once, again, strict=True):
        assert np.array_equal(first[0].array, second[0].array)
    assert not np.array_equal(once[0][0].array, once[1][0].array)


def test_a_shape_for_an_input_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="no input 'wrods'.*did you mean 'words'"):
        generate(described("m", METADATA, {}), 1, {"wrods": (1,)}, (0, 2), 1)


@given(rate=st.floats(1, 2000), seconds=st.floats(0.1, 5), seed=st.integers(0, 9))
def test_arrivals_are_in_order_within_the_time_and_about_as_many_as_asked(rate, seconds, seed):
    times = list(poisson(rate, seconds, seed))
    assert times == sorted(times)
    assert all(0 < at < seconds for at in times)
    expected = rate * seconds
    assert abs(len(times) - expected) <= 6 * math.sqrt(expected) + 6


def test_a_record_counts_what_it_saw():
    record = Record()
    for ms in range(1, 101):
        record.answered(ms / 1e3, 2)
    for number in range(50):
        record.failed(f"error {number}")
    record.wrong += 1
    assert record.rows == 200
    assert record.percentile_ms(50) == pytest.approx(50, rel=2e-3)
    assert record.percentile_ms(99) == pytest.approx(99, rel=2e-3)
    assert record.mean_ms == pytest.approx(50.5, rel=2e-3)
    assert record.failures == 51
    assert record.errors["other errors"] == 30


def test_floats_may_differ_a_little_and_nothing_else_may():
    y = np.array([[1.0, 2.0]], np.float32)
    n = np.array([1, 2])
    assert agree({"y": y}, {"y": y * np.float32(1.0001)})
    assert not agree({"y": y}, {"y": y * np.float32(1.1)})
    assert not agree({"y": y}, {"y": y[0]})
    assert not agree({"y": y}, {"z": y})
    assert agree({"n": n}, {"n": n.copy()})
    assert not agree({"n": n}, {"n": n + 1})


def test_a_grpc_answer_is_read():
    reply = pb.ModelInferResponse(model_name="m")
    reply.outputs.add(name="y", datatype="FP32", shape=[2])
    reply.raw_output_contents.append(np.array([1.5, -2], np.float32).tobytes())
    found = answer("grpc", reply.SerializeToString(), {})
    assert found["y"].tolist() == [1.5, -2.0]


def test_a_binary_answer_is_read():
    output = {"name": "y", "datatype": "INT32", "shape": [2]}
    output["parameters"] = {"binary_data_size": 8}
    head = json.dumps({"outputs": [output]}).encode()
    body = head + np.array([7, 8], np.int32).tobytes()
    headers = {b"inference-header-content-length": str(len(head)).encode()}
    assert answer("v2-binary", body, headers)["y"].tolist() == [7, 8]


@pytest.mark.parametrize("protocol", ["predict", "v2-json", "v2-binary"])
def test_an_answer_that_is_none_is_a_value_error(protocol):
    for body in (b"", b"{}", b"[]", b'{"outputs":[{"name":"y"}]}', b"\xff"):
        with pytest.raises(ValueError):
            answer(protocol, body, {})


def test_bytes_that_are_no_text_cannot_go_as_json():
    known = described("m", {**METADATA, "inputs": METADATA["inputs"][1:2]}, {})
    words = Tensor("words", BYTES, (1, 1), items=[b"\xff"])
    with pytest.raises(ConfigError, match="v2-binary or grpc"):
        payload("predict", known, [words])
    assert payload("v2-binary", known, [words]).rows == 1


def test_an_http_request_says_how_long_it_is():
    known = described("m", {**METADATA, "inputs": METADATA["inputs"][:1]}, {})
    x = Tensor("x", FP32, (2, 4), np.ones((2, 4), np.float32))
    made = payload("v2-json", known, [x])
    head, _, body = http_request(made, "h:1", None).partition(b"\r\n\r\n")
    assert made.rows == 2
    assert body == made.body
    assert f"Content-Length: {len(body)}".encode() in head
    assert head.startswith(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: h:1\r\n")
    assert b"Authorization" not in head
    assert b"\r\nAuthorization: Bearer t\r\n" in http_request(made, "h:1", "t")


def test_the_words_of_an_error_are_found():
    assert refusal(b'{"error": "full\\nqueue"}') == "full queue"
    assert refusal(b'{"detail": "no"}') == "no"
    assert refusal(b"<html>") == "<html>"
    problem = {"detail": "wrong size", "where": "inputs.x", "expected": "8", "given": "9"}
    told = refusal(json.dumps({**problem, "fix": "send 8"}).encode())
    assert told == "inputs.x: wrong size; expected 8, given 9 (send 8)"
    assert len(refusal(json.dumps({"detail": "x" * 1000}).encode())) == 300


def test_runs_between_two_looks_are_counted_by_size():
    def stats(*sizes: tuple[int, int]) -> dict[str, object]:
        batches = [{"batch_size": s, "compute_infer": {"count": n}} for s, n in sizes]
        return {"model_stats": [{"name": "m", "batch_stats": batches}, {"name": "other"}]}

    assert batches_between(stats((1, 5), (4, 1)), stats((1, 5), (4, 3), (8, 2)), "m") == {
        4: 2,
        8: 2,
    }
    assert batches_between(None, stats((1, 5)), "m") == {}


def test_a_point_says_what_its_reader_must_know():
    record = Record()
    record.answered(0.01, 1)
    record.failed("503: full")
    found = point(Load(rate=100), record, 1.0, {4: 3, 2: 1}, 0.95)
    assert found.mean_batch == pytest.approx(3.5)
    assert row(found)[0] == "100/s"
    told = "\n".join(notes([found]))
    assert "1 x 503: full" in told
    assert "did not keep up" in told
    assert "the generator may have been the limit" in told


def test_a_point_without_an_answer_shows_no_latencies_and_says_why():
    found = point(Load(clients=2), Record(), 0.5, {32: 4}, 0.1)
    assert row(found) == ["2", "0", "0", "", "", "", "", "32.0", "0"]
    assert notes([found]) == ["2: no answer within 0.5 s: measure for longer"]


@pytest.mark.parametrize(
    ("value", "text"), [(0.25, "0.25"), (12.345, "12.3"), (999.4, "999"), (1273.4, "1,273")]
)
def test_latencies_are_written_without_exponents(value, text):
    assert milliseconds(value) == text


@pytest.mark.parametrize("ending", plot.ENDINGS)
def test_a_plot_is_written_in_each_form(tmp_path: Path, ending):
    record = Record()
    record.answered(0.01, 1)
    file = tmp_path / f"p{ending}"
    points = [point(Load(clients=n), record, 1.0, {}, 0.1) for n in (1, 8)]
    plot.write(file, points, {"servable": "<m>", "protocol": "predict"})
    data = file.read_bytes()
    start = {".png": b"\x89PNG", ".svg": b"<?xml", ".html": b"<!doctype html>"}[ending]
    assert data.startswith(start)
    if ending == ".html":
        assert b"&lt;m&gt;" in data
        assert b"<svg" in data


def test_a_plot_of_another_ending_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"a name ending in \.png"):
        plot.check_name(tmp_path / "plot.gif")


def test_repeated_requests_hold_all_rows_so_many_times():
    known = described("m", METADATA, {})
    (request,) = generate(known, 2, {"words": (2, 3)}, (0, 9), 1)
    x, words, ids = repeated(known, request, 3)
    assert (x.shape, words.shape, ids.shape) == ((6, 4), (6, 3), (6, 2))
    assert np.array_equal(x.array, np.tile(request[0].array, (3, 1)))
    assert words.items == list(request[1].items) * 3
    assert payload("v2-binary", known, [x, words, ids]).rows == 6


def test_what_does_not_batch_cannot_be_repeated():
    known = described("m", {k: v for k, v in METADATA.items() if k != "properties"}, {})
    (request,) = generate(known, 1, {}, (0, 9), 1)
    with pytest.raises(ConfigError, match="cannot carry several rows"):
        repeated(known, request, 2)


def test_settings_are_drawn_by_their_names(tmp_path: Path):
    record = Record()
    record.answered(0.004, 1)
    points = [point(Load(clients=4), record, 1.0, {}, 0.1)] * 2
    about = {"servable": "m", "protocol": "grpc"}
    page = tmp_path / "x.html"
    plot.write(page, points, about, ["as it <is>", "batch 8"])
    text = page.read_text()
    assert "<th>SETTING</th>" in text
    assert "<td>as it &lt;is&gt;</td>" in text
    assert "<td>batch 8</td>" in text
