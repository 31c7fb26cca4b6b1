"""MindIR files dropped into a folder, served by a real server without MindSpore.

Expected answers are computed by numpy from the weights that the files were written with.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from serving.client import Client
from tests.server import ServerProcess, serving, until
from tests.unit.formats.mindir.mindir_files import Net
from tests.unit.formats.mindir.test_reader import KEY, encrypted, split

F = "float32"
WEIGHTS = {
    name: np.random.default_rng(seed).standard_normal((3, 4)).astype(np.float32)
    for seed, name in enumerate(("plain", "old", "big", "secret", "secret_big", "kept"))
}
OTHER_KEY = "another-key-of-16"[:16]
ENV = {"NET_KEY": KEY.decode(), "OTHER_KEY": OTHER_KEY}
FORBIDDEN = """
import os
open(os.environ["MINDSPORE_SEEN"], "w").close()
raise ImportError("MindSpore must not be needed")
"""


def net(name: str, release: str = "2.10") -> Net:
    """Write ``relu(reshape(x) @ w)``, exported with a batch of two."""
    made = Net(release)
    w, x = made.weight("w", WEIGHTS[name]), made.input("image", F, (2, 1, 3))
    target = made.constant((2, 3))
    flat = made.op("Reshape", [x, target], (F, (2, 3)))
    y = made.op("MatMul", [flat, w], (F, (2, 4)), transpose_a=False, transpose_b=False)
    made.output(made.op("ReLU", [y], (F, (2, 4))))
    return made


def expected(name: str, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.maximum(x.reshape(-1, 3) @ WEIGHTS[name], 0)


def rows(count: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(count).standard_normal((count, 1, 3)).astype(np.float32)


def folder(root: Path, name: str, settings: str = "") -> Path:
    made = root / name / "1"
    made.mkdir(parents=True)
    if settings:
        (root / name / "servable.toml").write_text(settings)
    return made


def encrypt(file: Path, mode: str) -> None:
    file.write_bytes(encrypted(file.read_bytes(), mode))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    net("plain").save(root / "plain.mindir").chmod(0o400)
    net("old", "2.0").save(root / "old.mindir")
    split(net("big"), root, "big")
    key = 'key_env = "NET_KEY"\n'
    encrypt(net("secret").save(folder(root, "secret", key) / "model.mindir"), "AES-GCM")
    place = folder(root, "secret_big", key + 'dec_mode = "SM4-CBC"\n')
    split(net("secret_big"), place, "net")
    for file in (place / "net_graph.mindir", place / "net_variables" / "data_0"):
        encrypt(file, "SM4-CBC")
    kept = key + "cache_decrypted = true\n"
    encrypt(net("kept").save(folder(root, "kept", kept) / "model.mindir"), "AES-CBC")
    encrypt(net("plain").save(folder(root, "locked") / "model.mindir"), "AES-GCM")
    wrong = 'key_env = "OTHER_KEY"\n'
    encrypt(net("plain").save(folder(root, "other_key", wrong) / "model.mindir"), "AES-GCM")
    strange = net("plain")
    strange.graph.output[0].name = strange.op(
        "Teleport", [strange.graph.output[0].name], (F, (2, 4))
    )
    strange.save(root / "strange.mindir")
    whole = net("plain").model.SerializeToString()
    (root / "cut.mindir").write_bytes(whole[: len(whole) * 2 // 3])
    return root


@pytest.fixture(scope="module")
def forbidden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with a mindspore that tells when it is imported."""
    made = tmp_path_factory.mktemp("forbidden")
    (made / "mindspore.py").write_text(FORBIDDEN)
    return made


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(root: Path, scratch: Path, forbidden: Path) -> Iterator[ServerProcess]:
    env = {**ENV, "PYTHONPATH": str(forbidden), "MINDSPORE_SEEN": str(forbidden / "seen")}
    with serving(root, scratch, env=env) as running:
        yield running


def infer(server: ServerProcess, name: str, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Ask over V2 REST."""
    tensor = {
        "name": "image", "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist(),
    }  # fmt: skip
    status, answer = server.post(f"/v2/models/{name}/infer", {"inputs": [tensor]})
    assert status == 200, answer
    (output,) = answer["outputs"]
    found: np.ndarray[Any, Any] = np.array(output["data"], np.float32).reshape(output["shape"])
    return found


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_mindir_is_answered_rightly_over_rest_and_grpc(
    server: ServerProcess, name: str, count: int
) -> None:
    x = rows(count)
    np.testing.assert_allclose(infer(server, name, x), expected(name, x), rtol=1e-5, atol=1e-6)
    with Client(server.grpc) as client:
        answer = client.predict(name, {"image": x})["output"]
    np.testing.assert_allclose(answer, expected(name, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["plain", "secret"])
def test_mindir_metadata_says_what_it_is_and_that_its_batch_is_free(
    server: ServerProcess, name: str
) -> None:
    status, metadata = server.get(f"/v2/models/{name}")
    assert status == 200
    assert metadata["platform"] == "mindspore_mindir"
    assert metadata["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 1, 3]}]
    assert metadata["outputs"] == [{"name": "output", "datatype": "FP32", "shape": [-1, 4]}]
    assert metadata["properties"]["batched"] == "true"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("locked", ("is encrypted and no key is given", "key_env or key_file in servable.toml")),
        ("other_key", ("does not open with this key",)),
        ("strange", ("Teleport (1, first at 'Default/Teleport-op", "file_format='ONNX'")),
        ("cut", ("damaged", "copy or export it again")),
    ],
)
def test_mindir_that_cannot_run_is_refused_with_the_reason(
    server: ServerProcess, name: str, said: tuple[str, ...]
) -> None:
    status, answer = server.get(f"/v2/models/{name}")
    assert status == 503
    for words in said:
        assert words in str(answer)


def test_mindir_needs_no_mindspore(server: ServerProcess, forbidden: Path) -> None:
    assert infer(server, "plain", rows(1)).shape == (1, 4)
    assert not (forbidden / "seen").exists()


def test_keys_and_decrypted_weights_are_in_no_log_argument_or_file(
    server: ServerProcess, scratch: Path
) -> None:
    secrets = [
        KEY,
        OTHER_KEY.encode(),
        WEIGHTS["secret"].tobytes(),
        WEIGHTS["secret_big"].tobytes(),
    ]
    process = psutil.Process(server.pid)
    told = [" ".join(p.cmdline()).encode() for p in (process, *server.children())]
    told += [file.read_bytes() for file in scratch.rglob("*") if file.is_file()]
    assert any(WEIGHTS["plain"].tobytes() in text for text in told)  # the search does find
    assert any(WEIGHTS["kept"].tobytes() in text for text in told)
    for text in told:
        for secret in secrets:
            assert secret not in text


def test_decrypted_model_is_there_for_a_worker_that_is_started_again(
    server: ServerProcess,
) -> None:
    (before,) = server.workers()
    before.kill()
    until(lambda: any(w.pid != before.pid for w in server.workers()), 20, "a new worker")

    def serves() -> bool:
        return server.get("/v2/models/secret/ready")[0] == 200

    until(serves, 20, "the decrypted model in the new worker")
    x = rows(3)
    np.testing.assert_allclose(
        infer(server, "secret", x), expected("secret", x), rtol=1e-5, atol=1e-6
    )


def test_second_start_takes_conversions_from_the_cache(root: Path, tmp_path: Path) -> None:
    logs, times = [], []
    for _ in range(2):
        with serving(root, tmp_path, env=ENV) as server:
            logs.append(server.log())
        models = sorted((tmp_path / "cache" / "mindir").glob("*/model.onnx"))
        times.append([(file, file.stat().st_mtime_ns) for file in models])
    assert len(times[0]) == 4  # plain, old, big and kept; what is secret is in memory only
    assert times[0] == times[1]
    for name in ("plain", "old", "big", "kept"):
        assert "converted in" in loading(logs[0], name)
        assert "was converted before" in loading(logs[1], name)
    assert "converted in" in loading(logs[1], "secret")


def loading(log: str, name: str) -> str:
    (line,) = [
        line
        for line in log.splitlines()
        if " loading a MindIR by MindSpore" in line and f"servable={name} " in line
    ]
    return line


def test_cache_that_cannot_be_written_costs_a_warning_and_leaves_nothing(
    root: Path, tmp_path: Path
) -> None:
    models, temporary = tmp_path / "models", tmp_path / "temporary"
    models.mkdir()
    temporary.mkdir()
    shutil.copy(root / "old.mindir", models)
    (tmp_path / "file").touch()
    options = ("--cache-dir", str(tmp_path / "file" / "cache"))
    env = {"TMPDIR": str(temporary)}
    with serving(models, tmp_path / "scratch", *options, env=env) as server:
        x = rows(2)
        np.testing.assert_allclose(infer(server, "old", x), expected("old", x), rtol=1e-5)
        assert "the cache folder cannot be used (Not a directory)" in server.log()
        (made,) = temporary.glob("serving-*/*/model.onnx")
        made = made.parents[1]
        assert made.stat().st_mode & 0o777 == 0o700
        assert server.stop() == 0
    assert not list(temporary.glob("serving-*"))


def test_list_tells_of_every_mindir_and_converts_for_the_start(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "serving", "list", "--model-dir", str(root), "--json"]
    done = subprocess.run(
        [*command, "--cache-dir", str(tmp_path / "cache")],
        capture_output=True, text=True, timeout=100, check=True, env={**os.environ, **ENV},
    )  # fmt: skip
    rows = {row["servable"]: row for row in json.loads(done.stdout)["versions"]}
    assert {name for name, row in rows.items() if row["runs"]} == set(WEIGHTS)
    assert (rows["big"]["format"], rows["big"]["producer"]) == ("mindir", "MindSpore 2.10.0")
    assert rows["secret"]["format"] == "mindir-encrypted"
    assert "Teleport" in rows["strange"]["reason"]
    with serving(root, tmp_path, env=ENV) as server:
        assert "was converted before" in loading(server.log(), "plain")
