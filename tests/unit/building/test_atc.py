"""The builder of OM files against a stand-in for ``atc``, spoken to as the server speaks to it."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.backends.base import ModelSource
from serving.backends.registry import open_backend
from serving.building.atc_output import FIXES
from serving.devices import Device
from serving.formats.inspect import inspect
from serving.repository.helper import Helper, HelperFailed
from serving.tensor import BatchAxes, Tensor
from tests import models
from tests.doubles import ascend
from tests.doubles.om import ACL_FOLDER, write_air

DOUBLES = ACL_FOLDER.parent
ROOT = DOUBLES.parent
SOC = {"soc_version": "Ascend310P3"}


class Atc:
    """The builder in a helper, with the double of ``atc`` on its path."""

    def __init__(self, folder: Path, timeout_s: float = 30.0, **env: str) -> None:
        self.calls = folder / "calls"
        self.folder = folder
        self.folder.mkdir(exist_ok=True)
        self._helper = Helper(
            module="serving.building.atc",
            timeout_s=timeout_s,
            env={
                "PATH": f"{DOUBLES}:{os.environ['PATH']}",
                "ATC_DOUBLE_PYTHON": sys.executable,
                "ATC_DOUBLE_CALLS": str(self.calls),
                **env,
            },
        )
        self.progress: list[str] = []

    async def __aenter__(self) -> Atc:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._helper.close()

    async def identity(self, question: dict[str, Any]) -> dict[str, Any]:
        return await self._helper.ask({"identity": question}, ("identity", "error"))

    async def build(self, question: dict[str, Any]) -> dict[str, Any]:
        asked = {**question, "folder": str(self.folder)}
        return await self._helper.ask(asked, ("built", "error"), self.progress.append)

    def arguments(self) -> list[list[str]]:
        lines = self.calls.read_text().splitlines() if self.calls.is_file() else []
        return [json.loads(line) for line in lines]


def question(path: Path, options: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    """Return what the server would ask about a file."""
    artifact = inspect(path)
    return {
        "source": str(path),
        "format": path.suffix[1:],
        "signature": None if artifact.signature is None else artifact.signature.to_json(),
        "batch": artifact.batch.to_json(),
        "max_batch_size": 8,
        "batch_sizes": None,
        "options": {**SOC, **(options or {})},
        **more,
    }


async def test_atc_builds_an_om_with_a_gear_for_each_batch_size(tmp_path: Path) -> None:
    asked = question(models.mlp(tmp_path / "m" / "model.onnx"))
    async with Atc(tmp_path / "out") as atc:
        built = (await atc.build(asked))["built"]
        [words] = atc.arguments()
    assert words == [
        f"--model={tmp_path / 'm' / 'model.onnx'}",
        "--framework=5",
        f"--output={tmp_path / 'out' / 'model'}",
        "--soc_version=Ascend310P3",
        "--input_shape=x:-1,16",
        "--dynamic_batch_size=1,2,4,8",
    ]
    assert built["file"] == "model.om"
    assert built["gears"] == [1, 2, 4, 8]
    assert built["signature"] == asked["signature"]
    assert built["notes"] == ["compiled for 1, 2, 4, 8 rows a run"]
    assert built["identity_parts"]["soc"] == "Ascend310P3"
    assert "ATC start working now, please wait for a moment." in atc.progress
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["calls", "model.om"]


async def test_atc_makes_what_the_backend_runs(tmp_path: Path) -> None:
    path = models.mlp_whole_numbers(tmp_path / "m" / "model.onnx")
    async with Atc(tmp_path / "out") as atc:
        await atc.build(question(path, batch_sizes=[2, 6]))
    x = np.arange(32, dtype=np.float32).reshape(2, 16) % 5
    with ascend.installed():
        backend = open_backend("ascend", Device("ascend", 0))
        model = backend.load(ModelSource(str(tmp_path / "out" / "model.om"), 1))
        assert model.gears == (2, 6)
        outputs = model.bind([Tensor.of("x", x)], None).run()
        backend.close()
    cpu = open_backend("onnxruntime", Device()).load(ModelSource(str(path), 1))
    wanted = cpu.bind([Tensor.of("x", x)], None).run()
    assert outputs is not None
    assert wanted is not None
    assert np.array_equal(outputs[0].array, wanted[0].array)


async def test_atc_reads_mindir_and_air_as_framework_1(tmp_path: Path) -> None:
    mindir = ROOT / "data" / "mindir" / "2.10.0" / "digits.mindir"
    air = write_air(models.mlp(tmp_path / "net.onnx"), tmp_path / "net.air")
    unread = {"signature": None, "batch": BatchAxes.refused("AIR is not read").to_json()}
    sizes = {"input_shape": "x:4,16"}
    async with Atc(tmp_path / "out") as atc:
        for asked in (question(mindir), {**question(air, sizes), **unread}):
            (tmp_path / "out" / "model.om").unlink(missing_ok=True)
            answer = await atc.build(asked)
            assert "built" in answer, answer
            assert (tmp_path / "out" / "model.om").read_bytes()[:4] == b"IMOD"
        assert [words[1] for words in atc.arguments()] == ["--framework=1", "--framework=1"]


async def test_atc_identity_follows_content_chip_and_arguments(tmp_path: Path) -> None:
    path = models.mlp(tmp_path / "m" / "model.onnx")
    external = models.mlp_external_data(tmp_path / "e" / "model.onnx")
    async with Atc(tmp_path / "out") as atc:
        first = (await atc.identity(question(path)))["identity"]
        assert len(first) == 64
        others = [
            question(path, {"soc_version": "Ascend910B3"}),
            question(path, {"arguments": "--deterministic=1"}),
            question(path, batch_sizes=[1, 8]),
            question(external),
        ]
        found = [(await atc.identity(other))["identity"] for other in others]
        (tmp_path / "e" / "model.onnx.data").write_bytes(
            bytes((tmp_path / "e" / "model.onnx.data").stat().st_size)
        )
        found.append((await atc.identity(question(external)))["identity"])
        assert len({first, *found}) == 6
        assert (await atc.identity(question(path)))["identity"] == first
        assert atc.arguments() == []


@pytest.mark.parametrize("code", [*FIXES, "E19010", "E99999"])
async def test_atc_error_codes_come_with_the_words_and_the_way_out(
    tmp_path: Path, code: str
) -> None:
    asked = question(models.mlp(tmp_path / "m" / "model.onnx"))
    async with Atc(tmp_path / "out", ATC_DOUBLE=code) as atc:
        error = (await atc.build(asked))["error"]
    assert error["code"] == "build_failed"
    assert error["message"] == f"atc: {code}: The double was told to fail so, in net.onnx."
    assert error["fix"]
    if code in FIXES:
        assert error["fix"] == FIXES[code]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"dynamic_batch_size": "4"}, "E10035"),
        ({"dynamic_batch_size": "4,4"}, "E10039"),
        ({"dynamic_batch_size": ",".join(map(str, range(1, 102)))}, "E10036"),
        ({"dynamic_batch_size": "1,2", "input_shape": "x:4,16"}, "E10012"),
        ({"dynamic_batch_size": "1,2", "input_shape": "x:-1,-1"}, "E10018"),
        ({"input_shape": "x:one,16"}, "E10002"),
        ({"arguments": "--nosuch=1"}, "E10001"),
    ],
)
async def test_atc_refuses_what_options_ask_for_in_its_own_codes(
    tmp_path: Path, options: dict[str, str], code: str
) -> None:
    asked = question(models.mlp(tmp_path / "m" / "model.onnx"), options)
    async with Atc(tmp_path / "out") as atc:
        error = (await atc.build(asked))["error"]
    assert error["message"].startswith(f"atc: {code}: ")


async def test_atc_that_crashes_is_told_with_its_signal(tmp_path: Path) -> None:
    asked = question(models.mlp(tmp_path / "m" / "model.onnx"))
    async with Atc(tmp_path / "out", ATC_DOUBLE="crash") as atc:
        error = (await atc.build(asked))["error"]
    # A shell starts the double, and tells of a signal in its own way.
    assert "SIGSEGV" in error["message"] or "status 139" in error["message"]


async def test_atc_that_hangs_is_ended_after_a_silence(tmp_path: Path) -> None:
    asked = question(models.mlp(tmp_path / "m" / "model.onnx"))
    async with Atc(tmp_path / "out", timeout_s=4.0, ATC_DOUBLE="hang") as atc:
        began = time.monotonic()
        with pytest.raises(HelperFailed, match="no sign of life"):
            await atc.build(asked)
        assert time.monotonic() - began < 30


async def test_atc_that_computes_in_silence_is_waited_for(tmp_path: Path) -> None:
    asked = question(models.mlp(tmp_path / "m" / "model.onnx"))
    async with Atc(tmp_path / "out", timeout_s=4.5, ATC_DOUBLE="work") as atc:
        assert "built" in await atc.build(asked)
    assert any(text.startswith("atc has computed for ") for text in atc.progress)


async def test_atc_that_is_missing_is_named_with_the_toolkit(tmp_path: Path) -> None:
    asked = question(models.mlp(tmp_path / "m" / "model.onnx"))
    async with Atc(tmp_path / "out", PATH="/nowhere") as atc:
        for answer in (await atc.identity(asked), await atc.build(asked)):
            assert answer["error"]["code"] == "toolkit_missing"
            assert "set_env.sh" in answer["error"]["fix"]


async def test_atc_takes_the_chip_of_the_device_where_none_is_named(tmp_path: Path) -> None:
    asked = {**question(models.mlp(tmp_path / "m" / "model.onnx")), "options": {}}
    env = {"PYTHONPATH": str(ACL_FOLDER), "ACL_DOUBLE_SOC": "Ascend910B3"}
    async with Atc(tmp_path / "out", **env) as atc:
        assert (await atc.build(asked))["built"]["identity_parts"]["soc"] == "Ascend910B3"
    async with Atc(tmp_path / "none") as atc:
        error = (await atc.build(asked))["error"]
    assert error["code"] == "no_chip"
    assert "soc_version" in error["fix"]
