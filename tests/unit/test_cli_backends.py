"""Where engines live: flags over the file, and mistakes named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from serving.cli import main
from serving.config import BackendSettings, ServerSettings
from serving.exit_codes import ExitCode
from tests.unit.test_cli_start import Server, server, settings_of, start

__all__ = ["server"]


def run(server: Server, tmp_path: Path, file: str, *flags: str) -> ServerSettings:
    config = tmp_path / "serving.toml"
    config.write_text(file)
    args = [f"--backend={flag}" for flag in flags]
    return settings_of(server, start("--model-dir", str(tmp_path), "--config", str(config), *args))


FILE = """
devices = "cpu,gpu:0"
[backends.tensorrt]
python = "/opt/trt/bin/python"
module = "tensorrt_rtx"
[backends.tensorrt.env]
LD_LIBRARY_PATH = "/opt/trt/lib"
[backends.tensorrt.options]
memory_pool_mb = 512
"""


def test_file_says_where_an_engine_lives(server: Server, tmp_path: Path) -> None:
    found = run(server, tmp_path, FILE)
    assert found.devices == "cpu,gpu:0"
    assert found.backends == {
        "tensorrt": BackendSettings(
            "/opt/trt/bin/python", {"LD_LIBRARY_PATH": "/opt/trt/lib"}, "tensorrt_rtx",
            {"memory_pool_mb": "512"},
        )
    }  # fmt: skip
    told = found.backends["tensorrt"]
    assert told.environment("tensorrt") == {
        "LD_LIBRARY_PATH": "/opt/trt/lib", "SERVING_TENSORRT_MODULE": "tensorrt_rtx",
    }  # fmt: skip


def test_flags_win_over_the_file_key_by_key(server: Server, tmp_path: Path) -> None:
    flags = (
        "tensorrt.module=tensorrt", "tensorrt.env.A=x=y", "tensorrt.options.precision=fp16",
        "ascend.python=/usr/bin/python3",
    )  # fmt: skip
    found = run(server, tmp_path, FILE, *flags).backends
    assert found["tensorrt"].python == "/opt/trt/bin/python"
    assert found["tensorrt"].module == "tensorrt"
    assert found["tensorrt"].env == {"LD_LIBRARY_PATH": "/opt/trt/lib", "A": "x=y"}
    assert found["tensorrt"].options == {"memory_pool_mb": "512", "precision": "fp16"}
    assert found["ascend"] == BackendSettings("/usr/bin/python3")


def test_backends_may_come_from_the_environment(server: Server, tmp_path: Path) -> None:
    env = {"SERVING_BACKEND": "ascend.env.A=1 ascend.env.B=2"}
    found = settings_of(server, start("--model-dir", str(tmp_path), env=env))
    assert found.backends == {"ascend": BackendSettings(env={"A": "1", "B": "2"})}


def refused(tmp_path: Path, *args: str) -> Result:
    result = start("--model-dir", str(tmp_path), *args)
    assert result.exit_code == ExitCode.USAGE, result.output
    return result


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("tensorrt", "NAME.python=PATH"),
        ("tensorrt.python", "NAME.python=PATH"),
        ("tensorrt.colour=red", "NAME.python=PATH"),
        ("tensorrt.env=A", "NAME.python=PATH"),
        ("tensorrt.python.x=A", "NAME.python=PATH"),
        ("tensor.python=/a", "'tensor', which is no backend"),
        ("tensorrt.python=python3", "an absolute path"),
        ("tensorrt.module=torch", "'tensorrt' or 'tensorrt_rtx'"),
        ("ascend.module=acl", "ascend has only one"),
        ("ascend.env.A-B=1", "names of environment variables"),
    ],
)
def test_flag_that_means_nothing_is_refused(tmp_path: Path, flag: str, says: str) -> None:
    assert says in refused(tmp_path, f"--backend={flag}").stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("backends = 1", "tables [backends.NAME]"),
        ("[backends.tensort]", "did you mean 'tensorrt'?"),
        ("[backends.tensorrt]\npyhton = '/a'", "did you mean 'python'?"),
        ("[backends.tensorrt]\npython = 3", "a string"),
        ("[backends.tensorrt]\nenv = 'A=1'", "a table"),
        ("[backends.tensorrt.env]\nA = [1]", "a string, a number"),
        ("backend = ['x']", "key 'backend' is not known"),
    ],
)
def test_file_that_means_nothing_is_refused_with_its_key(
    tmp_path: Path, text: str, says: str
) -> None:
    config = tmp_path / "serving.toml"
    config.write_text(text)
    assert says in refused(tmp_path, "--config", str(config)).stderr


def test_devices_command_describes_a_machine_with_a_cpu_alone() -> None:
    nothing = [f"--backend={n}.env.PYTHONPATH=/none" for n in ("tensorrt", "ascend")]
    shown = CliRunner().invoke(main, ["devices", "--json", *nothing])
    assert shown.exit_code == 0, shown.output
    document = json.loads(shown.stdout)
    assert [kind["kind"] for kind in document["kinds"]] == ["cpu", "gpu", "ascend"]
    assert document["kinds"][0]["usable"]
    assert document["formats"]["onnx"]["cpu"] == {"runs": True, "backend": "onnxruntime"}
