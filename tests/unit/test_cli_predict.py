"""What ``serving predict`` reads, makes of pictures, and prints."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from serving.cli import answer, main, picture
from serving.cli.given import Given, Reader
from serving.client.prediction import objects
from serving.errors import ConfigError
from serving.exit_codes import ExitCode, exit_code_for
from serving.request import Description
from serving.tensor import ANY, BY_NAME, BatchAxes, Dim, Signature, TensorSpec
from tests.doubles import methods

Shape = tuple[Dim, ...]


def servable(batched: bool = True, **inputs: tuple[str, Shape]) -> Description:
    specs = tuple(TensorSpec(n, BY_NAME[dtype], shape) for n, (dtype, shape) in inputs.items())
    outputs = (
        TensorSpec("y", BY_NAME["FP32"], ("n",)),
        TensorSpec("half", BY_NAME["BF16"], ("n",)),
    )
    axes = BatchAxes(True, "shown", (0,) * len(specs), (0, 0))
    batch = axes if batched else BatchAxes.refused("made up")
    return Description("m", 2, Signature(specs, outputs), batch, 8, "p")


IMAGE = servable(image=("FP32", ("n", 1, 2, 2)))
TWO = servable(x=("FP32", ("n", 2)), text=("BYTES", ("n",)))


def read(known: Description, path: Path | str) -> Given:
    return Reader(known, None).file(str(path))


def write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document))
    return path


ROWS = [{"x": [1, 2], "text": "a"}, {"x": [3, 4], "text": "b"}]


@pytest.mark.parametrize(
    "document", [ROWS, {"instances": ROWS, "servable": "m", "id": "k"}], ids=["bare", "body"]
)
def test_json_holds_rows(document: Any, tmp_path: Path) -> None:
    given = read(TWO, write(tmp_path / "in.json", document))
    assert given.rows == ROWS
    assert given.request_id == ("k" if isinstance(document, dict) else "")


@pytest.mark.parametrize("wrapped", [True, False])
def test_json_holds_inputs_and_a_row_may_stand_for_them(wrapped: bool, tmp_path: Path) -> None:
    inputs = {"x": [[1, 2]], "text": "a"}
    given = read(TWO, write(tmp_path / "in.json", {"inputs": inputs} if wrapped else inputs))
    assert given.inputs == {"x": [[1, 2]], "text": ["a"]}


def test_json_holds_raw_bytes(tmp_path: Path) -> None:
    raw = {"b64": "AACAPwAAAEA="}
    given = read(TWO, write(tmp_path / "in.json", {"x": raw, "text": {"b64": "/w=="}}))
    assert given.inputs is not None
    np.testing.assert_array_equal(given.inputs["x"], np.array([[1, 2]], np.float32))
    assert given.inputs["text"] == [b"\xff"]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (3, "neither an object nor a list"),
        ({"y": 1}, "no input 'y'"),
        ({"instances": [], "inputs": {}}, "both 'instances' and 'inputs'"),
        ({"instances": {}}, "'instances' is not a list"),
        ({"inputs": []}, "'inputs' is not an object"),
        ({"instances": [], "instance": 1}, "key 'instance' is not known"),
        ({"instances": [], "servable": "other"}, "for servable 'other', not 'm'"),
        ({"instances": [], "parameters": {"a": 1}}, "only be sent over REST"),
        ({"x": {"b64": "?"}}, "b64 value of input 'x'"),
    ],
)
def test_wrong_json_is_refused_in_words(document: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        read(TWO, write(tmp_path / "in.json", document))
    assert exit_code_for(refused.value) is ExitCode.USAGE


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.json", None, "No such file"),
        ("bad.json", b"{", "is not JSON"),
        ("bad.npy", b"x", "cannot be read"),
        ("bad.npz", b"", "cannot be read"),
        ("bad.png", b"x", "cannot be read as a picture"),
        ("model.onnx", b"x", "cannot be told"),
        ("lines.txt", b"x", "is text, and input 'image' takes none; expected FP32"),
    ],
)
def test_file_that_cannot_be_read_is_named(
    name: str, content: bytes | None, words: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=words) as refused:
        read(IMAGE, tmp_path / name)
    assert name in str(refused.value)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ConfigError, match="cannot be read"):
        read(IMAGE, tmp_path / "in.npy")


def test_one_value_for_several_inputs_asks_which(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", np.zeros(2))
    with pytest.raises(ConfigError, match="has several") as refused:
        read(TWO, tmp_path / "in.npy")
    assert "--input NAME=@" in refused.value.fix


def test_pairs_are_json_text_or_files(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([1, 2], np.float32))
    given = Reader(TWO, None).pairs([f"x=@{tmp_path / 'x.npy'}", "text=3"])
    assert given.inputs is not None
    assert given.inputs["x"].shape == (1, 2)
    assert given.inputs["text"] == ["3"]
    assert Reader(TWO, None).pairs(["x=[1, 2]", 'text=["a", "b"]']).inputs == {
        "x": [[1, 2]],
        "text": ["a", "b"],
    }


def test_name_with_an_equals_sign_is_believed_when_it_is_known() -> None:
    known = servable(**{"a=b": ("INT64", ("n",)), "a": ("INT64", ("n",))})
    assert Reader(known, None).pairs(["a=b=3", "a=4"]).inputs == {"a=b": [3], "a": [4]}


@pytest.mark.parametrize(
    ("pair", "words"),
    [("x", "has no value"), ("y=1", "no input 'y'"), ("x=abc", "is not JSON")],
)
def test_wrong_pair_is_refused_in_words(pair: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Reader(TWO, None).pairs([pair])


# -- pictures --------------------------------------------------------------------------------


def save(tmp_path: Path, pixels: Any, name: str = "p.png") -> Path:
    Image.fromarray(np.array(pixels, np.uint8)).save(tmp_path / name)
    return tmp_path / name


def fit(path: Path, dtype: str, shape: Shape, scale: Any = None, axis: int | None = 0) -> Any:
    return picture.read(path, TensorSpec("x", BY_NAME[dtype], shape), axis, scale)[0]


COLOURS = [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]]


@pytest.mark.parametrize(
    ("dtype", "shape", "axis", "expected"),
    [
        ("UINT8", ("n", 2, 2, 3), 0, [COLOURS]),
        ("UINT8", ("n", 3, 2, 2), 0, [np.moveaxis(np.array(COLOURS), 2, 0)]),
        ("FP32", ("n", 3, "h", "w"), 0, [np.moveaxis(np.array(COLOURS), 2, 0) / 255]),
        ("FP64", (1, 2, 2, 3), None, [np.array(COLOURS) / 255]),
        ("UINT8", (2, 2, "n", 3), 2, np.array(COLOURS)[:, :, None]),
    ],
)
def test_picture_is_laid_out_as_the_input_asks(
    dtype: str, shape: Shape, axis: int | None, expected: Any, tmp_path: Path
) -> None:
    array = fit(save(tmp_path, COLOURS), dtype, shape, axis=axis)
    expected = np.asarray(expected).astype(BY_NAME[dtype].numpy)
    assert array.dtype == expected.dtype
    np.testing.assert_allclose(array, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [("n", 1, 2, 2), ("n", 2, 2, 1), ("n", 2, 2)])
def test_picture_is_made_grey_for_one_channel(shape: Shape, tmp_path: Path) -> None:
    array = fit(save(tmp_path, [[0, 51], [102, 255]]), "FP32", shape)
    assert array.shape == (1, *shape[1:])
    np.testing.assert_allclose(array.reshape(-1), [0, 0.2, 0.4, 1], rtol=1e-6)


def test_picture_is_scaled_between_the_values_of_black_and_white(tmp_path: Path) -> None:
    path = save(tmp_path, [[0, 51], [102, 255]])
    shape: Shape = ("n", 1, 2, 2)
    np.testing.assert_allclose(fit(path, "FP32", shape, (16, 0)).reshape(-1), [16, 12.8, 9.6, 0])
    np.testing.assert_array_equal(fit(path, "UINT8", shape).reshape(-1), [0, 51, 102, 255])
    np.testing.assert_array_equal(
        fit(path, "UINT8", shape, (255, 0)).reshape(-1), [255, 204, 153, 0]
    )


def test_picture_is_resized_and_turned_upright(tmp_path: Path) -> None:
    source = Image.fromarray(np.array([[0, 0, 255, 255]] * 2, np.uint8))
    exif = source.getexif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    source.save(tmp_path / "p.png", exif=exif)
    array = fit(tmp_path / "p.png", "UINT8", ("n", 1, 4, 2))
    np.testing.assert_array_equal(array[0, 0], [[0, 0], [0, 0], [255, 255], [255, 255]])
    assert fit(tmp_path / "p.png", "UINT8", ("n", 1, 7, 5)).shape == (1, 1, 7, 5)


@pytest.mark.parametrize(
    ("dtype", "shape", "axis"),
    [
        ("INT64", ("n", 1, 2, 2), 0),
        ("FP32", ("n", 4, 2, 2), 0),
        ("FP32", ("n", 16), 0),
        ("FP32", (2, 2), None),
    ],
)
def test_input_that_is_no_picture_is_told(
    dtype: str, shape: Shape, axis: int | None, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="a picture does not fit input 'x'"):
        fit(save(tmp_path, [[0]]), dtype, shape, axis=axis)


def test_missing_pillow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path, [[0]])
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ConfigError) as refused:
        read(IMAGE, path)
    assert "serving[image]" in refused.value.fix


# -- answers ---------------------------------------------------------------------------------


def test_table_has_a_line_for_each_row() -> None:
    specs = tuple(
        TensorSpec(name, BY_NAME[dtype], None)
        for name, dtype in (("y", "FP32"), ("label", "BYTES"), ("score", "FP64"))
    )
    axes = BatchAxes(True, "shown", (0,), (0, 0, 0))
    known = Description("m", 1, Signature(IMAGE.signature.inputs, specs), axes, 8, "p")
    outputs = {
        "y": np.array([[0.25, 1, 1e-9], [2, 1 / 3, np.nan]], np.float32),
        "label": objects(["cat", "ox"], (2,)),
        "score": np.array([123456.0, 1e-9]),
    }
    assert answer.table(answer.split(outputs, known), known).splitlines() == [
        "row  y               label  score",
        "0    [0.25 1 0]      cat    123456",
        "1    [2 0.3333 nan]  ox     1e-09",
    ]


def test_table_shows_whole_outputs_without_batch_axis_as_one_row() -> None:
    known = servable(batched=False, x=("FP32", ("n",)))
    rows = answer.split({"y": np.arange(3, dtype=np.float32)}, known)
    assert answer.table(rows, known).splitlines()[1:] == ["0    [0 1 2]"]


def test_json_has_the_fewest_digits_names_for_nan_and_b64_for_bytes() -> None:
    known = servable(x=("FP32", ("n",)))
    outputs = {
        "y": np.array([0.1, np.nan, -np.inf], np.float32),
        "half": np.array([0x3F80], np.uint16),
        "count": np.array([2**63 - 1]),
        "raw": objects([b"\xff"], (1,)),
        "doc": objects([{"a": [1]}], (1,)),
    }
    told = json.loads(answer.to_json({"outputs": outputs}, known, 2, "k"))
    assert told == {
        "servable": "m",
        "version": 2,
        "id": "k",
        "outputs": {
            "y": [0.1, "NaN", "-Infinity"],
            "half": [1.0],
            "count": [2**63 - 1],
            "raw": [{"b64": "/w=="}],
            "doc": [{"a": [1]}],
        },
    }


def test_npz_loads_without_pickle() -> None:
    outputs = {
        "y": np.zeros((2, 2), np.float16),
        "text": objects(["a", "語"], (2,)),
        "raw": objects([b"\xff\x01"], (1,)),
        "doc": objects([{"a": 1}], (1,)),
        "none": objects([], (0,)),
    }
    with np.load(io.BytesIO(answer.to_npz(outputs)), allow_pickle=False) as loaded:
        found = {name: loaded[name] for name in loaded.files}
    assert found["y"].dtype == np.float16
    assert found["text"].tolist() == ["a", "語"]
    assert found["raw"].tolist() == [b"\xff\x01"]
    assert found["doc"].tolist() == ['{"a": 1}']
    assert found["none"].shape == (0,)


@pytest.mark.parametrize("item", ["a\0", b"a\0"])
def test_npz_refuses_strings_that_it_would_cut(item: Any) -> None:
    with pytest.raises(ConfigError, match="NUL"):
        answer.to_npz({"text": objects([item], (1,))})


def test_rows_of_one_shape_stack_and_others_are_refused() -> None:
    stacked = answer.stack([{"y": np.zeros(2), "s": "a"}, {"y": np.ones(2), "s": "b"}])
    assert stacked["y"].shape == (2, 2)
    assert stacked["s"].tolist() == ["a", "b"]
    with pytest.raises(ConfigError, match="differs in shape"):
        answer.stack([{"y": np.zeros(2)}, {"y": np.zeros(3)}])


# -- the command -----------------------------------------------------------------------------


def test_help_explains_files_pictures_and_every_option() -> None:
    result = CliRunner().invoke(main, ["predict", "--help"])
    assert result.exit_code == 0
    text = " ".join(result.output.split())
    for word in ("SERVING_URL", "--pixels", "--timeout-s", ".npz", "bilinear", "serving[image]"):
        assert word in text
    for option in main.commands["predict"].params:
        assert option.opts[-1] in text or option.name in ("servable", "file")


@pytest.mark.parametrize(
    "words",
    [
        ["m", "in.json", "-i", "x=1"],
        ["m", "-i", "x=1", "--pixels", "1"],
        ["m", "-i", "x=1", "--timeout-s", "0"],
        ["m", "-i", "x=1", "--version", "0"],
        ["m", "-i", "x=1", "--url", "http://localhost:1500"],
    ],
)
def test_wrong_usage_has_its_exit_code(words: list[str]) -> None:
    result = CliRunner().invoke(main, ["predict", *words])
    assert result.exit_code == ExitCode.USAGE
    assert "Error" in result.output


ANY_METHOD = methods.method(
    "tag", tuple(TensorSpec(n, ANY, None) for n in ("x", "y")), methods.ECHO.signature.outputs
)


def test_values_for_a_method_are_one_instance() -> None:
    given = Reader(ANY_METHOD, None).pairs(["x=5", "y=words of text"])
    assert given.inputs is None
    (row,) = given.rows or ()
    assert (row["x"].dtype, row["x"].shape, row["y"]) == (np.int32, (), "words of text")


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([1, 2], np.int32),
        (-(2**31), np.int32),
        (2**31, np.int64),
        (1.5, np.float32),
        ([1, 1e39], np.float64),
        ({"b64": "AAE=", "dtype": "UINT8"}, np.uint8),
    ],
)
def test_json_numbers_for_a_method_are_those_of_post_predict(
    value: Any, dtype: Any, tmp_path: Path
) -> None:
    given = read(methods.ECHO, write(tmp_path / "in.json", {"instances": [value]}))
    (row,) = given.rows or ()
    assert row.dtype == dtype


@pytest.mark.parametrize("value", ["text", True, ["a", "b"]])
def test_json_of_another_kind_goes_to_a_method_as_it_is(value: Any, tmp_path: Path) -> None:
    given = read(methods.ECHO, write(tmp_path / "in.json", [value]))
    assert list(given.rows or ()) == [value]


def test_files_for_a_method_are_bytes_or_text(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\0\xff")
    (tmp_path / "b.txt").write_text("one\ntwo")
    assert Reader(methods.ECHO, None).file(str(tmp_path / "a.bin")).rows == [{"x": b"\0\xff"}]
    assert Reader(methods.ECHO, None).file(str(tmp_path / "b.txt")).rows == ["one", "two"]
    given = Reader(methods.ECHO, None).pairs([f"x=@{tmp_path / 'b.txt'}"])
    assert given.rows == [{"x": "one\ntwo"}]


def test_a_body_for_another_method_is_refused_with_the_way_out(tmp_path: Path) -> None:
    body = write(tmp_path / "in.json", {"method": "add", "instances": [1]})
    with pytest.raises(ConfigError) as refused:
        read(methods.ECHO, body)
    assert refused.value.fix == "add --method add"


def test_json_output_names_the_method() -> None:
    text = answer.to_json({"instances": [{"y": "a"}]}, methods.ECHO, 1, "")
    assert json.loads(text) == {
        "servable": "kinds", "version": 1, "method": "echo", "instances": [{"y": "a"}],
    }  # fmt: skip
