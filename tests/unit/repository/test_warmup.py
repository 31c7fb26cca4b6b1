"""Samples for warming: how ``servable.toml`` and ``config.pbtxt`` ask for them, and their files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving.errors import ConfigError, LoadError
from serving.repository.settings import parse_settings
from serving.repository.triton_folder import read_folder
from serving.repository.warmup import resolved
from serving.warmup import FILE, RANDOM, ZEROS, Fill, WarmUp


def of_toml(text: str) -> tuple[WarmUp, ...]:
    return parse_settings(text.encode(), "m/servable.toml").warmup


def of_triton(text: str, rows: int = 0) -> tuple[WarmUp, ...]:
    config = f"max_batch_size: {rows}\n{text}"
    return read_folder(config.encode(), "m/config.pbtxt", "m").settings.warmup


def test_warmup_is_read_from_its_tables() -> None:
    samples = of_toml(
        """
        [[warmup]]
        file = "morning.json"
        count = 3
        required = false
        [[warmup]]
        name = "large"
        generate = true
        values = "zeros"
        rows = 8
        shapes = { x = [8, 128] }
        """
    )
    assert samples == (
        WarmUp("morning.json", "morning.json", count=3, required=False),
        WarmUp("large", inputs={"x": Fill(ZEROS, (8, 128))}, values=ZEROS, rows=8),
    )
    assert [WarmUp.from_json(sample.to_json()) for sample in samples] == list(samples)
    assert of_toml("") == ()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("warmup = 3", "warmup"),
        ("[warmup]\nfile = 'a'", "warmup"),
        ("[[warmup]]", "warmup[0]"),
        ("[[warmup]]\nfile = 'a'\ngenerate = true", "warmup[0]"),
        ("[[warmup]]\ngenerate = 1", "warmup[0].generate"),
        ("[[warmup]]\nfile = '../a'", "warmup[0].file"),
        ("[[warmup]]\nfile = '..'", "warmup[0].file"),
        ("[[warmup]]\nfile = 'a'\nrows = 2", "warmup[0].rows"),
        ("[[warmup]]\ngenerate = true\ncount = 0", "warmup[0].count"),
        ("[[warmup]]\ngenerate = true\ncount = 1001", "warmup[0].count"),
        ("[[warmup]]\ngenerate = true\nrows = 1.5", "warmup[0].rows"),
        ("[[warmup]]\ngenerate = true\nvalues = 'ones'", "warmup[0].values"),
        ("[[warmup]]\ngenerate = true\nshapes = [1]", "warmup[0].shapes"),
        ("[[warmup]]\ngenerate = true\nshapes = { x = [0] }", "warmup[0].shapes.x"),
        ("[[warmup]]\ngenerate = true\nrequired = 'no'", "warmup[0].required"),
        ("[[warmup]]\ngenerate = true\n" * 33, "warmup"),
        ("[[warmup]]\ngenerate = true\n[[warmup]]\nfil = 'a'", "warmup[1].fil"),
    ],
)
def test_warmup_that_cannot_be_names_its_key(text: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        of_toml(text)
    assert caught.value.where == key
    assert "m/servable.toml" in str(caught.value)


def test_warmup_of_triton_is_honoured() -> None:
    text = """
    model_warmup [
      { name: "zeros" batch_size: 4 count: 2
        inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 3, 2 ] zero_data: true } } },
      { batch_size: 1
        inputs { key: "s" value { data_type: TYPE_STRING dims: [ 1 ] input_data_file: "texts" } }
        inputs { key: "x" value { data_type: TYPE_INT64 dims: [ 5 ] random_data: true } } }
    ]"""
    assert of_triton(text, rows=8) == (
        WarmUp("zeros", inputs={"x": Fill(ZEROS, (4, 3, 2), "", "FP32")}, rows=4, count=2),
        WarmUp(
            "model_warmup[1]",
            inputs={
                "s": Fill(FILE, (1, 1), "warmup/texts", "BYTES"),
                "x": Fill(RANDOM, (1, 5), "", "INT64"),
            },
        ),
    )
    # Without batches dims hold every axis.
    plain = 'model_warmup { inputs { key: "x" value { dims: [ 5 ] zero_data: true } } }'
    assert of_triton(plain) == (WarmUp("model_warmup[0]", inputs={"x": Fill(ZEROS, (5,), "", "")}),)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("model_warmup { batch_size: 2 }", "model_warmup[0].batch_size"),
        ("model_warmup { count: 1001 }", "model_warmup[0].count"),
        ("model_warmup { } " * 33, "model_warmup"),
        ('model_warmup { inputs { key: "x" value { dims: [ 5 ] } } }', "model_warmup[0].x"),
        (
            'model_warmup { inputs { key: "x" value { dims: [ -1 ] zero_data: true } } }',
            "model_warmup[0].x.dims",
        ),
        (
            'model_warmup { inputs { key: "x" value { dims: [ 1 ] input_data_file: "../y" } } }',
            "model_warmup[0].x.input_data_file",
        ),
    ],
)
def test_warmup_of_triton_that_cannot_be_names_its_field(text: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        of_triton(text)
    assert caught.value.where == key


def test_warmup_files_are_found_in_the_servables_folder_only(tmp_path: Path) -> None:
    folder, outside = tmp_path / "models" / "m", tmp_path / "secret.json"
    (folder / "warmup").mkdir(parents=True)
    (folder / "warmup" / "x").write_bytes(b"1234")
    outside.write_text("{}")
    sample = WarmUp("w", inputs={"x": Fill(FILE, (1,), "warmup/x")})
    (found,) = resolved((sample,), folder)
    assert found.inputs["x"].file == str(folder / "warmup" / "x")
    os.symlink(outside, folder / "link.json")
    for name, reason in (
        ("gone.json", "m/gone.json cannot be read: No such file"),
        ("link.json", "m/link.json is a link out of the model directory"),
        ("warmup", "m/warmup is not a file"),
    ):
        with pytest.raises(LoadError, match=reason):
            resolved((WarmUp("w", name),), folder)


def test_warmup_file_that_is_not_there_keeps_nothing_from_serving_where_it_is_not_required(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wished, made_up = WarmUp("w", "gone.json", required=False), WarmUp("made up")
    assert resolved((wished, made_up), tmp_path / "m") == (made_up,)
    (said,) = caplog.messages
    assert said.startswith("warm-up: m/gone.json cannot be read: ")
    assert said.endswith("; the sample is not required")
