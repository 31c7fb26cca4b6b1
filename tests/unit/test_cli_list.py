"""``serving list``: the table, JSON, and reasons; model files are looked into by a fake helper."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from serving.artifact import Artifact, Format
from serving.cli import main
from serving.cli.inventory import Inventory, Row
from serving.cli.table import render
from serving.exit_codes import ExitCode
from serving.formats.onnx_model import examine
from serving.repository import inspector
from serving.repository.settings import ServableSettings
from serving.repository.verdict import judge
from serving.tensor import BYTES, FP32, INT64, BatchAxes, Signature, TensorSpec
from tests.unit.formats.nets import written

HELPER = """
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    with open(request["path"]) as model:
        artifact = json.load(model)
    print(json.dumps({"id": request["id"], "artifact": artifact}), flush=True)
"""
SIGNATURE = Signature(
    (TensorSpec("image", FP32, ("n", 1, 28, 28)),),
    (TensorSpec("label", INT64, ("n",)), TensorSpec("scores", FP32, ("n", 10))),
)
DIGITS = Artifact(
    Format.ONNX,
    backend="onnxruntime",
    signature=SIGNATURE,
    batch=BatchAxes(True, "axis 0 was carried to every output", (0,), (0, 0)),
    digest="ab" * 32,
    size_bytes=3 << 20,
    producer="pytorch 2.5",
    detail="opset 17, 12 nodes",
    notes=("a note on it",),
)
OM = Artifact(Format.OM, reason="needs an Ascend device (serve it on one, or export ONNX)")
ALONE = Artifact(
    Format.ONNX,
    backend="onnxruntime",
    signature=SIGNATURE,
    batch=BatchAxes.refused("operator 'Cumsum' has no rule"),
)

Put = Callable[[str, "Artifact | str"], None]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "list_helper.py").write_text(HELPER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(inspector, "HELPER", "list_helper")
    made = tmp_path / "servables"
    made.mkdir()
    return made


@pytest.fixture
def put(root: Path) -> Put:
    """Return a function that writes a model file: here, the artifact the helper will answer."""

    def write(name: str, content: Artifact | str) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(content.to_json()) if isinstance(content, Artifact) else content
        path.write_text(text)

    return write


def listed(root: Path, *args: str) -> Result:
    result = CliRunner().invoke(main, ["list", "--model-dir", str(root), *args])
    assert result.exit_code == 0, result.output
    return result


def documents(root: Path) -> list[dict[str, Any]]:
    found = json.loads(listed(root, "--json").stdout)["versions"]
    assert isinstance(found, list)
    return found


def test_list_shows_version_format_backend_and_batching(root: Path, put: Put) -> None:
    put("digits/3/model.onnx", DIGITS)
    lines = listed(root).stdout.splitlines()
    assert lines == [
        f"{root}:",
        "1 of 1 servables would be served",
        "",
        "SERVABLE  VERSION  FORMAT  BACKEND      BATCHED",
        "digits    3        onnx    onnxruntime  up to 32",
        "    image FP32[n,1,28,28] -> label INT64[n], scores FP32[n,10]",
    ]


def test_list_shows_what_would_run_on_other_devices(root: Path, put: Put) -> None:
    put("digits/3/model.onnx", DIGITS)
    put("ascend/1/net.om", OM)
    (root / "digits" / "servable.toml").write_text("[instances]\ngpu = 1\ncpu = 1\n")
    text = listed(root, "--devices", "cpu,gpu:0,ascend").stdout
    assert "2 of 2 servables would be served" in text
    assert re.search(r"^digits +3 +onnx +onnxruntime, tensorrt +up to 32$", text, re.MULTILINE)
    assert re.search(r"^ascend +1 +om +ascend +no$", text, re.MULTILINE)
    rows = json.loads(listed(root, "--json", "--devices", "gpu").stdout)["versions"]
    assert [row["devices"] for row in rows] == [{}, {"gpu": "tensorrt"}]
    assert [row["runs"] for row in rows] == [False, True]


def test_list_shows_why_something_is_not_batched_or_does_not_run(root: Path, put: Put) -> None:
    put("alone.onnx", ALONE)
    put("ascend/1/net.om", OM)
    put("torch/1/model.pt", "x")
    text = listed(root).stdout
    assert "1 of 3 servables would be served; 2 would not run, see below" in text
    assert "    not batched: operator 'Cumsum' has no rule" in text
    assert "    does not run: needs an Ascend device (serve it on one, or export ONNX)" in text
    assert "    does not run: its folder holds no model file" in text


def test_list_looks_only_into_wanted_versions_and_names_the_others(root: Path, put: Put) -> None:
    put("digits/1/model.onnx", "the helper would fall over this")
    put("digits/2/model.onnx", DIGITS)
    rows = documents(root)
    assert [(row["version"], row["runs"]) for row in rows] == [(2, True)]
    assert rows[0]["notes"][0] == "also there, not wanted by versions = {latest = 1}: 1"


def test_list_shows_versions_newest_first(root: Path, put: Put) -> None:
    for number in (1, 10, 9):
        put(f"digits/{number}/model.onnx", DIGITS)
    put("digits/servable.toml", 'versions = "all"')
    assert [row["version"] for row in documents(root)] == [10, 9, 1]


def test_list_half_copied_version_is_shown_beside_the_one_served(root: Path, put: Put) -> None:
    put("digits/1/model.onnx", DIGITS)
    put("digits/2/model.onnx.part", "x")
    newest, served = documents(root)
    assert (newest["version"], newest["runs"]) == (2, False)
    assert "still being copied?" in newest["reason"]
    assert (served["version"], served["runs"]) == (1, True)


def test_list_names_versions_asked_for_and_not_there(root: Path, put: Put) -> None:
    put("digits/1/model.onnx", DIGITS)
    put("digits/servable.toml", "versions = {specific = [7]}")
    (row,) = documents(root)
    assert not row["runs"]
    assert row["reason"] == "no version is wanted by versions = {specific = [7]}"
    assert row["notes"] == [
        "also there, not wanted by versions = {specific = [7]}: 1",
        "version 7 is asked for by versions = {specific = [7]} and not there",
    ]


def test_list_wrong_settings_are_the_reason(root: Path, put: Put) -> None:
    put("digits/1/model.onnx", DIGITS)
    put("digits/servable.toml", "thread = 2")
    (row,) = documents(root)
    assert row["reason"].startswith("digits/servable.toml: key 'thread' is not known")


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        ('file = "dawn.json"', "warm-up: digits/dawn.json cannot be read: No such file or dir"),
        ("generate = true\nshapes = { imag = [1, 1] }",
         "warm-up sample 'warmup[0]' names input 'imag', which the model does not have; expected "
         "'image' (did you mean 'image'?)"),
    ],
)  # fmt: skip
def test_list_refuses_a_warm_up_that_a_server_would_refuse(
    sample: str, reason: str, root: Path, put: Put
) -> None:
    put("digits/1/model.onnx", DIGITS)
    put("digits/servable.toml", f"[[warmup]]\n{sample}\n")
    (row,) = documents(root)
    assert row["reason"].startswith(reason)
    assert not row["runs"]
    put("digits/dawn.json", "{}")
    put("digits/servable.toml", '[[warmup]]\nfile = "dawn.json"\n')
    assert documents(root)[0]["runs"]


def test_list_file_that_the_helper_dies_of_is_a_reason_and_quiet(root: Path, put: Put) -> None:
    put("bad.onnx", "not what the helper reads")
    put("digits.onnx", DIGITS)
    result = listed(root)
    assert "does not run: the inspection helper ended with status 1" in result.stdout
    assert "1 of 2 servables would be served" in result.stdout
    assert result.stderr == ""


def test_list_verbose_shows_file_size_producer_digest_and_notes(root: Path, put: Put) -> None:
    put("digits/3/model.onnx", DIGITS)
    put("digits/servables.toml", "")
    plain, verbose = listed(root).stdout, listed(root, "-v").stdout
    for text in (
        "    file: digits/3/model.onnx, 3.0 MiB",
        "    made by: pytorch 2.5",
        "    holds: opset 17, 12 nodes",
        "    sha256: " + "ab" * 32,
        "    batched: axis 0 was carried to every output",
        "    note: servables.toml is not read: settings belong in servable.toml",
        "    note: a note on it",
    ):
        assert text in verbose
        assert text not in plain


def test_list_verbose_says_how_to_call_what_runs(root: Path, put: Put) -> None:
    small = Signature((TensorSpec("x", FP32, ("n", 2)),), (TensorSpec("y", FP32, ("n",)),))
    put("small/1/model.onnx", replace(DIGITS, signature=small, batch=BatchAxes.refused("a test")))
    put("digits/1/model.onnx", DIGITS)
    put("ascend/1/net.om", OM)
    lines = listed(root, "-v").stdout.splitlines()
    assert [line for line in lines if "    try: " in line] == [
        "    try: curl http://localhost:1500/v2/models/digits",
        "    try: curl http://localhost:1500/predict "
        """-d '{"servable": "small", "instances": [{"x": [[0.5, 0.5]]}]}'""",
    ]


def test_list_verbose_shows_the_example_beside_a_servable(root: Path, put: Put) -> None:
    put("digits/1/model.onnx", DIGITS)
    put("digits/sample.json", '{"servable": "digits", "instances": [{"image": []}]}')
    put("digits/answer.json", '{"instances": [{"label": 5}]}')
    text = listed(root, "-v").stdout
    assert f"    try: curl http://localhost:1500/predict -d @{root}/digits/sample.json\n" in text
    assert '    its answer holds: {"instances": [{"label": 5}]}\n' in text
    (row,) = documents(root)
    assert row["example"] == {
        "request": {"servable": "digits", "instances": [{"image": []}]},
        "answer": {"instances": [{"label": 5}]},
    }


def test_list_json_is_complete(root: Path, put: Put) -> None:
    put("digits/3/model.onnx", DIGITS)
    (row,) = documents(root)
    assert row["signature"] == SIGNATURE.to_json()
    assert {key: row[key] for key in ("servable", "version", "file", "runs", "reason")} == {
        "servable": "digits", "version": 3, "file": "digits/3/model.onnx", "runs": True,
        "reason": "",
    }  # fmt: skip
    assert (row["format"], row["backend"], row["digest"]) == ("onnx", "onnxruntime", "ab" * 32)
    assert (row["max_batch_size"], row["batch"]["batched"]) == (32, True)


def test_list_of_an_empty_folder_says_where_to_put_a_model(root: Path) -> None:
    text = listed(root).stdout
    assert "no servable is here" in text
    assert "<servable>/1/model.onnx" in text


def test_list_notes_on_the_folder_itself_are_always_shown(root: Path, put: Put) -> None:
    put("servable.toml", "")
    assert "note: servable.toml is not read here" in listed(root).stdout


def test_list_of_no_folder_has_its_exit_code(root: Path) -> None:
    result = CliRunner().invoke(main, ["list", "--model-dir", str(root / "none")])
    assert result.exit_code == ExitCode.NO_MODEL_DIR
    assert result.stdout == ""


def test_list_of_a_single_servable_is_a_usage_error_with_the_fix(root: Path, put: Put) -> None:
    put("digits/1/model.onnx", DIGITS)
    result = CliRunner().invoke(main, ["list", "--model-dir", str(root / "digits")])
    assert result.exit_code == ExitCode.USAGE
    assert f"pass its parent: --model-dir {root}" in result.stderr


def row(name: str, artifact: Artifact) -> Row:
    verdict = judge(artifact, ServableSettings())
    return Row(name, 1, f"{name}/1/model.onnx", artifact, verdict, verdict.reason)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_table_stays_within_the_width(width: int) -> None:
    inputs = tuple(TensorSpec(f"input_number_{i}", FP32, ("n", i)) for i in range(12))
    wide = Artifact(
        Format.ONNX,
        backend="onnxruntime",
        signature=Signature(inputs, ()),
        batch=BatchAxes.refused("no " * 99),
    )
    listed = Inventory((row("wide", wide), row("om", OM)), ("a long note " * 20,))
    lines = render(listed, title="servables", width=width, verbose=True).splitlines()
    assert max(map(len, lines)) <= width
    assert all(
        f"input_number_{i} FP32[n,{i}]" in " ".join(" ".join(lines).split()) for i in range(12)
    )


def test_table_long_name_stands_on_its_own_line() -> None:
    name = "n" * 100
    lines = render(
        Inventory((row(name, DIGITS), row("b", DIGITS))), title="x", width=100, verbose=False
    ).splitlines()
    at = lines.index(name)
    assert lines[at + 1].split() == ["1", "onnx", "onnxruntime", "up", "to", "32"]
    assert lines[at + 1].index("1") == lines[3].index("VERSION")


def test_table_chinese_names_keep_the_columns() -> None:
    lines = render(
        Inventory((row("\u624b\u5199\u6570\u5b57\u8bc6\u522b", DIGITS),)),
        title="x", width=80, verbose=False,
    ).splitlines()  # fmt: skip
    assert lines[3].startswith("SERVABLE" + " " * 4 + "  VERSION")
    assert lines[4].startswith("\u624b\u5199\u6570\u5b57\u8bc6\u522b  1 ")


def test_table_escapes_what_a_model_could_put_into_a_terminal() -> None:
    signature = Signature((TensorSpec("a\x1b[2Jb", BYTES, ("n",)),), (TensorSpec("y", FP32, None),))
    artifact = Artifact(Format.ONNX, "onnxruntime", signature=signature, producer="p\x07q")
    text = render(Inventory((row("x", artifact),)), title="x", width=80, verbose=True)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "a\\x1b[2Jb BYTES[n] -> y FP32[...]" in text


STAGES = """
from serving import register

net = register.declare_model(model_file="net.onnx", model_format="ONNX", with_batch_dim=True)

def half(image):
    return image / 2

@register.register_method(output_names=["label", "scores"])
def classify(image):
    image = register.add_stage(half, image, outputs_count=1)
    return register.add_stage(net, image, outputs_count=2)
"""


def test_list_shows_methods_models_and_functions_of_a_servable_config(root: Path, put: Put) -> None:
    put("digits/servable_config.py", STAGES)
    put("digits/4/net.onnx", DIGITS)
    shown = listed(root, "-v").stdout
    assert "    methods: classify(image) -> label, scores\n" in shown
    assert "    model net.onnx: onnx, batched up to 32: asserted by with_batch_dim=True" in shown
    assert "    functions: half\n" in shown
    (row,) = documents(root)
    assert (row["version"], row["runs"], row["functions"]) == (4, True, ["half"])
    assert row["methods"] == [
        {"name": "classify", "inputs": ["image"], "outputs": ["label", "scores"]}
    ]
    assert [model["file"] for model in row["models"]] == ["net.onnx"]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (STAGES, "declare_model names 'net.onnx', which is not in the folder of the servable"),
        (STAGES + "half(None)", "digits/servable_config.py:7: TypeError: "),
        ("def f(:", "digits/servable_config.py:1: SyntaxError: "),
        (
            "import os; os._exit(3)",
            "the helper that imports servable_config.py ended with status 3",
        ),
    ],
)
def test_list_says_why_a_servable_config_is_not_served(
    root: Path, put: Put, config: str, reason: str
) -> None:
    put("digits/servable_config.py", config)
    (row,) = documents(root)
    assert not row["runs"]
    assert row["reason"].startswith(reason)


def test_list_says_why_a_declared_model_does_not_run(root: Path, put: Put) -> None:
    put("digits/servable_config.py", STAGES)
    put("digits/1/net.onnx", OM)
    (row,) = documents(root)
    assert not row["runs"]
    assert row["reason"] == f"net.onnx: {OM.reason}"


def test_list_says_that_a_method_does_not_fit_its_model(root: Path, put: Put) -> None:
    put("digits/servable_config.py", STAGES.replace("outputs_count=2", "outputs_count=1")
        .replace('["label", "scores"]', '"label"'))  # fmt: skip
    put("digits/1/net.onnx", DIGITS)
    (row,) = documents(root)
    assert not row["runs"]
    assert row["reason"].startswith(
        "method 'classify' says outputs_count=1 of model 'net.onnx', which gives 2: "
    )


def test_list_says_what_the_engine_refuses_and_what_was_not_tried(root: Path, put: Put) -> None:
    net = written("(float[N,4] x) => (y) { y = Relu(x) }")
    net.opset_import[0].version = 999
    put("new/1/model.onnx", examine(net))
    text = listed(root).stdout
    assert "0 of 1 servables would be served" in text
    assert "does not run: opset 999 of ai.onnx is newer than ONNX Runtime" in text
    text = listed(root, "--backend", f"onnxruntime.python={root / 'none'}").stdout
    assert "1 of 1 servables would be served" in text
    assert "note: not tried whether ONNX Runtime has all that the model asks for" in text
