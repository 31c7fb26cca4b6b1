"""The clients that Triton's users have, unchanged, get right answers and readable errors."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from tests.server import ServerProcess, serving

SERVABLES = Path(__file__).parents[2] / "servables"
SCRIPT = Path(__file__).with_name("triton_calls.py")
KINDS = ("http", "http.aio", "grpc", "grpc.aio", "grpc to grpcio", "grpc.aio to grpcio")
ROWS = 5


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving(SERVABLES, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def grpcio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    scratch = tmp_path_factory.mktemp("grpcio")
    with serving(SERVABLES, scratch, "--grpc-engine", "grpcio") as running:
        yield running


@pytest.fixture(scope="module")
def rows() -> dict[str, Any]:
    """Return images and texts, the sample of each servable first."""

    def first(servable: str, name: str) -> Any:
        sample = json.loads((SERVABLES / servable / "sample.json").read_text())
        return sample["instances"][0][name]

    random = np.random.default_rng(11)
    image = random.integers(0, 17, (ROWS, 1, 8, 8)).astype(np.float32)
    image[0] = first("digits", "image")
    text = np.array(first("language", "text"), np.uint8)
    other = np.frombuffer(b"The weather is fine today, and we walk to the sea ".ljust(99), np.uint8)
    return {"image": image, "text": np.stack([text, other[: len(text)]])}


@pytest.fixture(scope="module", params=KINDS)
def told(
    request: pytest.FixtureRequest,
    server: ServerProcess,
    grpcio: ServerProcess,
    rows: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """Run the calls of one kind of client and return what it was told."""
    file = tmp_path_factory.mktemp("rows") / "rows.npz"
    np.savez(file, **rows)
    kind, _, to_grpcio = request.param.partition(" ")
    answering = grpcio if to_grpcio else server
    address = f"127.0.0.1:{server.rest_port}" if "http" in kind else answering.grpc
    run = subprocess.run(
        [sys.executable, "-W", "ignore", str(SCRIPT), kind, address, str(file)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    print(f"{request.param}: {versions}")
    return {"kind": kind, **told}


def wanted(servable: str, name: str, rows: Any, outputs: list[str]) -> list[Any]:
    """Ask the bare engine; arrays in the form that the script prints."""
    file = str(SERVABLES / servable / "1" / "model.onnx")
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    found = []
    for array in session.run(outputs, {name: rows}):
        if array.dtype == object:
            found.append(["object", list(array.shape), array.ravel().tolist()])
        else:
            found.append([array.dtype.name, list(array.shape), array.tobytes().hex()])
    return found


def test_tritonclient_gets_the_engines_bits(told: dict[str, Any], rows: dict[str, Any]) -> None:
    outputs = ["label", "probabilities"]
    forms = ["binary", "json"] if told["kind"].startswith("http") else ["binary"]
    for form in forms:
        assert told[form]["one"] == wanted("digits", "image", rows["image"][:1], outputs)
        assert told[form]["many"] == wanted("digits", "image", rows["image"], outputs)
        assert told[f"{form} id"] == "r-1"
    assert told["no outputs named"] == wanted("digits", "image", rows["image"], ["label"])[0]
    # The sample is a 5, whatever the engine says.
    assert told["no outputs named"][2][:16] == np.int64(5).tobytes().hex()


def test_tritonclient_has_answers_to_a_stream_in_its_order(
    told: dict[str, Any], rows: dict[str, Any]
) -> None:
    if not told["kind"].startswith("grpc"):
        pytest.skip("only gRPC has streams")
    image = rows["image"]
    first, second, error, last = told["stream"]
    for number, answer, part in (
        (0, first, image[:1]),
        (1, second, image[1:3]),
        (3, last, image[3:]),
    ):
        assert answer == [f"s-{number}", True, wanted("digits", "image", part, ["label"])[0]]
    assert error.startswith("inputs.image")
    assert "[5,1,7,8]" in error


def test_readme_example_with_tritonclient_prints_what_it_says(server: ServerProcess) -> None:
    text = (SERVABLES.parent / "README.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (example,) = [block for block in blocks if "tritonclient" in block]
    assert "localhost:5500" in example
    (says,) = re.findall(r"print\(.*\)  # (.*)", example)
    run = subprocess.run(
        [sys.executable, "-c", example.replace("localhost:5500", server.grpc)],
        cwd=SERVABLES.parent,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert run.stdout == f"{says}\n"


def test_tritonclient_gets_strings(told: dict[str, Any]) -> None:
    forms = ["binary", "json"] if told["kind"].startswith("http") else ["binary"]
    for form in forms:
        assert told[form]["strings"] == ["object", [2], ["fr", "en"]]


def test_tritonclient_is_told_what_is_ready(told: dict[str, Any]) -> None:
    asked = ("live", "ready", "model ready", "version ready", "unknown ready")
    assert [told[name] for name in asked] == [True, True, True, True, False]


def test_tritonclient_is_told_what_the_model_takes(told: dict[str, Any]) -> None:
    assert told["server"]["name"] == "serving"
    model = told["model"]
    assert (model["name"], model["versions"]) == ("digits", ["1"])

    def tensors(side: str) -> list[tuple[str, str, list[int]]]:
        # protobuf writes 64-bit numbers as strings into JSON
        return [(t["name"], t["datatype"], [int(d) for d in t["shape"]]) for t in model[side]]

    assert tensors("inputs") == [("image", "FP32", [-1, 1, 8, 8])]
    assert tensors("outputs") == [("probabilities", "FP32", [-1, 10]), ("label", "INT64", [-1])]


def test_tritonclient_raises_errors_that_help(told: dict[str, Any]) -> None:
    over_http = told["kind"].startswith("http")
    for call in ("unknown model", "unknown metadata"):
        status, text = told[call]
        assert status == ("404" if over_http else "StatusCode.NOT_FOUND")
        assert "'digit'" in text
        assert "did you mean 'digits'?" in text
    status, text = told["wrong shape"]
    assert status == ("400" if over_http else "StatusCode.INVALID_ARGUMENT")
    assert text.startswith("inputs.image")
    assert "axis 2" in text
    assert "[5,1,7,8]" in text
