"""Declaring models, contexts and devices: what is kept, and what is refused with which words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from serving import register
from serving.definition import DeclaredModel
from serving.register import registry
from serving.register.registry import Registry


@pytest.fixture(autouse=True)
def opened() -> Iterator[Registry]:
    with registry.opened("shop") as found:
        yield found


def declared(found: Registry) -> DeclaredModel:
    (model,) = found.definition().models
    return model


def test_model_that_is_called_as_a_function_says_how_it_is_run() -> None:
    model = register.declare_model("net.mindir", "MindIR")
    with pytest.raises(RuntimeError, match=r"net\.mindir.*no function.*add_stage.*model\.call"):
        model(1, named=2)


def test_model_is_declared_with_all_that_was_said(opened: Registry) -> None:
    context = register.Context(thread_num=2, thread_affinity_core_list=[1, 1], enable_parallel=True)
    context.append_device_info(register.CPUDeviceInfo(precision_mode="fp16"))
    context.append_device_info(register.AscendDeviceInfo(input_format="NCHW", output_type="FP16"))
    model = register.declare_model(
        ["first.mindir", "second.mindir"],
        "MindIR",
        with_batch_dim=False,
        without_batch_dim_inputs=(2, 0),
        context=context,
        config_file="mixed.cfg",
    )
    assert model.model_key == "first.mindir;second.mindir"
    assert declared(opened) == DeclaredModel(
        ("first.mindir", "second.mindir"),
        "mindir",
        False,
        (2, 0),
        {
            "thread_num": 2,
            "thread_affinity_core_list": [1, 1],
            "enable_parallel": True,
            "devices": [
                {"device_type": "cpu", "precision_mode": "fp16"},
                {"device_type": "ascend", "input_format": "NCHW", "output_type": "FP16"},
            ],
        },
        "mixed.cfg",
    )


def test_model_counts_rows_in_axis_0_unless_told_otherwise(opened: Registry) -> None:
    register.declare_model(model_file="m.onnx", model_format="onnx")
    assert declared(opened) == DeclaredModel(("m.onnx",), "onnx", True, (), {}, "")


@pytest.mark.parametrize("form", ["OM", "MindIR", "mindir_opt", "MindIR_Lite", "ONNX"])
def test_model_takes_formats_in_any_case(opened: Registry, form: str) -> None:
    register.declare_model("m", form)
    assert declared(opened).format == form.lower()


@pytest.mark.parametrize(("given", "kept"), [(1, (1,)), (0, (0,)), ([0, 2], (0, 2)), ((), ())])
def test_model_takes_inputs_without_batch_as_a_number_or_many(
    opened: Registry, given: Any, kept: tuple[int, ...]
) -> None:
    register.declare_model("m", "mindir", without_batch_dim_inputs=given)
    assert declared(opened).without_batch_dim_inputs == kept


@pytest.mark.parametrize(
    ("old", "device"),
    [
        (register.AclOptions(input_format="ND"), {"device_type": "ascend", "input_format": "ND"}),
        (register.GpuOptions(precision_mode="fp16"),
         {"device_type": "gpu", "precision_mode": "fp16"}),
    ],
)  # fmt: skip
def test_model_takes_options_of_the_old_form(
    opened: Registry, old: Any, device: dict[str, str]
) -> None:
    register.declare_model("m.om", "OM", options=old)
    assert declared(opened).context == {"devices": [device]}


def test_model_prefers_context_to_options(opened: Registry) -> None:
    register.declare_model(
        "m.om", "OM", options=register.GpuOptions(), context=register.Context(thread_num=3)
    )
    assert declared(opened).context == {"thread_num": 3, "devices": []}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model_file": 1}, "Parameter 'model_file' should be str or tuple/list of str, but actually"),
    ({"model_file": []}, "Parameter 'model_file' should not be empty"),
    ({"model_file": ["a", ""]}, "The item of parameter 'model_file' should not be empty str"),
    ({"model_file": ["a", 2]}, "The item of parameter 'model_file' should be str, but actually"),
    ({"model_file": ["a", "a"]}, "The item value 'a' in parameter 'model_file' should not be rep"),
    ({"model_format": None}, "Parameter 'model_format' should be str, but actually"),
    ({"model_format": ""}, "Parameter 'model_format' should not be empty str"),
    ({"model_format": "pb"}, "model format can only be OM, MindIR or MindIR_Lite, case ignored"),
    ({"with_batch_dim": 1}, "Parameter 'with_batch_dim' should be bool, but actually"),
    ({"without_batch_dim_inputs": "1"}, "should be int or tuple/list of int, but actually"),
    ({"without_batch_dim_inputs": -1}, "The item value '-1' in parameter 'without_batch_dim_in"),
    ({"without_batch_dim_inputs": (1, 1)}, "The item value '1' in parameter 'without_batch_dim_"),
    ({"without_batch_dim_inputs": True}, "should be int, but actually <class 'bool'>"),
    ({"options": 1}, "Parameter 'options' should be None, GpuOptions or AclOptions, but gotten"),
    ({"context": {}}, "Parameter 'context' should be Context, but gotten <class 'dict'>"),
    ({"config_file": 1}, "Parameter 'config_file' should be str, but actually <class 'int'>"),
]


@pytest.mark.parametrize(("wrong", "text"), WRONG)
def test_model_refuses_wrong_arguments(opened: Registry, wrong: dict[str, Any], text: str) -> None:
    arguments = {"model_file": "m.mindir", "model_format": "MindIR", **wrong}
    with pytest.raises(RuntimeError) as caught:
        register.declare_model(**arguments)
    assert text in str(caught.value)
    assert not opened.definition().models


def test_model_can_be_declared_once() -> None:
    register.declare_model("m.mindir", "MindIR")
    with pytest.raises(RuntimeError, match="the same model has already been declared"):
        register.declare_model("m.mindir", "MindIR")


CONTEXTS: list[tuple[Any, str]] = [
    (lambda: register.Context(threads=1), "Set context failed, unsupported option threads"),
    (lambda: register.Context(thread_num=0), "Parameter 'thread_num' should be >= 1"),
    (lambda: register.Context(thread_num=True), "Parameter 'thread_num' should be int, but"),
    (lambda: register.Context(thread_affinity_core_list=1), "should be tuple/list of int, but"),
    (lambda: register.Context(enable_parallel=1), "Parameter 'enable_parallel' should be bool"),
    (lambda: register.CPUDeviceInfo(mode="fp16"), "Set cpu device info failed, unsupported opti"),
    (lambda: register.GPUDeviceInfo(precision_mode="fp8"), "Gpu device info 'precision_mode' can "
     "only be 'origin', 'fp16', actually given 'fp8'"),
    (lambda: register.AscendDeviceInfo(device="1"), "Set ascend device info failed, unsupported p"),
    (lambda: register.AscendDeviceInfo(input_format=1), "Parameter 'input_format' should be str"),
    (lambda: register.AclOptions(output_type="INT8"), "Ascend device info 'output_type' can only"),
    (lambda: register.Context().append_device_info("cpu"), "Parameter 'device_info' should inst"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "text"), CONTEXTS)
def test_context_refuses_wrong_arguments(make: Any, text: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        make()
    assert text in str(caught.value)


def test_context_takes_each_kind_of_device_once() -> None:
    context = register.Context()
    context.append_device_info(register.GPUDeviceInfo())
    with pytest.raises(RuntimeError, match="Device info of type gpu has already been appended"):
        context.append_device_info(register.GPUDeviceInfo(precision_mode="origin"))


def test_distributed_servable_is_refused_in_words() -> None:
    from serving.register.distributed import declare_servable

    with pytest.raises(RuntimeError, match="spread over several devices"):
        declare_servable(rank_size=8, stage_size=1)
    with pytest.raises(RuntimeError, match="Parameter 'rank_size' should be int"):
        declare_servable(rank_size="8", stage_size=1)  # type: ignore[arg-type]
