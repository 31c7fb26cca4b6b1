"""Loading: engines that do not fit are refused with the reason; descriptions are kept to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.backends.base import Backend, BackendError, ModelSource
from serving.backends.tensorrt.description import FILE, Description
from serving.tensor import FP32, Signature, Tensor, TensorSpec
from tests import models
from tests.doubles.tensorrt import tensorrt_plan
from tests.unit.backends.tensorrt.conftest import Load

PROFILE = {"x": [[1, 16], [4, 16], [8, 16]]}


def describe(folder: Path, file: str, signature: Signature, module: str = "tensorrt") -> None:
    told = Description(file, module, "10.14.1.48", "Simulated GPU (8.0)", signature, (8,))
    (folder / FILE).write_text(json.dumps(told.to_json()))


def test_engine_of_another_version_is_refused_in_tensorrts_words(
    load: Load, tmp_path: Path
) -> None:
    with pytest.raises(BackendError, match=r"does not take this engine: .*expecting library.*9\.3"):
        load(models.mlp(tmp_path / "m.onnx"), PROFILE, version=(9, 3, 0, 1))


def test_engine_that_is_cut_is_refused(backend: Backend, load: Load, tmp_path: Path) -> None:
    load(models.mlp(tmp_path / "m.onnx"), PROFILE).close()
    path = tmp_path / "cut.plan"
    path.write_bytes((tmp_path / "m.plan").read_bytes()[:-5])
    with pytest.raises(BackendError, match="does not take this engine: .*size"):
        backend.load(ModelSource(str(path), 1))


@pytest.mark.parametrize("content", [None, b""])
def test_engine_file_that_cannot_be_read_is_told(
    content: bytes | None, backend: Backend, tmp_path: Path
) -> None:
    path = tmp_path / "m.plan"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BackendError, match=r"cannot be read: (No such file|it is empty)"):
        backend.load(ModelSource(str(path), 1))


def test_engine_with_a_layout_of_its_own_is_refused(load: Load, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="'x' is laid out as 'CHW4 format'"):
        load(models.mlp(tmp_path / "m.onnx"), PROFILE, formats={"x": "CHW4"})


def test_engine_with_a_type_that_nobody_can_send_is_refused(load: Load, tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    from tests.models.graph import build, save

    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT8E4M3FN, [2]) for n in "xy"]
    graph = build([helper.make_node("Identity", ["x"], ["y"])], ends[:1], ends[1:], opset=19)
    with pytest.raises(BackendError, match="'x' holds FP8"):
        load(save(graph, tmp_path / "m.onnx"))


def test_engine_that_is_foreign_has_the_rows_of_its_profiles_as_gears(
    load: Load, tmp_path: Path
) -> None:
    model = load(models.mlp(tmp_path / "m.onnx"), PROFILE)
    assert model.gears == tuple(range(1, 9))
    assert model.signature.inputs == (TensorSpec("x", FP32, ("", 16)),)


def test_engine_with_a_description_keeps_the_models_order_and_names(
    load: Load, tmp_path: Path
) -> None:
    source = models.odd_names(tmp_path / "m.onnx")
    x = "serving_default_input:0"
    told = Signature(
        (TensorSpec(x, FP32, ("batch", 2)),),
        (TensorSpec("387", FP32, ("batch", 2)), TensorSpec("gpu_0/data_0", FP32, ("batch", 2))),
    )
    describe(tmp_path, "m.plan", told)
    model = load(source, {x: [[1, 2], [2, 2], [4, 2]]})
    assert model.signature == told
    assert model.gears is None
    given = np.array([[1, 2]], np.float32)
    outputs = model.bind([Tensor(x, FP32, (1, 2), given)], None).run()
    assert outputs is not None
    assert [(o.name, o.array.tolist()) for o in outputs if o.array is not None] == [
        ("387", [[-1, -2]]),
        ("gpu_0/data_0", [[2, 4]]),
    ]


def test_engine_that_was_built_from_another_model_is_refused(load: Load, tmp_path: Path) -> None:
    other = Signature(
        (TensorSpec("image", FP32, ("batch", 16)),), (TensorSpec("y", FP32, ("batch", 4)),)
    )
    describe(tmp_path, "m.plan", other)
    with pytest.raises(
        BackendError, match=r"inputs are \['x'\], its description names \['image'\]"
    ):
        load(models.mlp(tmp_path / "m.onnx"), PROFILE)


def test_engine_of_the_other_module_is_refused_before_it_is_read(
    machine: Any, load: Load, tmp_path: Path
) -> None:
    describe(tmp_path, "m.plan", Signature((), ()), module="tensorrt_rtx")
    with pytest.raises(BackendError, match=r"built by tensorrt_rtx .* worker runs tensorrt"):
        load(models.mlp(tmp_path / "m.onnx"), PROFILE)
    assert machine.failures.counts["deserialize_cuda_engine"] == 0


def test_description_of_another_file_does_not_count(load: Load, tmp_path: Path) -> None:
    describe(tmp_path, "other.plan", Signature((), ()), module="tensorrt_rtx")
    assert load(models.mlp(tmp_path / "m.onnx"), PROFILE).gears is not None


def test_description_that_cannot_be_read_is_told(load: Load, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{")
    with pytest.raises(BackendError, match=r"engine\.json beside the engine cannot be read"):
        load(models.mlp(tmp_path / "m.onnx"), PROFILE)


def test_module_that_is_not_known_is_named(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from serving.backends.base import Device
    from serving.backends.registry import open_backend

    monkeypatch.setenv("SERVING_TENSORRT_MODULE", "tensorflow")
    with pytest.raises(BackendError, match="SERVING_TENSORRT_MODULE names 'tensorflow'"):
        open_backend("tensorrt", Device("gpu", 0))


def test_module_that_is_not_installed_is_named(
    machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serving.backends.base import Device
    from serving.backends.registry import open_backend

    monkeypatch.setenv("SERVING_TENSORRT_MODULE", "tensorrt_rtx")
    with pytest.raises(BackendError, match="needs a package that is missing: .*tensorrt_rtx"):
        open_backend("tensorrt", Device("gpu", 0))


def test_plan_helper_writes_what_the_double_reads(tmp_path: Path) -> None:
    plan = tensorrt_plan.Plan(b"onnx", [PROFILE], on_host=["s"])
    read = tensorrt_plan.Plan.from_bytes(tensorrt_plan.write(tmp_path / "p", plan).read_bytes())
    assert (read.onnx, read.profiles, read.on_host) == (b"onnx", [PROFILE], ["s"])
