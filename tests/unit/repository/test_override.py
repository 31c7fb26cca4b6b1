"""Files and settings that come with a request: where they are written, and where never."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from serving.errors import InvalidRequest
from serving.repository.override import Override, check, config_text, file_key, write
from serving.repository.scanner import scan
from serving.repository.triton_text import parse_config


def test_override_reads_version_and_file_of_a_parameter() -> None:
    assert file_key("file:1/model.onnx") == (1, "model.onnx")
    assert file_key("file:12/model.onnx.data") == (12, "model.onnx.data")


@pytest.mark.parametrize(
    "name",
    [
        "file:model.onnx", "file:1/", "file:/1/model.onnx", "file:../1/model.onnx", "file:1/..",
        "file:1/../model.onnx", "file:1/./model.onnx", "file:1/a/model.onnx", "file:0/model.onnx",
        "file:01/model.onnx", "file:x/model.onnx", "file:1/.", "file:1/a\\b", "file:1/a\0b",
        "file:1/a\nb", "file:", "file:1/" + "a" * 300, "file:-1/model.onnx", "file:1//etc/passwd",
        "file:99999999999999999999/model.onnx",
    ],
)  # fmt: skip
def test_override_refuses_a_name_that_could_lead_elsewhere(name: str) -> None:
    with pytest.raises(InvalidRequest, match="no usable name"):
        file_key(name)


@pytest.mark.parametrize("name", ["", ".", "..", "../m", "a/b", "/etc", "a\0", "x" * 200])
def test_override_refuses_a_servable_name_that_could_lead_elsewhere(name: str) -> None:
    with pytest.raises(InvalidRequest):
        check(name, Override())


def test_override_refuses_a_flood_of_files() -> None:
    with pytest.raises(InvalidRequest, match="too many files"):
        check("m", Override(files={(1, str(i)): b"" for i in range(300)}))


def test_override_is_written_as_a_repository_only_for_this_user(tmp_path: Path) -> None:
    override = Override('{"max_batch_size": 4}', {(2, "model.onnx"): b"model"})
    write(tmp_path, "m", override)
    file = tmp_path / "m" / "2" / "model.onnx"
    assert file.read_bytes() == b"model"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o700
    (servable,) = scan(tmp_path).servables
    assert servable.available == {2}
    assert servable.settings.max_batch_size == 4


def test_override_turns_json_into_the_text_of_a_configuration() -> None:
    text = config_text('{"max_batch_size": 8, "input": [{"name": "x", "data_type": "TYPE_FP32"}]}')
    config = parse_config(text, "config.pbtxt")
    assert (config.max_batch_size, config.input[0].name) == (8, "x")


@pytest.mark.parametrize("config", ["{", "[]", '{"max_bach_size": 1}', "[" * 5000, "null"])
def test_override_refuses_a_configuration_that_is_none(config: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read") as error:
        config_text(config)
    assert error.value.where == "parameters.config"
