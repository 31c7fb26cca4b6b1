"""The shipped servables, served and called as a newcomer would: by what lies beside them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server import ServerProcess, call, serving

SERVABLES = Path(__file__).parents[2] / "servables"
NAMES = sorted(path.parent.name for path in SERVABLES.glob("*/sample.json"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    scratch = tmp_path_factory.mktemp("server")
    with serving(SERVABLES, scratch, env={"XDG_CACHE_HOME": str(scratch / "home")}) as running:
        yield running


def holds(answer: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Return whether an answer says what ``answer.json`` says, whatever else it says."""
    rows = zip(answer["instances"], expected["instances"], strict=True)
    return all(wanted.items() <= given.items() for given, wanted in rows)


@pytest.mark.parametrize("name", NAMES)
def test_servable_answers_its_sample_rightly(server: ServerProcess, name: str) -> None:
    body = json.loads((SERVABLES / name / "sample.json").read_text())
    status, answer = server.predict(body)
    assert status == 200, answer
    assert answer["servable"] == name
    assert holds(answer, json.loads((SERVABLES / name / "answer.json").read_text()))


@pytest.mark.parametrize("name", NAMES)
def test_servable_example_in_its_metadata_is_answered_as_it_says(
    server: ServerProcess, name: str
) -> None:
    status, metadata = server.get(f"/v2/models/{name}")
    assert status == 200
    example = metadata["example"]
    assert example["request"] == json.loads((SERVABLES / name / "sample.json").read_text())
    status, answer = server.predict(example["request"])
    assert status == 200, answer
    assert holds(answer, example["answer"])


def test_servable_tables_and_texts_share_batches(server: ServerProcess) -> None:
    for name in NAMES:
        properties = server.get(f"/v2/models/{name}")[1]["properties"]
        assert properties["batched"] == "true", properties


def test_language_takes_texts_of_different_lengths_in_turn(server: ServerProcess) -> None:
    for text, language in (
        ("Wo ist der Bahnhof?", "de"),
        ("Thank you very much for your letter.", "en"),
        ("Il gatto dorme sulla sedia.", "it"),
        ("¿Dónde está la biblioteca?", "es"),
    ):
        body = {"servable": "language", "instances": [{"text": list(text.encode())}]}
        status, answer = server.predict(body)
        assert status == 200, answer
        assert answer["instances"][0]["language"] == language


def test_start_shows_a_call_that_works_when_pasted(server: ServerProcess) -> None:
    (line,) = [line for line in server.log().splitlines() if "try: curl" in line]
    curl, url, option, body = shlex.split(line.partition("try: ")[2])
    assert (curl, option, body[0]) == ("curl", "-d", "@")
    status, answer = call("POST", url, json.loads(Path(body[1:]).read_text()))
    assert (status, answer["servable"]) == (200, NAMES[0])


def test_page_shows_the_example_of_each_servable(server: ServerProcess) -> None:
    page = server.get("/")[1]
    for said in ("Biscoe", "flipper_length_mm&quot;: 215.0", "penguins", "language"):
        assert said in page


def test_engine_keeps_no_number_of_the_machine_to_report_with(server: ServerProcess) -> None:
    assert server.workers()
    assert not list((server.log_file.parent / "home").glob("Microsoft"))
