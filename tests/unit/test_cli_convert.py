"""``serving convert`` and ``serving inspect``: files in, ONNX and readable answers out."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from click.testing import CliRunner, Result

from serving.cli import main
from serving.exit_codes import ExitCode
from serving.formats import om_file
from tests.doubles.om import ACL_FOLDER
from tests.unit.formats import architectures
from tests.unit.formats.mindir.mindir_files import Net
from tests.unit.formats.mindir.test_reader import KEY, W, X, encrypted, product_net, split

DOUBLES = ACL_FOLDER.parent


def invoke(*arguments: object, **env: str) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], env=env)


def answers(path: Path) -> None:
    session = ort.InferenceSession(str(path))
    np.testing.assert_array_equal(session.run(None, {"x": X})[0], X @ W)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return product_net().save(tmp_path / "net.mindir")


def strange(path: Path) -> Path:
    net = Net()
    x = net.input("x", "float32", (2, 3))
    net.output(net.op("Teleport", [x], ("float32", (2, 3))))
    return net.save(path)


def test_convert_writes_an_onnx_file_and_says_what_it_is(plain: Path, tmp_path: Path) -> None:
    result = invoke("convert", plain, "-o", tmp_path / "net.onnx")
    assert result.exit_code == ExitCode.OK, result.output
    answers(tmp_path / "net.onnx")
    first, second, third, fourth = result.stdout.splitlines()
    assert first.startswith("net.mindir: MindSpore 2.10.0, ")
    assert "1 operator; as ONNX: opset 17" in first
    assert second.startswith("wrote net.onnx, ")
    assert third == "x FP32[batch,3] -> output FP32[batch,4]"
    assert fourth.startswith("batched: ")
    assert "converting 1 operator to ONNX ..." in result.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.mindir", "net.onnx"]


def test_convert_verifies_against_known_answers(plain: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "inputs.npz", x=X)
    np.savez(tmp_path / "right.npz", X @ W)
    np.savez(tmp_path / "wrong.npz", X @ W + 1)
    command = ["convert", plain, "-f", "-o", tmp_path / "net.onnx", "--verify"]
    right = invoke(*command, tmp_path / "inputs.npz", tmp_path / "right.npz")
    assert right.exit_code == ExitCode.OK, right.output
    largest = float(np.abs(X @ W).max())
    assert (
        f"agrees  output[2, 4]: largest difference 0, allowed {largest * 1e-4:.3g}" in right.stdout
    )
    wrong = invoke(*command, tmp_path / "inputs.npz", tmp_path / "wrong.npz")
    assert wrong.exit_code == ExitCode.DIFFERS
    assert "DIFFERS output[2, 4]: largest difference 1," in wrong.stdout


@pytest.mark.parametrize("kind", ["env", "file"])
def test_convert_opens_encrypted_and_split_files(kind: str, tmp_path: Path) -> None:
    path = split(product_net(), tmp_path)
    for file in (path, tmp_path / "net_variables" / "data_0"):
        file.write_bytes(encrypted(file.read_bytes(), "AES-CBC"))
    (tmp_path / "key").write_bytes(KEY)
    options = ("--key-env", "NET_KEY") if kind == "env" else ("--key-file", tmp_path / "key")
    output = tmp_path / "net.onnx"
    result = invoke("convert", path, "-o", output, *options, NET_KEY=KEY.decode())
    assert result.exit_code == ExitCode.OK, result.output
    answers(output)
    assert KEY.decode() not in result.output
    assert KEY not in output.read_bytes()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ((), ExitCode.BAD_MODEL, "name it: key_env or key_file in servable.toml, --key-env"),
        (("--key-env", "NO_SUCH_KEY"), ExitCode.BAD_MODEL, "that is to hold the key is not set"),
        (("--key-env", "OTHER"), ExitCode.BAD_MODEL, "does not open with this key"),
        (("--key-env", "A", "--key-file", "b"), ExitCode.USAGE, "are both given"),
        (("--dec-mode", "AES-GCM"), ExitCode.USAGE, "without a key"),
    ],
)
def test_convert_without_the_right_key_writes_nothing(
    options: tuple[str, ...], code: ExitCode, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "net.mindir"
    path.write_bytes(encrypted(product_net().model.SerializeToString(), "AES-GCM"))
    result = invoke("convert", path, "-o", tmp_path / "net.onnx", *options, OTHER="x" * 16)
    assert result.exit_code == code
    assert said in result.stderr
    assert not (tmp_path / "net.onnx").exists()


def test_convert_does_not_write_over_a_file_unless_told(plain: Path, tmp_path: Path) -> None:
    output = tmp_path / "net.onnx"
    output.write_text("mine")
    result = invoke("convert", plain, "-o", output)
    assert result.exit_code == ExitCode.USAGE
    assert "is there already (add --force" in result.stderr
    assert output.read_text() == "mine"
    assert invoke("convert", plain, "-o", output, "--force").exit_code == ExitCode.OK
    answers(output)


def test_convert_refuses_what_it_cannot_convert(tmp_path: Path) -> None:
    result = invoke("convert", strange(tmp_path / "s.mindir"), "-o", tmp_path / "s.onnx")
    assert result.exit_code == ExitCode.BAD_MODEL
    assert "Teleport (1, first at 'Default/Teleport-op" in result.stderr
    (tmp_path / "m.onnx").write_bytes(architectures.mlp().SerializeToString())
    result = invoke("convert", tmp_path / "m.onnx", "-o", tmp_path / "n.onnx")
    assert result.exit_code == ExitCode.USAGE
    assert "is no MindIR file; given onnx (it runs as it is)" in result.stderr
    (tmp_path / "m.pt").write_bytes(b"PK")
    result = invoke("convert", tmp_path / "m.pt", "-o", tmp_path / "n.onnx")
    assert result.exit_code == ExitCode.USAGE
    assert "m.pt is a PyTorch file: export the network with torch.onnx.export" in result.stderr
    assert (
        "export the network with torch.onnx.export" in invoke("inspect", tmp_path / "m.pt").stdout
    )
    result = invoke("convert", tmp_path / "none.mindir", "-o", tmp_path / "n.onnx")
    assert result.exit_code == ExitCode.USAGE
    assert "none.mindir is not there" in result.stderr
    result = invoke("convert", tmp_path / "s.mindir", "-o", tmp_path / "no" / "n.onnx")
    assert "is in a folder that is not there" in result.stderr


def test_inspect_tells_of_a_mindir_what_it_is_and_writes_nothing(plain: Path) -> None:
    result = invoke("inspect", plain)
    assert result.exit_code == ExitCode.OK, result.output
    lines = {line[:13].strip(): line[13:] for line in result.stdout.splitlines()[1:]}
    assert lines["format"] == "mindir"
    assert lines["made by"] == "MindSpore 2.10.0"
    assert lines["runs"] == "on onnxruntime, as ONNX"
    assert lines["input"] == "x FP32[batch,3]"
    assert lines["output"] == "output FP32[batch,4]"
    assert lines["batched"].startswith("yes: ")
    assert lines["operators"] == "1: MatMul 1"
    assert [file.name for file in plain.parent.iterdir()] == [plain.name]


def test_inspect_tells_of_onnx_and_of_what_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(architectures.mlp().SerializeToString())
    result = invoke("inspect", tmp_path / "m.onnx", "--json")
    assert result.exit_code == ExitCode.OK
    found = json.loads(result.stdout)
    assert found["format"] == "onnx"
    assert sum(found["operators"].values()) == len(architectures.mlp().graph.node)
    result = invoke("inspect", strange(tmp_path / "s.mindir"))
    assert result.exit_code == ExitCode.BAD_MODEL
    assert "runs       no: the MindIR file uses 1 operator without" in result.stdout
    assert "1: Teleport 1" in result.stdout
    (tmp_path / "m.om").write_bytes(b"IMOD")
    result = invoke("inspect", tmp_path / "m.om")
    assert result.exit_code == ExitCode.BAD_MODEL
    assert "the OM file is cut short in its header" in result.stdout


def test_inspect_tells_what_the_engine_refuses(tmp_path: Path) -> None:
    net = architectures.mlp()
    net.opset_import[0].version = 999
    (tmp_path / "m.onnx").write_bytes(net.SerializeToString())
    result = invoke("inspect", tmp_path / "m.onnx")
    assert result.exit_code == ExitCode.BAD_MODEL
    assert "runs       no: opset 999 of ai.onnx is newer than ONNX Runtime" in result.stdout
    found = json.loads(invoke("inspect", tmp_path / "m.onnx", "--json").stdout)
    assert found["refusal"].startswith("opset 999 of ai.onnx is newer")


def test_convert_compiles_an_om_for_a_chip_that_is_named(plain: Path, tmp_path: Path) -> None:
    env = {"PATH": f"{DOUBLES}:{os.environ['PATH']}", "ATC_DOUBLE_PYTHON": sys.executable}
    command = ["convert", plain, "-o", tmp_path / "net.om", "--soc", "Ascend310P3"]
    result = invoke(*command, "--batch-sizes", "4,1", **env)
    assert result.exit_code == ExitCode.OK, result.output
    assert om_file.problem_of(tmp_path / "net.om") == ""
    lines = result.stdout.splitlines()
    assert lines[1].startswith("wrote net.om, ")
    assert ", for Ascend310P3 by CANN " in lines[1]
    assert lines[2:] == ["x FP32[batch,3] -> output FP32[batch,4]", "compiled for 1, 4 rows a run"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.mindir", "net.om"]


def test_convert_gives_atc_a_mindir_as_it_is_where_it_has_no_conversion(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    env = {
        "PATH": f"{DOUBLES}:{os.environ['PATH']}", "ATC_DOUBLE_PYTHON": sys.executable,
        "ATC_DOUBLE_CALLS": str(calls), "ATC_DOUBLE": "E19010",
    }  # fmt: skip
    file = strange(tmp_path / "s.mindir")
    result = invoke("convert", file, "-o", tmp_path / "net.om", "--soc", "Ascend310P3", **env)
    assert result.exit_code == ExitCode.BAD_MODEL
    assert "atc: E19010: " in result.stderr
    [words] = map(json.loads, calls.read_text().splitlines())
    assert words[:2] == [f"--model={file}", "--framework=1"]
    assert not [word for word in words if word.startswith("--input_shape")]


def test_convert_to_om_names_what_is_wrong(plain: Path, tmp_path: Path) -> None:
    om = tmp_path / "net.om"
    env = {"PATH": f"{DOUBLES}:{os.environ['PATH']}", "ATC_DOUBLE_PYTHON": sys.executable}
    chip = ["--soc", "Ascend310P3"]
    for command, status, told, more in (
        (["-o", om, *chip], ExitCode.BAD_MODEL, "set_env.sh", {"PATH": "/nowhere"}),
        (["-o", om, *chip], ExitCode.BAD_MODEL, "atc: E10016: ", {**env, "ATC_DOUBLE": "E10016"}),
        (["-o", om], ExitCode.BAD_MODEL, "no Ascend chip to compile for", env),
        (["-o", om, "--soc", "310"], ExitCode.BAD_MODEL, "no chip's name", env),
        (["-o", om, *chip, "--option", "a=b"], ExitCode.BAD_MODEL, "no option 'a'", env),
        (["-o", om, *chip, "--option", "a"], ExitCode.USAGE, "has no value", env),
        (["-o", om, *chip, "--batch-sizes", "0"], ExitCode.USAGE, "not numbers of rows", env),
        (["-o", om, *chip, "--tolerance", "1"], ExitCode.USAGE, "for ONNX files", env),
        (["-o", tmp_path / "n.onnx", *chip], ExitCode.USAGE, "are for OM files", env),
    ):
        result = invoke("convert", plain, *command, **more)
        assert (result.exit_code, told in result.stderr) == (status, True), result.output
        assert [file.name for file in tmp_path.iterdir()] == ["net.mindir"]


@pytest.mark.parametrize("name", ["convert", "inspect"])
def test_help_has_examples_and_exit_codes(name: str) -> None:
    text = invoke(name, "--help").stdout
    assert f"serving {name} net.mindir" in text
    assert f"with {ExitCode.BAD_MODEL.value}" in text
