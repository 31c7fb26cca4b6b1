"""The calls that people paste: shell-safe, short, and of the form that the server takes."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

from serving.frontends.example_call import body, on_page, one_line
from serving.request import Description
from serving.tensor import BOOL, BYTES, FP32, INT64, BatchAxes, Signature, TensorSpec
from tests.doubles import methods

BASE = "http://localhost:1500"


def described(*inputs: TensorSpec, axes: tuple[int | None, ...] = (), **details: object):
    batch = BatchAxes(True, "a test", axes, ()) if axes else BatchAxes.refused("a test")
    return Description("it's", 1, Signature(inputs, ()), batch, 8, "stub", details=details)


def test_body_holds_one_instance_without_its_batch_axis() -> None:
    specs = (
        TensorSpec("x", FP32, ("n", 2)),
        TensorSpec("word", BYTES, ("n",)),
        TensorSpec("on", BOOL, ("n", 1)),
        TensorSpec("count", INT64, ("n", "m")),
    )
    made, shortened = body(described(*specs, axes=(0, 0, 0, 0)))
    assert made == {
        "servable": "it's",
        "instances": [{"x": [0.5, 0.5], "word": "text", "on": [True], "count": [0]}],
    }
    assert not shortened


def test_one_line_is_safe_to_paste() -> None:
    words = shlex.split(one_line(described(TensorSpec("o'x", FP32, (1,))), BASE, Path("models")))
    assert words[:3] == ["curl", f"{BASE}/predict", "-d"]
    assert json.loads(words[3]) == {"servable": "it's", "instances": [{"o'x": [0.5]}]}


def test_one_line_sends_the_example_from_its_file() -> None:
    description = described(example={"request": {"servable": "it's", "instances": [{}]}})
    words = shlex.split(one_line(description, BASE, Path("my models")))
    assert words == ["curl", f"{BASE}/predict", "-d", "@my models/it's/sample.json"]


def test_one_line_describes_what_is_too_long_to_paste() -> None:
    description = described(TensorSpec("x", FP32, (3, 224, 224)))
    assert one_line(description, BASE, Path("m")) == f"curl {BASE}/v2/models/it%27s"


def test_call_names_its_version_where_another_one_would_answer() -> None:
    small, large = TensorSpec("x", FP32, (1,)), TensorSpec("x", FP32, (3, 224, 224))
    example = {"request": {"servable": "it's", "instances": [{"x": [7]}]}}
    for newest, version in ((1, None), (2, 1)):
        for description in (described(small), described(small, example=example)):
            made = body(replace(description, versions=(newest, 1)))[0]
            assert made.get("version") == version
        described_again = one_line(replace(described(large), versions=(newest,)), BASE, Path("m"))
        assert described_again.endswith("it%27s/versions/1" if version else "it%27s")
    pasted = one_line(replace(described(small, example=example), versions=(2,)), BASE, Path("m"))
    assert json.loads(shlex.split(pasted)[3])["version"] == 1


def test_on_page_carries_the_example_and_says_when_lists_are_cut() -> None:
    example = {"servable": "it's", "instances": [{"x": 7}]}
    shown = on_page(described(TensorSpec("x", FP32, (1,)), example={"request": example}), BASE)
    assert json.loads(shlex.split(shown.replace("\\\n", ""))[-1]) == example
    assert "cut short" not in shown
    large = on_page(described(TensorSpec("x", FP32, (3, 224, 224))), BASE + "/")
    assert large.startswith("# the lists are cut short")
    assert f"curl {BASE}/predict " in large


def test_a_call_of_a_method_names_it_and_says_where_any_value_may_stand() -> None:
    shown = on_page(methods.ECHO, "http://here/")
    assert shown.startswith("# a single 0 stands for any value")
    assert '{"servable": "kinds", "method": "echo", "instances": [{"x": 0}]}' in shown
    typed = on_page(methods.ADD, "http://here/")
    assert typed.startswith("curl ")
    assert '"method": "add", "instances": [{"x1": [0.5, 0.5], "x2": [0.5, 0.5]}]' in typed


def test_an_example_beside_the_servable_is_shown_with_its_method_only() -> None:
    request = {"servable": "kinds", "method": "echo", "instances": ["text"]}
    details = {"example": {"request": request}}
    for description, is_shown in ((methods.ECHO, True), (methods.ADD, False)):
        known = replace(description, details=details)
        assert (body(known) == (request, False)) is is_shown
        assert ("sample.json" in one_line(known, "http://h", Path("m"))) is is_shown


def test_an_example_without_a_method_is_that_of_the_usual_one() -> None:
    details = {"example": {"request": {"servable": "kinds", "instances": [1]}}}
    only = replace(methods.ECHO, details=details, methods=("echo",))
    assert body(only)[0] == details["example"]["request"]
    one_of_three = replace(methods.ECHO, details=details)
    assert body(one_of_three)[0]["method"] == "echo"
