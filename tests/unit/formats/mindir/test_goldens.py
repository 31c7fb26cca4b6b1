"""What MindSpore exported gives MindSpore's own answers, or is refused for a reason we know."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from serving.errors import LoadError
from tests.unit.formats.mindir.goldens import (
    FOLDER,
    RELEASES,
    Golden,
    check,
    members,
    networks,
    operators,
)
from tests.unit.formats.mindir.refusals import REFUSED, WRONG

ALL = [g for g in (*networks(), *operators()) if str(g) not in WRONG]


def refusal(golden: Golden) -> str | None:
    """Return what the refusal of a golden says, or ``None`` for one that must convert."""
    return REFUSED.get(str(golden)) or REFUSED.get(golden.name)


@pytest.mark.parametrize("golden", [g for g in ALL if not refusal(g)], ids=str)
def test_golden_gives_the_answers_of_mindspore(golden: Golden, tmp_path: Path) -> None:
    check(golden, tmp_path)


@pytest.mark.parametrize("golden", [g for g in ALL if refusal(g)], ids=str)
def test_golden_that_is_not_covered_is_refused_by_name(golden: Golden, tmp_path: Path) -> None:
    with pytest.raises(LoadError) as caught:
        check(golden, tmp_path)
    assert caught.value.code == "unsupported_operator"
    assert str(refusal(golden)) in caught.value.message


def test_refusals_name_goldens_that_exist() -> None:
    goldens = [*networks(), *operators()]
    assert set(REFUSED) <= {g.name for g in goldens} | {str(g) for g in goldens}
    assert set(WRONG) <= {str(g) for g in goldens}


@pytest.mark.parametrize("release", RELEASES)
def test_golden_is_what_the_manifest_says(release: str) -> None:
    folder = FOLDER / release
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["mindspore"] == release
    for network in manifest["networks"].values():
        assert digest((folder / network["file"]).read_bytes()) == network["sha256"]
    total = hashlib.sha256()
    for name, content in sorted(members(folder / "operators.tar.xz").items()):
        total.update(name.encode() + content)
    assert total.hexdigest() == manifest["operators"]["sha256"]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
