"""Every error code of the code is explained, and nothing is explained that cannot happen."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import orjson
import pytest

from serving import error_guide, errors
from serving.errors import InvalidRequest, did_you_mean
from serving.frontends.rest import status
from serving.frontends.rest.error_page import error_page
from serving.frontends.rest.routes import build_routes
from tests.doubles.plane import StubPlane

ROOT = Path(__file__).parents[2]
PASSED_ON = ("code",)
"""Variables that hold a code which stands as a constant elsewhere."""


NO_ERRORS = ("Description", "ServableScan")
"""What has a ``code`` of another kind."""


def constants(tree: ast.Module) -> dict[str, ast.expr]:
    return {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def named(value: ast.expr, known: dict[str, ast.expr]) -> Iterator[str]:
    """Yield the codes that an expression can come to, as far as its text shows."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, ast.IfExp):
        yield from named(value.body, known)
        yield from named(value.orelse, known)
    elif isinstance(value, ast.Name) and value.id in known:
        yield from named(known[value.id], {})
    elif isinstance(value, ast.Name):
        assert value.id in PASSED_ON, f"where does {value.id!r} come from?"


def codes_in(path: Path) -> Iterator[str]:
    """Yield the codes that a module gives to errors: ``code=...`` and classes' ``code = ...``."""
    tree = ast.parse(path.read_text())
    known = constants(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and not ast.unparse(node.func).endswith(NO_ERRORS):
            for keyword in node.keywords:
                if keyword.arg == "code":
                    yield from named(keyword.value, known)
        elif isinstance(node, ast.ClassDef):
            for item in node.body:
                targets = item.targets if isinstance(item, ast.Assign) else []
                if isinstance(item, ast.AnnAssign):
                    targets = [item.target]
                if [ast.unparse(t) for t in targets] == ["code"] and item.value is not None:
                    yield from named(item.value, known)


def test_error_guide_explains_exactly_the_codes_that_the_code_uses() -> None:
    modules = [p for p in (ROOT / "serving").rglob("*.py") if "stubs" not in p.parts]
    used = {code for path in modules for code in codes_in(path)}
    assert len(used) > 50
    assert sorted(used - set(error_guide.CODES)) == [], "add them to serving/error_guide.py"
    assert sorted(set(error_guide.CODES) - used) == [], "nothing raises these any more"


def test_error_guide_says_each_thing_once() -> None:
    assert len(set(error_guide.CODES)) == len(error_guide.CODES)
    for topic in error_guide.TOPICS:
        for code, text in topic.entries:
            assert re.fullmatch(r"[a-z][a-z0-9_]*", code)
            assert text.endswith("."), code
            assert len(text) > 20, code


def test_error_document_is_the_guide() -> None:
    document = (ROOT / "docs" / "errors.md").read_text()
    assert document.endswith("\n\n" + error_guide.markdown()), "run python docs/generate.py"


def test_error_page_has_an_anchor_for_every_code() -> None:
    page = error_page()
    assert re.findall(r"<h3 id=(\w+)>", page) == list(error_guide.CODES)
    assert "<code>max_queue_size</code>" in page
    assert "`" not in page


@pytest.mark.parametrize("code", ["wrong_shape", "unknown_servable", "internal"])
async def test_problem_type_leads_to_the_page_on_its_code(code: str) -> None:
    document, *_ = status.problem(InvalidRequest("x", code=code), "r")
    path, _, anchor = str(orjson.loads(document)["type"]).partition("#")
    routes = httpx.ASGITransport(build_routes(StubPlane()))
    async with httpx.AsyncClient(transport=routes, base_url="http://server") as client:
        page = await client.get(path)
    assert page.status_code == 200
    assert f"<h3 id={anchor}>" in page.text


def test_problem_of_an_unknown_code_has_no_page() -> None:
    assert error_guide.type_of("made_up") == "about:blank"


def test_codes_of_the_tree_are_all_explained() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type)]
    own = {c.code for c in classes if issubclass(c, errors.ServingError)}
    assert own <= set(error_guide.CODES)


@pytest.mark.parametrize(
    ("given", "hint"),
    [("digit", "did you mean 'Digits'?"), ("DIGITS", "did you mean 'Digits'?"), ("xyz", "")],
)
def test_did_you_mean_takes_slips_and_other_case(given: str, hint: str) -> None:
    assert did_you_mean(given, ["Digits", "resnet"]) == hint


@pytest.mark.parametrize(
    ("given", "known", "is_near"),
    [
        ("nope", "newopset", False),
        ("outputs", "inputs", False),
        ("iamge", "image", True),
        ("shp", "shape", True),
        ("FP32", "TYPE_FP32", True),
        ("model", "my_model", True),
    ],
)
def test_a_hint_shares_most_letters_or_is_a_part(given: str, known: str, is_near: bool) -> None:
    assert did_you_mean(given, [known]) == (f"did you mean {known!r}?" if is_near else "")
