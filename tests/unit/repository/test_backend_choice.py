"""Which backend runs what where, under which settings, and what is said where none does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serving.artifact import Artifact, Conversion, Format
from serving.devices import BACKEND_NAMES, KINDS, Device, Where
from serving.devices import BACKENDS as OF_KIND
from serving.errors import ConfigError, LoadError
from serving.repository.backend_choice import (
    ATC_BUILDER,
    ROUTES,
    TENSORRT_BUILDER,
    choose,
    kinds_for,
    needs,
)
from serving.repository.instances import EVERYWHERE, Instances, parse_instances
from serving.repository.settings import ServableSettings, parse_settings
from serving.repository.verdict import judge
from serving.tensor import FP32, BatchAxes, Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", FP32, ("n",)),), (TensorSpec("y", FP32, ("n",)),))
WALKED = BatchAxes(True, "walked", (0,), (0,))
ALL = [Where(kind) for kind in KINDS]


def artifact(format: Format, *, runs: bool = True, reason: str = "") -> Artifact:
    conversion = Conversion("/c/model.onnx", "ab") if format is not Format.ONNX and runs else None
    return Artifact(
        format, "onnxruntime" if runs else "", reason, SIGNATURE if runs else None, WALKED,
        conversion=conversion,
    )  # fmt: skip


def made(format: Format, pin: str | None = None, **more: bool) -> dict[str, tuple[str, str]]:
    runs = format in (Format.ONNX, Format.MINDIR, Format.MINDIR_ENCRYPTED)
    found = choose(artifact(format, runs=runs, reason="not here"), ALL, pin, **more)
    return {c.kind: (c.route.backend, c.route.builder) for c in found.made}


def test_table_is_the_one_of_the_documentation() -> None:
    everywhere = {
        "cpu": ("onnxruntime", ""),
        "gpu": ("tensorrt", TENSORRT_BUILDER),
        "ascend": ("ascend", ATC_BUILDER),
    }
    assert made(Format.ONNX) == made(Format.MINDIR) == everywhere
    assert made(Format.OM) == {"ascend": ("ascend", "")}
    assert made(Format.TENSORRT) == {"gpu": ("tensorrt", "")}
    assert made(Format.AIR) == {"ascend": ("ascend", ATC_BUILDER)}
    for format in (Format.CHECKPOINT, Format.SAFETENSORS, Format.MINDSPORE_LITE, Format.UNKNOWN):
        assert made(format) == {}
        assert kinds_for(format) == ()
    assert needs(Format.OM) == "an Ascend device"


def test_every_route_leads_to_the_backend_of_its_kind() -> None:
    assert {route.backend for route in ROUTES.values()} == set(BACKEND_NAMES)
    assert all(route.backend == OF_KIND[kind] for (_, kind), route in ROUTES.items())


@pytest.mark.parametrize(
    ("pin", "kind"), [("onnxruntime", "cpu"), ("tensorrt", "gpu"), ("ascend", "ascend")]
)
def test_pinned_backend_leaves_its_kind_alone(pin: str, kind: str) -> None:
    assert list(made(Format.ONNX, pin)) == [kind]
    refused = choose(artifact(Format.ONNX), ALL, pin).refused
    assert set(refused) == set(KINDS) - {kind}
    assert all(f"{pin!r}, which runs on {kind}" in reason for reason in refused.values())


@pytest.mark.parametrize("format", [Format.ONNX, Format.MINDIR])
def test_model_of_a_gpu_has_onnxruntime_as_its_second_choice(format: Format) -> None:
    found = {choice.kind: choice for choice in choose(artifact(format), ALL, None).made}
    assert found["cpu"].second is found["ascend"].second is None
    refusal = LoadError("operator Foo", code="unsupported_operator")
    other = found["gpu"].instead(refusal)
    assert other is not None
    assert (other.route.backend, other.route.builder, other.kind) == ("onnxruntime", "", "gpu")
    assert other.instead(refusal) is None
    assert found["ascend"].instead(refusal) is None


@pytest.mark.parametrize("code", ["bad_option", "no_gpu", "file_unusable", "out_of_memory"])
def test_what_is_no_refusal_of_the_model_is_no_reason_for_a_second_choice(code: str) -> None:
    (choice,) = choose(artifact(Format.ONNX), [Where("gpu")], None).made
    assert choice.instead(LoadError("no", code=code)) is None


def test_engine_file_has_no_second_choice() -> None:
    plan = artifact(Format.TENSORRT, runs=False)
    (choice,) = choose(plan, [Where("gpu")], None).made
    assert choice.second is None


def test_pin_leaves_no_second_choice() -> None:
    (choice,) = choose(artifact(Format.ONNX), [Where("gpu")], "tensorrt").made
    assert choice.second is None


def test_second_backend_is_taken_at_once_where_settings_name_both_it_and_the_kind() -> None:
    toml = b'backend = "onnxruntime"\n[instances]\ngpu = 1\n'
    settings = parse_settings(toml, "servable.toml")
    verdict = judge(artifact(Format.ONNX), settings, kinds=("cpu", "gpu"))
    assert verdict.backends == {"gpu": "onnxruntime"}
    assert verdict.choices.made[0].route.builder == ""
    unnamed = judge(artifact(Format.ONNX), ServableSettings(backend="onnxruntime"), kinds=("gpu",))
    assert "'onnxruntime', which runs on cpu, unless [instances] names gpu" in unnamed.reason


def test_mindir_that_cannot_be_converted_is_left_to_the_compiler_of_the_device() -> None:
    found = choose(artifact(Format.MINDIR, runs=False, reason="operator Foo"), ALL, None)
    assert [choice.kind for choice in found.made] == ["ascend"]
    assert found.refused == {"cpu": "operator Foo", "gpu": "operator Foo"}


def test_broken_onnx_runs_nowhere() -> None:
    found = choose(artifact(Format.ONNX, runs=False, reason="cut short"), ALL, None)
    assert found.made == ()
    assert set(found.refused.values()) == {"cut short"}


def test_nothing_is_built_of_an_encrypted_file_unless_that_may_lie_on_disk() -> None:
    assert list(made(Format.MINDIR_ENCRYPTED)) == list(KINDS)
    assert list(made(Format.MINDIR_ENCRYPTED, keeps_plain=False)) == ["cpu"]
    secret = ServableSettings(key_env="KEY")
    verdict = judge(artifact(Format.MINDIR_ENCRYPTED), secret, kinds=("gpu",))
    assert not verdict.runs
    assert "cache_decrypted = true" in verdict.reason


def test_choice_of_the_cpu_is_what_the_inspection_found() -> None:
    found = Artifact(Format.MINDIR, "another", signature=SIGNATURE)
    (choice, *_) = choose(found, [Where("cpu")], None).made
    assert choice.route.backend == "another"


# -- instances ---------------------------------------------------------------------------------


def where(text: str, *kinds: str) -> list[Where]:
    settings = parse_settings(f"instances = {text}\n".encode(), "servable.toml")
    return list(settings.instances.where(kinds))


def test_without_instances_every_device_loads_it() -> None:
    assert ServableSettings().instances == EVERYWHERE
    assert list(EVERYWHERE.where(("gpu", "cpu"))) == [Where("gpu"), Where("cpu")]


def test_instances_choose_among_the_devices_of_the_server() -> None:
    assert where("{gpu = 2}", "cpu", "gpu") == [Where("gpu", (0, 1))]
    assert where("{gpu = [3, 1, 1], cpu = 'all'}", "cpu", "gpu") == [
        Where("cpu"), Where("gpu", (1, 3)),
    ]  # fmt: skip
    (cpu,) = where("{cpu = 2}", "cpu", "gpu")
    assert [cpu.holds(Device("cpu", n)) for n in range(3)] == [True, True, False]
    assert where("{gpu = 1}", "cpu") == []


def test_servable_for_devices_that_the_server_lacks_is_refused_with_both() -> None:
    settings = ServableSettings(instances=Instances({"gpu": None}))
    verdict = judge(artifact(Format.ONNX), settings)
    assert verdict.reason == (
        "servable.toml has it loaded on gpu (instances), and the server has cpu (start it with "
        "other --devices)"
    )


def test_instances_that_are_no_demand_take_what_there_is() -> None:
    wish = Instances({"gpu": (0,)}, firm=False)
    assert wish.where(("cpu",)) == (Where("cpu"),)
    assert wish.where(("cpu", "gpu")) == (Where("gpu", (0,)),)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("2", "instances"),
        ("{}", "instances"),
        ("{gpus = 1}", "instances.gpus"),
        ("{gpu = 0}", "instances.gpu"),
        ("{gpu = true}", "instances.gpu"),
        ("{gpu = []}", "instances.gpu"),
        ("{gpu = [-1]}", "instances.gpu"),
        ("{gpu = 'some'}", "instances.gpu"),
        ("{cpu = [0]}", "instances.cpu"),
        ("{cpu = 65}", "instances.cpu"),
    ],
)
def test_instances_that_mean_nothing_name_their_key(text: str, key: str) -> None:
    with pytest.raises(ConfigError) as error:
        where(text)
    assert error.value.where == key
    assert error.value.expected


def test_instances_that_were_read_are_taken_as_they_are() -> None:
    read = parse_instances({"cpu": 1})
    assert parse_instances(read) is read


# -- options -----------------------------------------------------------------------------------


def test_options_are_texts_by_backend() -> None:
    settings = parse_settings(
        b'[options.tensorrt]\nprecision = "fp16"\nmemory_pool_mb = 512\ncuda_graphs = false\n', "f"
    )
    assert settings.options == {
        "tensorrt": {"precision": "fp16", "memory_pool_mb": "512", "cuda_graphs": "false"}
    }


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("options = 1", "options"),
        ("[options.tensorr]", "options.tensorr"),
        ("[options]\ntensorrt = 1", "options.tensorrt"),
        ("[options.ascend]\nsoc_version = [1]", "options.ascend.soc_version"),
    ],
)
def test_options_of_a_wrong_form_name_their_key(text: str, key: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_settings(text.encode(), "servable.toml")
    assert error.value.where == key


def test_what_the_engine_refuses_does_not_run_on_it_and_may_run_elsewhere() -> None:
    refused = replace(artifact(Format.ONNX), refusal="opset 99 is too new")
    found = choose(refused, ALL, None)
    assert found.refused == {"cpu": "opset 99 is too new"}
    assert {choice.kind for choice in found.made} == {"gpu", "ascend"}
    assert [choice.second for choice in found.made] == [None, None]
    verdict = judge(refused, ServableSettings(backend="onnxruntime"))
    assert (verdict.runs, verdict.reason) == (False, "opset 99 is too new")
