"""What single names mean."""

import pytest

from serving.repository import names


@pytest.mark.parametrize(
    ("name", "version"), [("1", 1), ("42", 42), ("20240131235959", 20240131235959)]
)
def test_version_of_digits_is_their_number(name: str, version: int) -> None:
    assert names.version_of(name) == version


@pytest.mark.parametrize("name", ["v1", "1.0", "", " 1", "-1", "+1", "1_0", "\u0661", "\u00b2"])
def test_version_of_other_names_is_none_and_no_problem(name: str) -> None:
    assert names.version_of(name) is None
    assert names.version_problem(name) == ""


@pytest.mark.parametrize(
    ("name", "fix"),
    [("01", "rename it to '1'"), ("007", "rename it to '7'"), ("0", "start at 1"),
     ("000", "start at 1"), ("9223372036854775808", "at most"), ("9" * 5000, "at most")],
)  # fmt: skip
def test_version_that_cannot_be_one_says_what_to_do(name: str, fix: str) -> None:
    assert names.version_of(name) is None
    assert fix in names.version_problem(name)


def test_version_may_be_the_largest_int64() -> None:
    assert names.version_of("9223372036854775807") == 2**63 - 1


@pytest.mark.parametrize(
    "name",
    ["digits", "ResNet-50_v1.5", "my model", "\u4e2d\u6587", "1", "-x", "cafe\u0301",
     "\u0939\u093f\u0928\u094d\u0926\u0940", "model (1)", "yolo+seg", "resnet@v2"],
)  # fmt: skip
def test_servable_name_of_letters_digits_and_marks_is_fine(name: str) -> None:
    assert names.name_problem(name) == ""


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (".hidden", "begins with a dot"),
        (" x", "space"),
        ("x ", "space"),
        ("a\nb", "U+000A (a control character)"),
        ("a:b", "U+003A (colon)"),
        ("a,b", "U+002C (comma)"),
        ("a<b>", "U+003C"),
        ("a%b", "U+0025"),
        ("a/b", "U+002F"),
        ("a\x1b[31m", "U+001B"),
        ("a\udcff", "byte 0xff"),
        ("x" * 129, "129 characters"),
    ],
)
def test_servable_name_that_is_refused_says_why(name: str, problem: str) -> None:
    assert problem in names.name_problem(name)


@pytest.mark.parametrize(
    ("name", "final"),
    [
        ("model.onnx.part", "model.onnx"),
        ("model.onnx.tmp", "model.onnx"),
        ("model.mindir.partial", "model.mindir"),
        ("model.onnx~", "model.onnx"),
        (".model.onnx.Ab12Cd", "model.onnx"),
        ("model.onnx", ""),
        (".model.mindir", ""),
        (".gitignore", ""),
        (".part", ""),
    ],
)
def test_unfinished_names_are_those_of_copying_tools(name: str, final: str) -> None:
    assert names.unfinished(name) == final


@pytest.mark.parametrize(
    ("name", "candidate"),
    [
        ("model.onnx", True),
        ("MODEL.ONNX", True),
        ("net.ms", True),
        (".onnx", False),
        (".model.onnx", False),
        ("model.onnx.data", False),
        ("model.onnx_data", False),
        ("weights.bin", False),
        ("README.md", False),
    ],
)
def test_model_names_have_a_known_ending(name: str, candidate: bool) -> None:
    assert names.is_model_name(name) is candidate


def test_printable_escapes_what_would_move_the_cursor() -> None:
    assert names.printable("a\x1b[2J\n\udc80\u4e2d") == "a\\x1b[2J\\n\\udc80\u4e2d"
