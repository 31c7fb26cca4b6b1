"""The benchmarks of methods ask for what they say, and know right answers from wrong ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import mindspore_serving, pipelines
from benchmarks.measure import Plan, Row
from benchmarks.mindspore_jobs import Job, jobs
from benchmarks.peers.environment import NotInstalled, environment
from benchmarks.peers.mindspore import NAME
from benchmarks.wires import WrongAnswer
from serving.bench.connection import Answer
from serving.frontends.grpc.stubs import ms_service_pb2 as pb
from tests.server import serving

NO_HEADERS: dict[str, str] = {}


def test_churn_gives_what_its_loop_gives() -> None:
    space: dict[str, Callable[[int, int], int]] = {}
    start, end = pipelines.FUNCTIONS.index("def churn"), pipelines.FUNCTIONS.index("def nap")
    exec(pipelines.FUNCTIONS[start:end], space)
    assert [pipelines.churn(3, n) for n in (0, 1, 500)] == [
        space["churn"](3, n) for n in (0, 1, 500)
    ]


def test_question_takes_only_its_own_answer_for_right() -> None:
    question = pipelines.question("stages1", "fast", 7, seed=5)
    head, _, body = question.data.partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(body) in head
    assert json.loads(body) == {
        "servable": "stages1",
        "method": "fast",
        "instances": [{"seed": 5}],
    }
    assert question.right(Answer("200", b'{"instances":[{"y":7}]}', {}))
    assert not question.right(Answer("200", b'{"instances":[{"y":8}]}', {}))
    assert not question.right(Answer("500", b'{"instances":[{"y":7}]}', {}))


def test_load_counts_only_right_answers_and_names_wrong_ones(tmp_path: Path) -> None:
    repository = pipelines.lay_out(tmp_path / "models", (1,))
    asked = [pipelines.quick("stages1")[0], pipelines.question("stages1", "fast", 0, seed=1)]
    with serving(repository, tmp_path / "scratch") as running:
        seen = asyncio.run(pipelines.load(running.rest_port, 2, asked, 0.5))
    assert seen.ms
    assert seen.rate == pytest.approx(len(seen.ms) / 0.5, rel=0.5)
    assert seen.wrong
    assert all(text.endswith("not 0") for text in seen.wrong)


@pytest.mark.parametrize("job", jobs(), ids=lambda job: job.name)
def test_job_carries_the_same_numbers_over_both_protocols(job: Job) -> None:
    over_grpc, over_rest = job.wires()
    (sent,) = pb.PredictRequest.FromString(over_grpc.body).instances
    (told,) = json.loads(over_rest.body)["instances"]
    for name, array in job.inputs.items():
        assert sent.items[name].data == array.tobytes()
        assert np.array_equal(np.array(told[name], np.float32), array)


def test_job_reads_a_right_reply_and_refuses_one_with_an_error() -> None:
    over_grpc, over_rest = jobs()[0].wires()
    reply = pb.PredictReply()
    tensor = reply.instances.add().items["y"]
    tensor.shape.dims.extend([2, 2])
    tensor.data = np.arange(4, dtype=np.float32).tobytes()
    assert over_grpc.read(reply.SerializeToString(), NO_HEADERS).tolist() == [[0, 1], [2, 3]]
    assert over_rest.read(b'{"instances":[{"y":[[0.0,1.0],[2.0,3.0]]}]}', NO_HEADERS).tolist() == [
        [0, 1],
        [2, 3],
    ]
    refused = pb.PredictReply(error_msg=[pb.ErrorMsg(error_code=2, error_msg=b"no such thing")])
    with pytest.raises(WrongAnswer, match="no such thing"):
        over_grpc.read(refused.SerializeToString(), NO_HEADERS)
    with pytest.raises(WrongAnswer, match="no such thing"):
        over_rest.read(b'{"error_msg":"no such thing"}', NO_HEADERS)


def test_point_shows_medians_and_the_ratios_of_runs_that_followed_each_other() -> None:
    def rows(*rates: float) -> tuple[Row, ...]:
        return tuple(Row("grpc", 8, 1, rate, 1, 2, 3, 100, 0, 0, (rate,)) for rate in rates)

    measured = mindspore_serving.Point(
        "add", "grpc", "gRPC", 8, rows(100, 300, 200), rows(400, 400, 400), rows(50, 100, 200)
    )
    cells = [cell.strip() for cell in measured.line().strip("|").split("|")]
    elsewhere = mindspore_serving.ELSEWHERE["add", "grpc"][1]
    assert cells[:4] == ["add", "gRPC", "8", "**200**"]
    assert cells[6:8] == ["400", "0.50"]
    assert cells[8:10] == ["100", "**2.00**"]
    assert cells[10:] == ["3", f"{elsewhere:,}", f"{200 / elsewhere:.2f}", "0"]
    text = mindspore_serving.report([measured], Plan(2, 3, None), real=True)
    assert text.splitlines()[0].count("|") == measured.line().count("|")
    assert NAME in text


def test_environment_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    with pytest.raises(NotInstalled, match="no-such-python"):
        environment(tmp_path, "peer", (), "/no-such-python")
