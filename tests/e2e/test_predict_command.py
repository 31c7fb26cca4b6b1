"""``serving predict``, and all that docs/client.md shows, against a real ``serving start``."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from serving.cli import main
from serving.exit_codes import ExitCode
from tests import models
from tests.e2e.test_pipeline_examples import write_guide
from tests.server import ServerProcess, serving

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "client.md"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("repository")
    for name in ("multi", "string_lookup"):
        path = root / name / "1" / "model.onnx"
        path.parent.mkdir(parents=True)
        getattr(models, name)(path)
    for name in ("digits", "penguins"):
        shutil.copytree(ROOT / "servables" / name, root / name)
    write_guide(root / "tongue")
    with serving(root, tmp_path_factory.mktemp("server")) as running:
        yield running


def digit() -> Any:
    body = json.loads((ROOT / "servables" / "digits" / "sample.json").read_text())
    return body["instances"][0]["image"]


def command(server: ServerProcess, *words: str, stdin: bytes = b"") -> tuple[int, bytes, str]:
    done = subprocess.run(
        [sys.executable, "-m", "serving", "predict", *words, "--url", server.grpc],
        input=stdin, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr.decode()


def test_command_answers_the_sample_for_people_and_programs(server: ServerProcess) -> None:
    sample = str(ROOT / "servables" / "digits" / "sample.json")
    code, out, _ = command(server, "digits", sample, "-v")
    head, row = out.decode().splitlines()
    assert (code, head.split()) == (0, ["row", "probabilities", "label"])
    assert (row.split()[0], row.split()[-1]) == ("0", "5")
    code, out, _ = command(server, "digits", sample, "--output", "json")
    _, over_rest = server.predict(json.loads(Path(sample).read_text()))
    told = json.loads(out)
    del over_rest["method"]
    assert told == over_rest


def test_command_reads_arrays_and_writes_npz(server: ServerProcess, tmp_path: Path) -> None:
    file = tmp_path / "two.npz"
    np.savez(file, image=np.array([digit(), np.zeros((1, 8, 8))], np.float32))
    code, out, _ = command(server, "digits", str(file), "--output", "npz")
    assert code == 0
    with np.load(io.BytesIO(out)) as answers:
        assert answers["label"][0] == 5
        assert answers["probabilities"].shape == (2, 10)
    np.save(tmp_path / "one.npy", np.array(digit(), np.float32))
    code, out, _ = command(
        server, "digits", "--input", f"image=@{tmp_path / 'one.npy'}", "-o", "json"
    )
    assert json.loads(out)["outputs"]["label"] == [5]


def test_command_reads_a_picture(server: ServerProcess, tmp_path: Path) -> None:
    pixels = np.array(digit(), np.float64)[0]
    picture = Image.fromarray((255 - pixels / 16 * 255).astype(np.uint8))
    picture.resize((64, 64), Image.Resampling.BICUBIC).convert("RGBA").save(tmp_path / "5.png")
    code, out, err = command(
        server, "digits", str(tmp_path / "5.png"), "--pixels", "16:0", "-v", "-o", "json"
    )
    assert (code, json.loads(out)["outputs"]["label"]) == (0, [5])
    note = "5.png: 64x64 RGBA became grey, 8x8, black 16 and white 0, FP32[1,1,8,8]"
    assert note in err


def test_command_takes_text_and_standard_input(server: ServerProcess, tmp_path: Path) -> None:
    code, out, _ = command(server, "string_lookup", "-i", "word=two", "-o", "json")
    assert (code, json.loads(out)["outputs"]) == (0, {"number": [2]})
    (tmp_path / "words.txt").write_text("one\nzero\n")
    code, out, _ = command(server, "string_lookup", str(tmp_path / "words.txt"), "-o", "json")
    assert json.loads(out)["outputs"] == {"number": [1, 0]}
    body = b'{"id": "k", "instances": [{"left": [1, 2, 3], "right": [4, 5]}]}'
    code, out, _ = command(server, "multi", "-", "-o", "json", stdin=body)
    assert json.loads(out) == {
        "servable": "multi", "version": 1, "id": "k",
        "instances": [{"total": 6.0, "doubled": [8, 10], "positive": [True, True, True]}],
    }  # fmt: skip


def test_command_ends_with_the_code_that_says_why(server: ServerProcess) -> None:
    code, _, err = command(server, "digit", "-i", "image=1")
    assert (code, "did you mean 'digits'" in err) == (ExitCode.REFUSED, True)
    code, _, err = command(server, "digits", "-i", "imag=1")
    assert (code, "did you mean 'image'" in err) == (ExitCode.USAGE, True)
    code, _, err = command(server, "digits")
    assert (code, "FP32[batch,1,8,8]" in err) == (ExitCode.USAGE, True)
    done = subprocess.run(
        [sys.executable, "-m", "serving", "predict", "digits", "-i", "x=1",
         "--url", f"127.0.0.1:{server.rest_port}"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == ExitCode.NO_SERVER
    assert "not the REST port" in done.stderr


def test_examples_of_help_and_guide_are_answered(server: ServerProcess, tmp_path: Path) -> None:
    np.save(tmp_path / "digit.npy", np.array(digit(), np.float32))
    np.savez(tmp_path / "batch.npz", image=np.array([digit()], np.float32))
    shutil.copy(ROOT / "servables" / "digits" / "sample.json", tmp_path / "body.json")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "scan.png")
    (tmp_path / "servables").symlink_to(ROOT / "servables")
    shown = CliRunner().invoke(main, ["predict", "--help"]).output
    examples = shown.partition("Examples:\n")[2].partition("\n\n")[0]
    guide = "".join(block for block in blocks("sh") if block.startswith("serving predict"))
    assert min(examples.count("serving predict"), guide.count("serving predict")) >= 5
    serving_command = f'serving() {{ {sys.executable} -m serving "$@"; }}'
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", f"{serving_command}\n{examples}\n{guide}"],
        capture_output=True, timeout=110, cwd=tmp_path, check=False,
        env={**os.environ, "SERVING_URL": server.grpc, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.count(b"Gentoo") == 2
    with np.load(tmp_path / "answers.npz") as answers:
        assert answers["label"].tolist() == [5]


def blocks(language: str) -> list[str]:
    text = GUIDE.read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_python_of_the_guide_prints_what_its_comments_say(server: ServerProcess) -> None:
    program = "\n".join(blocks("python")).replace("localhost:5500", server.grpc)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True, text=True, timeout=60, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    promised = re.findall(r"^ *print\(.*\)  # (.*)$", "\n".join(blocks("python")), re.MULTILINE)
    assert len(promised) >= 5
    for line in promised:
        assert line in printed, done.stdout
    assert str([5] * 8) in printed


@pytest.mark.parametrize("block", [block for block in blocks("sh") if "curl" in block])
def test_curl_of_the_guide_is_answered(server: ServerProcess, block: str) -> None:
    commands = block.replace("localhost:1500", f"127.0.0.1:{server.rest_port}")
    done = subprocess.run(
        ["bash", "-e", "-c", commands.replace("curl ", "curl -sSf ")],
        capture_output=True, text=True, timeout=60, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"digits"' in done.stdout


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler here")
def test_cpp_over_http_of_the_guide_compiles_and_is_answered(
    server: ServerProcess, tmp_path: Path
) -> None:
    (tmp_path / "ask.cpp").write_text(blocks("cpp")[0])
    subprocess.run(
        ["g++", "-std=c++17", "-Wall", "-Werror", "ask.cpp", "-o", "ask"],
        cwd=tmp_path, check=True, timeout=110,
    )  # fmt: skip
    sample = ROOT / "servables" / "digits" / "sample.json"
    done = subprocess.run(
        [tmp_path / "ask", "127.0.0.1", str(server.rest_port), sample],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["instances"][0]["label"] == 5
