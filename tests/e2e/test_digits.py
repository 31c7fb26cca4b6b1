"""The shipped servable, served and called as a newcomer would."""

from __future__ import annotations

import json
from pathlib import Path

from tests.server import serving

SERVABLES = Path(__file__).parents[2] / "servables"


def test_digits_sample_is_answered_with_its_digit(tmp_path: Path) -> None:
    body = json.loads((SERVABLES / "digits" / "sample.json").read_text())
    with serving(SERVABLES, tmp_path) as server:
        status, answer = server.predict(body)
        assert status == 200, answer
        assert answer["instances"][0]["label"] == 5
        assert server.get("/v2/health/ready")[0] == 200
        assert server.stop() == 0
    assert not (tmp_path / "ready.json").exists()
