"""MindSpore Serving's start scripts and its client run as they are."""

from __future__ import annotations

import ast
import base64
import json
import os
import shutil
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from serving.api.client import Client, SSLConfig
from serving.client import Client as OwnClient
from tests import models
from tests.certificates import Authority
from tests.e2e.scripts import OVER, Script, free_ports, is_free, script
from tests.servables import lay_out
from tests.server import call, until

ROOT = Path(__file__).parents[2]
ROWS = json.loads((ROOT / "tests" / "data" / "mindspore_serving" / "client.json").read_text())


class Started(NamedTuple):
    script: Script
    rest: int
    grpc: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.grpc}"

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        return call("POST", f"http://127.0.0.1:{self.rest}{path}", body)

    def get(self, path: str) -> tuple[int, Any]:
        return call("GET", f"http://127.0.0.1:{self.rest}{path}")


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """The servables of the recordings, started by a script that has come to its end."""
    folder = tmp_path_factory.mktemp("api")
    rest, grpc = free_ports(2)
    lay_out(folder / "one", ["add", "kinds"])
    lay_out(folder / "two", ["addb"])
    text = f"""
one = server.ServableStartConfig("one", "add", version_number=1)
other = server.ServableStartConfig("one", "add", version_number=2)
kinds = server.ServableStartConfig(servable_directory="one", servable_name="kinds")
addb = server.ServableStartConfig("two", "addb", device_ids=(3,), num_parallel_workers=2)
server.start_servables(servable_configs=[one, other, kinds, addb])
server.start_grpc_server("127.0.0.1:{grpc}", max_msg_mb_size=32)
server.start_restful_server(address="127.0.0.1:{rest}")
"""
    with script(folder, text) as running:
        running.wait_for(OVER)
        yield Started(running, rest, grpc)


def value(recorded: Any) -> Any:
    """Return what a recording stands for."""
    if isinstance(recorded, list):
        return [value(item) for item in recorded]
    if not isinstance(recorded, dict):
        return recorded
    if "ndarray" in recorded:
        found = np.array(ast.literal_eval(recorded["value"]), recorded["ndarray"])
        return found.reshape(recorded["shape"])
    if "np" in recorded:
        return np.dtype(recorded["np"]).type(ast.literal_eval(recorded["value"]))
    if "bytes_b64" in recorded:
        return base64.b64decode(recorded["bytes_b64"])
    return {name: value(item) for name, item in recorded.items()}


def agree(got: Any, wanted: Any) -> bool:
    """Compare types, dtypes, shapes and values."""
    if type(got) is not type(wanted):
        return False
    if isinstance(wanted, dict):
        return got.keys() == wanted.keys() and all(agree(got[n], wanted[n]) for n in wanted)
    if isinstance(wanted, list):
        return len(got) == len(wanted) and all(map(agree, got, wanted))
    if isinstance(wanted, np.ndarray):
        return (
            got.dtype == wanted.dtype and got.shape == wanted.shape and bool((got == wanted).all())
        )
    return bool(got == wanted)


@pytest.mark.parametrize(
    "row",
    [r for r in ROWS if "result" in r and r["name"] != "noconn"],
    ids=lambda r: str(r["name"]),
)
def test_api_client_gets_what_was_recorded(started: Started, row: dict[str, Any]) -> None:
    client = Client(started.address, row["servable"], row["method"], row["version"])
    instances = value(row["instances"])
    wanted = value(row["result"])
    got = client.infer(tuple(instances) if row["name"] == "tuple" else instances)
    assert agree(got, wanted), got
    assert agree(client.infer_async(instances).result(), wanted)


def test_api_opens_the_whole_front_end(started: Started) -> None:
    status, told = started.get("/v2/health/ready")
    assert (status, told["ready"]) == (200, True)
    assert started.get("/v2/models/kinds")[0] == 200
    assert "serving_" in started.get("/metrics")[1]
    body = {"instances": {"x1": [[1.0, 2.0]] * 2, "x2": [[3.0, 4.0]] * 2}}
    status, told = started.post("/model/add/version/1:add_common", body)
    assert told == {"instances": [{"y": [[4.0, 6.0]] * 2}]}
    with OwnClient(started.address) as client:
        names = {found.servable for found in client.servables() if found.state == "READY"}
    assert names == {"add", "addb", "kinds"}


def test_api_serves_the_versions_that_were_asked_for(started: Started) -> None:
    x = np.ones((2, 2), np.float32)
    for version in (1, 2, 0):
        client = Client(started.address, "add", "add_common", version)
        assert client.infer({"x1": x, "x2": x})[0]["y"].tolist() == [[2.0, 2.0]] * 2
    missing = Client(started.address, "add", "add_common", 3).infer({"x1": x, "x2": x})
    assert "servable is not available" in missing["error"]


def test_api_decodes_large_requests_after_the_end_of_the_script(started: Started) -> None:
    """Python closes its pools of threads when a script ends, unless something stands before it."""
    large = "x" * (1 << 20)
    status, told = started.post("/model/kinds:echo", {"instances": [{"x": large}]})
    assert (status, told) == (200, {"instances": [{"y": large}]})


def test_api_message_limit_is_that_of_the_address(started: Started) -> None:
    told = Client(started.address, "kinds", "echo").infer({"x": np.zeros(33 << 20, np.uint8)})
    assert told["error"].startswith("Grpc Error, (8, 'resource exhausted'), ")


def test_api_ends_with_the_first_signal_after_the_script(tmp_path: Path) -> None:
    models.add(tmp_path / "sums" / "1" / "model.onnx")
    rest, grpc = free_ports(2)
    text = f"""
server.start_servables(server.ServableStartConfig(".", "sums"))
server.start_grpc_server("127.0.0.1:{grpc}")
server.start_restful_server("127.0.0.1:{rest}")
"""
    for number in (signal.SIGTERM, signal.SIGINT):
        with script(tmp_path, text) as running:
            running.wait_for(OVER)
            assert call("GET", f"http://127.0.0.1:{rest}/v2/health/ready")[0] == 200
            assert running.signal(number) == 0, running.text()
            assert "Traceback" not in running.text()
        assert is_free(rest)
        assert is_free(grpc)


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [(signal.SIGINT, -signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, 128 + 15, "finally")],
)
def test_api_signal_ends_a_script_that_goes_on(
    tmp_path: Path, number: int, code: int, words: str
) -> None:
    models.add(tmp_path / "sums" / "1" / "model.onnx")
    (rest,) = free_ports(1)
    text = f"""
import time
server.start_servables(server.ServableStartConfig(".", "sums"))
server.start_restful_server("127.0.0.1:{rest}")
print("up", flush=True)
try:
    while True:
        time.sleep(60)
finally:
    print("finally", flush=True)
"""
    with script(tmp_path, text) as running:
        running.wait_for("up\n")
        assert running.signal(number) == code
        assert words in running.text()
        assert OVER not in running.text()
    assert is_free(rest)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_api_start_raises_for_a_signal(tmp_path: Path, number: int) -> None:
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "servable_config.py").write_text(
        f"import time\nopen({str(tmp_path / 'importing')!r}, 'w').close()\ntime.sleep(60)\n"
    )
    text = """
try:
    server.start_servables(server.ServableStartConfig(".", "slow"))
except RuntimeError as error:
    print("told:", error, flush=True)
"""
    with script(tmp_path, text) as running:
        until((tmp_path / "importing").exists, 60, "the import")
        running.process.send_signal(number)
        running.wait_for(OVER)
        assert "told: Fail to start workers because of signal SIGINT or SIGTERM" in running.text()
        assert running.process.wait(20) == 0
        assert "Traceback" not in running.text()


def test_api_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    models.add(tmp_path / "sums" / "1" / "model.onnx")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "servable_config.py").write_text("import nothing_of_the_kind\n")
    (tmp_path / "junk" / "1").mkdir(parents=True)
    (tmp_path / "junk" / "1" / "model.onnx").write_bytes(b"junk")
    rest, taken = free_ports(2)
    no_key = str(Authority(tmp_path).sign("a").certificate)
    text = f"""
import socket, threading
import psutil
C = server.ServableStartConfig

def told(start, *arguments):
    try:
        start(*arguments)
    except RuntimeError as error:
        print("told:", error, flush=True)
    left = psutil.Process().children(), [t for t in threading.enumerate()[1:] if not t.daemon]
    print("left:", left, flush=True)

server.start_restful_server("127.0.0.1:{rest}")
told(server.start_servables, [C(".", "sums"), C(".", "broken")])
told(server.start_servables, [C(".", "sums"), C(".", "junk")])
told(server.start_servables, C(".", "sums", version_number=7))
listener = socket.socket()
listener.bind(("127.0.0.1", {taken}))
listener.listen()
told(server.start_restful_server, "127.0.0.1:{taken}")
told(server.start_grpc_server, "127.0.0.1:{taken}")
told(server.start_grpc_server, "unix:/no/folder/socket")
told(server.start_grpc_server, "127.0.0.1:{rest}", 100, server.SSLConfig("no.crt", "no.key"))
told(server.start_restful_server, "127.0.0.1:{rest}", 100, server.SSLConfig({no_key!r}, {no_key!r}))
server.start_restful_server("127.0.0.1:{rest}")
told(server.start_restful_server, "127.0.0.1:{rest}")
server.start_servables(C(".", "sums"))
told(server.start_servables, C(".", "sums"))
"""
    with script(tmp_path, text) as running:
        running.wait_for(OVER)
        assert running.process.wait(20) == 0
        lines = running.text().splitlines()
    errors = [line.removeprefix("told: ") for line in lines if line.startswith("told: ")]
    wanted = [
        "Fail to start workers: servable 'broken' version 1: ",
        "Fail to start workers: servable 'junk' version 1: ",
        "Fail to start workers: servable 'sums' has no version 7 in ",
        "Raise failed: Serving Error: RESTful server start failed, bind to the socket address "
        f"127.0.0.1:{taken} failed",
        "Raise failed: Serving Error: Serving gRPC server start failed, create server failed, "
        f"address 127.0.0.1:{taken}",
        "Raise failed: Serving Error: Serving gRPC server start failed, create server failed, "
        "address unix:/no/folder/socket",
        "Raise failed: Serving Error: Serving gRPC server start failed, create server failed, "
        f"address 127.0.0.1:{rest}: certificate of SSLConfig no.crt cannot be read: No such file",
        "Raise failed: Serving Error: RESTful server start failed, bind to the socket address "
        f"127.0.0.1:{rest} failed: private_key of SSLConfig cannot be used: it holds no private",
        "Raise failed: Serving Error: RESTful server is already running",
        "Raise failed: Serving Error: Master gRPC server is already running",
    ]
    assert [got[: len(text)] for got, text in zip(errors, wanted, strict=True)] == wanted
    assert "nothing_of_the_kind" in errors[0]
    assert {line for line in lines if line.startswith("left:")} == {"left: ([], [])"}


def test_api_listens_on_a_unix_socket(tmp_path: Path) -> None:
    models.add(tmp_path / "sums" / "1" / "model.onnx")
    text = """
import os
os.chdir(os.path.dirname(__file__))
server.start_servables(server.ServableStartConfig(".", "sums"))
server.start_grpc_server("unix:here.sock")
"""
    with script(tmp_path, text) as running:
        running.wait_for(OVER)
        with OwnClient(f"unix:{tmp_path}/here.sock") as client:
            assert client.ready("sums")
        found = Client(f"unix:{tmp_path}/here.sock", "sums", "predict").infer(
            {"x": np.float32(1), "y": np.float32(2)}
        )
        assert found[0]["z"] == 3
        assert running.signal(signal.SIGTERM) == 0
    assert not (tmp_path / "here.sock").exists()


def test_api_tls_is_for_each_address_its_own(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own, friend = authority.sign("own"), authority.sign("friend")
    models.add(tmp_path / "sums" / "1" / "model.onnx")
    rest, grpc = free_ports(2)
    text = f"""
server.start_servables(server.ServableStartConfig(".", "sums"))
tls = server.SSLConfig({str(own.certificate)!r}, {str(own.key)!r},
                       custom_ca={str(authority.certificate)!r}, verify_client=True)
server.start_grpc_server("127.0.0.1:{grpc}", ssl_config=tls)
server.start_restful_server("127.0.0.1:{rest}")
"""
    ask = {"x": np.float32(1), "y": np.float32(2)}
    ca = str(authority.certificate)
    with script(tmp_path, text) as running:
        running.wait_for(OVER)
        shown = SSLConfig(str(friend.certificate), str(friend.key), ca)
        client = Client(f"localhost:{grpc}", "sums", "predict", ssl_config=shown)
        assert client.infer(ask)[0]["z"] == 3
        silent = Client(f"localhost:{grpc}", "sums", "predict", ssl_config=SSLConfig(custom_ca=ca))
        assert silent.infer(ask)["error"].startswith("Grpc Error, (14, 'unavailable')")
        assert call("GET", f"http://127.0.0.1:{rest}/v2/health/live")[0] == 200


def test_api_bounds_what_waits_as_it_was_told(tmp_path: Path) -> None:
    lay_out(tmp_path, ["kinds"])
    (grpc,) = free_ports(1)
    text = f"""
from mindspore_serving.server.master import context
context.set_max_enqueued_requests(2)
server.start_servables(server.ServableStartConfig(".", "kinds"))
server.start_grpc_server("127.0.0.1:{grpc}")
"""
    with script(tmp_path, text) as running:
        running.wait_for(OVER)
        client = Client(f"127.0.0.1:{grpc}", "kinds", "slow")
        asked = [client.infer_async({"x": 1.0}) for _ in range(12)]
        answers = [future.result() for future in asked]
    errors = [found["error"] for found in answers if isinstance(found, dict)]
    assert 0 < len(errors) < 12
    assert set(errors) == {"Serving Error: enqueued requests count exceeds the limit 2"}


def test_api_follows_new_versions_of_what_it_started(tmp_path: Path) -> None:
    models.add(tmp_path / "sums" / "1" / "model.onnx")
    rest, _ = free_ports(2)
    text = f"""
server.start_servables(server.ServableStartConfig(".", "sums"))
server.start_restful_server("127.0.0.1:{rest}")
"""
    with script(tmp_path, text, SERVING_POLL_INTERVAL_S="0.1") as running:
        running.wait_for(OVER)
        models.add(tmp_path / "draft" / "model.onnx")
        os.replace(tmp_path / "draft", tmp_path / "sums" / "2")

        def switched() -> bool:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{rest}/v2/models/sums") as answer:
                    return bool(json.loads(answer.read())["versions"] == ["2"])
            except urllib.error.HTTPError:
                return False

        until(switched, 30, "version 2")
        shutil.rmtree(tmp_path / "sums")
        assert running.signal(signal.SIGTERM) == 0


def test_api_decrypts_models_with_the_key_of_the_script(tmp_path: Path) -> None:
    golden = ROOT / "tests" / "data" / "mindir" / "2.10.0" / "digits_aes_cbc"
    (tmp_path / "secret" / "1").mkdir(parents=True)
    shutil.copy(golden.with_suffix(".mindir"), tmp_path / "secret" / "1" / "model.mindir")
    (grpc,) = free_ports(1)
    text = f"""
config = server.ServableStartConfig(".", "secret", dec_key=b"0123456789ABCDEF", dec_mode="AES-CBC")
server.start_servables(config)
server.start_grpc_server("127.0.0.1:{grpc}")
"""
    with np.load(golden.with_suffix(".npz")) as cases:
        image, wanted = cases["0.in.image"], cases["0.out.0"]
    with script(tmp_path, text) as running:
        running.wait_for(OVER)
        with OwnClient(f"127.0.0.1:{grpc}") as client:
            (got,) = client.predict("secret", {"image": image}).values()
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    assert not list((tmp_path / "cache").rglob("*.onnx")), "what was decrypted is on the disk"


def test_api_stages_have_the_device_and_the_workers_of_the_script(tmp_path: Path) -> None:
    (tmp_path / "who").mkdir()
    (tmp_path / "who" / "servable_config.py").write_text(
        "import os, time\n"
        "from mindspore_serving.server import register\n"
        "def _who(x):\n"
        "    time.sleep(0.2)\n"
        "    return os.environ['SERVING_DEVICE_ID'], os.getpid()\n"
        "@register.register_method(output_names=['device', 'pid'])\n"
        "def who(x):\n"
        "    return register.add_stage(_who, x, outputs_count=2)\n"
    )
    (grpc,) = free_ports(1)
    text = f"""
config = server.ServableStartConfig(".", "who", device_ids=[5, 2], num_parallel_workers=4)
server.start_servables(config)
server.start_grpc_server("127.0.0.1:{grpc}")
"""
    with script(tmp_path, text) as running:
        running.wait_for(OVER)
        answers = Client(f"127.0.0.1:{grpc}", "who", "who").infer([{"x": 1}] * 12)
        assert {found["device"] for found in answers} == {"5"}
        assert len({int(found["pid"]) for found in answers}) == 2
        workers = [p for p in running.family() if "serving.worker" in p.cmdline()]
        assert len(workers) == 2, "one for each device"
