"""What is found of devices, however their drivers behave, and which of them a server takes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from serving.config import BackendSettings
from serving.devices import Device, parse_devices
from serving.errors import ConfigError
from serving.master.places import places_for
from serving.repository.discovery import Found, FoundDevice, chosen, find

GPUS = Found("gpu", (FoundDevice(0, "A"), FoundDevice(2, "B"), FoundDevice(3, "C", problem="ECC")))
NO_NPU = Found("ascend", problem="the driver finds no Ascend device")
FOUND = {"gpu": GPUS, "ascend": NO_NPU}


def take(text: str, found: dict[str, Found] = FOUND) -> tuple[Device, ...]:
    return chosen(parse_devices(text), found)


def test_what_is_named_is_taken_in_the_order_of_its_naming() -> None:
    assert take("gpu:2,cpu,gpu:0") == (Device("gpu", 2), Device("gpu", 0))
    assert take("cpu") == ()


def test_a_kind_alone_takes_all_that_work() -> None:
    assert take("gpu") == (Device("gpu", 0), Device("gpu", 2))


def test_auto_takes_what_there_is() -> None:
    assert take("auto") == (Device("gpu", 0), Device("gpu", 2))
    assert take("auto", {"gpu": Found("gpu", problem="none"), "ascend": NO_NPU}) == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gpu:1", "gpu:1, which cannot be used; expected devices of this machine: gpu:0, gpu:2"),
        ("gpu:3", "names gpu:3, which cannot be used: ECC; expected devices"),
        ("ascend:0", "cannot be used: the driver finds no Ascend device; expected devices of this "
         "machine: none"),
        ("ascend", "names ascend, which cannot be used: the driver finds no Ascend device"),
    ],
)  # fmt: skip
def test_what_is_named_and_not_there_is_refused_with_what_there_is(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        take(text)
    assert says in str(error.value)


def test_devices_without_their_engine_are_no_use() -> None:
    bare = Found("gpu", (FoundDevice(0, "A"),), engine_problem="a package is missing: tensorrt")
    assert bare.usable == ()
    with pytest.raises(ConfigError, match="a package is missing: tensorrt"):
        take("gpu:0", {"gpu": bare})


def test_devices_whose_first_engine_is_missing_are_used_by_the_second() -> None:
    gpus = (FoundDevice(0, "A"),)
    bare = Found("gpu", gpus, engine_problem="no tensorrt", second={"onnxruntime": "1.31"})
    assert (bare.usable, bare.backend) == ((0,), "onnxruntime")
    assert Found("gpu", gpus, second={"onnxruntime": "1.31"}).backend == "tensorrt"
    none = Found("gpu", gpus, engine_problem="no tensorrt", second_problem="no libcudnn.so.9")
    assert (none.usable, none.backend) == ((), "tensorrt")
    assert none.why_not == "no tensorrt; no libcudnn.so.9"
    (place,) = places_for(0, (Device("gpu", 0),), second=("gpu",))
    assert (place.backend, place.slots) == ("onnxruntime", 1)
    (place,) = places_for(0, (Device("gpu", 0),))
    assert (place.backend, place.slots) == ("tensorrt", 2)


async def look(tmp_path: Path, acl: str, silence_s: float = 20.0) -> Found:
    """Look for Ascend devices with a pyACL that was written for the occasion."""
    (tmp_path / "acl.py").write_text(acl)
    settings = BackendSettings(env={"PYTHONPATH": str(tmp_path)})
    return (await find(["ascend"], {"ascend": settings}, silence_s=silence_s))["ascend"]


PLAIN = """
class rt:
    get_device_count = staticmethod(lambda: (2, 0))
    set_device = staticmethod(lambda n: 507033 if n == 1 else 0)
    reset_device = staticmethod(lambda n: 0)
    get_mem_info = staticmethod(lambda kind: (0, 0, 100000) if kind == 1 else (5, 8, 0))
init = finalize = lambda *_: 0
get_soc_name = lambda: "Ascend310P3"
get_version = lambda: (1, 2, 3, 0)
"""


async def test_devices_of_a_driver_that_works_are_described(tmp_path: Path) -> None:
    found = await look(tmp_path, PLAIN)
    good, bad = found.devices
    assert good == FoundDevice(0, "Ascend310P3", 8, 5)
    assert bad.problem == "acl.rt.set_device failed with code 507033"
    assert found.engine == {"acl": "1.2.3"}
    assert found.usable == (0,)


@pytest.mark.parametrize(
    ("acl", "says"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
        ("raise SystemExit(3)", "ended with status 3"),
        ("raise RuntimeError('driver and library do not match')", "do not match"),
        ("import no_such_module", "No module named 'no_such_module'"),
        (PLAIN.replace("(2, 0)", "(0, 207004)"), "the driver finds no Ascend device"),
        (PLAIN.replace("(2, 0)", "(0, 507000)"), "failed with code 507000"),
        ("init = finalize = lambda *_: 1", "acl.init failed with code 1"),
        ("print('noise on standard output')\ninit = lambda: 5", "acl.init failed with code 5"),
    ],
)
async def test_driver_that_misbehaves_is_a_reason_in_words(
    tmp_path: Path, acl: str, says: str
) -> None:
    found = await look(tmp_path, acl)
    assert says in found.problem
    assert found.usable == ()


async def test_driver_that_hangs_is_given_up(tmp_path: Path) -> None:
    found = await look(tmp_path, "import time; time.sleep(60)", silence_s=0.5)
    assert "gave no sign of life for 0.5 s" in found.problem


async def test_interpreter_that_is_not_there_is_a_reason() -> None:
    nowhere = BackendSettings(python="/no/such/python")
    found = (await find(["gpu"], {"tensorrt": nowhere}))["gpu"]
    assert "could not be started: No such file" in found.problem


async def test_processor_is_always_there() -> None:
    found = (await find(["cpu"], {"onnxruntime": BackendSettings(python=sys.executable)}))["cpu"]
    assert found.usable == (0,)
    assert "onnxruntime" in found.engine
