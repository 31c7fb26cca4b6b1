"""What a ``config.pbtxt`` comes to: settings, declaration, notes; nothing is ignored in silence."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import ConfigError
from serving.repository.declaration import Declaration, DeclaredTensor
from serving.repository.instances import EVERYWHERE, Instances
from serving.repository.settings import ServableSettings
from serving.repository.stubs import triton_model_config_pb2 as pb
from serving.repository.triton_folder import TritonFolder, read_folder
from serving.repository.version_policy import (
    AllVersions,
    LatestVersions,
    SpecificVersions,
    VersionPolicy,
)
from serving.tensor import BY_NAME, BYTES, INT32

FILE = "m/config.pbtxt"


def read(text: str) -> TritonFolder:
    return read_folder(text.encode(), FILE, "m")


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return caught.value


def test_folder_without_any_field_is_like_no_file() -> None:
    found = read("# nothing\n")
    assert found.settings == ServableSettings()
    assert found.declaration == Declaration(FILE)
    assert found.notes == ()


def test_folder_honours_queue_batch_versions_file_and_threads() -> None:
    found = read(
        """
        name: "m"
        backend: "onnxruntime"
        max_batch_size: 8
        default_model_filename: "net.onnx"
        dynamic_batching {
          max_queue_delay_microseconds: 1500
          priority_levels: 2
          default_queue_policy { max_queue_size: 12 allow_timeout_override: true }
        }
        instance_group [ { name: "cpus" count: 1 kind: KIND_CPU } ]
        version_policy: { latest { num_versions: 3 } }
        parameters { key: "intra_op_thread_count" value: { string_value: "2" } }
        """
    )
    assert found.settings == ServableSettings(
        model_file="net.onnx",
        backend="onnxruntime",
        max_batch_size=8,
        max_queue_delay_ms=1.5,
        max_queue_size=12,
        threads=2,
        versions=LatestVersions(3),
        instances=Instances({"cpu": None}, firm=False),
    )
    assert found.declaration == Declaration(FILE, 8)
    assert found.notes == ()


def test_folder_declares_inputs_and_outputs() -> None:
    found = read(
        """
        input [
          { name: "a" data_type: TYPE_STRING dims: [ -1 ] },
          { name: "b" dims: [ 2, 3 ] format: FORMAT_NHWC reshape { shape: [ 2, 3 ] } }
        ]
        output { name: "c" data_type: TYPE_INT32 }
        """
    )
    assert found.declaration.inputs == (
        DeclaredTensor("a", BYTES, (-1,)),
        DeclaredTensor("b", None, (2, 3)),
    )
    assert found.declaration.outputs == (DeclaredTensor("c", INT32, None),)
    assert found.notes == ()


def test_folder_knows_every_data_type() -> None:
    for name in pb.DataType.keys():  # noqa: SIM118
        (tensor,) = read(f'input {{ name: "x" data_type: {name} }}').declaration.inputs
        if name == "TYPE_INVALID":
            assert tensor.dtype is None
        elif name == "TYPE_STRING":
            assert tensor.dtype is BYTES
        else:
            assert tensor.dtype is BY_NAME[name.removeprefix("TYPE_")]


@pytest.mark.parametrize("written", ["", "max_batch_size: 0", "max_batch_size: 1"])
def test_folder_keeps_no_zero_and_one_apart(written: str) -> None:
    most = {"": None, "max_batch_size: 0": 0, "max_batch_size: 1": 1}[written]
    assert read(written).declaration.max_batch_size == most


def test_folder_tells_a_delay_of_zero_from_none_written() -> None:
    written = read("dynamic_batching { max_queue_delay_microseconds: 0 }")
    assert written.settings.max_queue_delay_ms == 0
    silent = read("dynamic_batching { }")
    assert silent.settings.max_queue_delay_ms == ServableSettings().max_queue_delay_ms


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("version_policy { all {} }", AllVersions()),
        ("version_policy: { specific: { versions: [3, 1] }}", SpecificVersions((1, 3))),
        ("version_policy { latest { num_versions: 2 } }", LatestVersions(2)),
        ("version_policy { }", LatestVersions(1)),
    ],
)
def test_folder_reads_version_policies(text: str, policy: VersionPolicy) -> None:
    assert read(text).settings.versions == policy


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("max_batch_size: -1", "max_batch_size"),
        ('default_model_filename: "../net.onnx"', "default_model_filename"),
        ("version_policy { specific {} }", "version_policy.specific.versions"),
        ("version_policy { specific { versions: [0] } }", "version_policy.specific.versions"),
        ("version_policy { latest {} }", "version_policy.latest.num_versions"),
        ("input { dims: [1] }", "input[0].name"),
        ('output [{ name: "x" }, { name: "x" }]', "output[1].name"),
        ('input { name: "x" dims: [0] }', "input[0].dims"),
        ('input { name: "x" dims: [-2] }', "input[0].dims"),
        (
            'parameters { key: "intra_op_thread_count" value { string_value: "two" } }',
            "parameters['intra_op_thread_count'].string_value",
        ),
        ('name: "other"', "name"),
    ],
)
def test_folder_wrong_values_name_their_place(text: str, where: str) -> None:
    error = refused(text)
    assert error.where == where
    assert error.message.startswith(FILE)
    assert error.expected or error.fix


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('platform: "ensemble"', "platform 'ensemble'"),
        ('platform: "pytorch_libtorch"', "torch.onnx.export"),
        ('platform: "tensorflow_savedmodel"', "tf2onnx"),
        ('backend: "python"', "backend 'python'"),
        ('backend: "my_own"', "export the model to ONNX"),
        ('backend: "onnx"', "did you mean 'onnxruntime'?"),
        ('backend: "onnx_runtime"', "did you mean 'onnxruntime'?"),
        ('platform: "ONNX"', "did you mean 'onnxruntime_onnx'?"),
        ("ensemble_scheduling { step { } }", "ensemble_scheduling"),
        ("sequence_batching { }", "sequence_batching"),
        ("model_transaction_policy { decoupled: true }", "decoupled"),
        ('input { name: "x" dims: [1] reshape { } }', "reshape"),
        ('output { name: "x" dims: [4] reshape { shape: [2,2] } }', "reshape"),
        ('output { name: "x" is_shape_tensor: true }', "is_shape_tensor"),
        ('input { name: "x" is_non_linear_format_io: true }', "is_non_linear_format_io"),
        ('input { name: "x" allow_ragged_batch: true }', "allow_ragged_batch"),
        ("batch_input { }", "batch_input"),
        ("batch_output { }", "batch_output"),
        ('model_operations { op_library_filename: "ops.so" }', "model_operations"),
        ('model_repository_agents { agents { name: "checksum" } }', "model_repository_agents"),
    ],
)
def test_folder_what_would_change_answers_is_refused_with_the_way_out(
    text: str, named: str
) -> None:
    error = refused(text)
    assert error.code == "not_run_here"
    assert named in error.message
    assert error.message.startswith(f"{FILE}: ")
    assert "(" in error.message or "does not run" in error.message


def test_folder_decoupled_false_and_cache_off_are_nothing_to_say() -> None:
    text = "model_transaction_policy { decoupled: false } response_cache { enable: false }"
    assert read(text).notes == ()


def test_folder_names_each_setting_that_is_not_honoured() -> None:
    found = read(
        """
        instance_group [ { count: 2 kind: KIND_GPU gpus: [ 0, 1 ] rate_limiter { priority: 1 } } ]
        dynamic_batching {
          preferred_batch_size: [ 4, 8 ]
          preserve_ordering: true
          default_priority_level: 1
          default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 5 }
        }
        optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }
        response_cache { enable: true }
        parameters { key: "execution_mode" value { string_value: "1" } }
        """
    )
    heads = [note.split(": ")[2] for note in found.notes]
    assert all(note.startswith("config.pbtxt: not honoured: ") for note in found.notes)
    assert heads == [
        "instance_group count",
        "instance_group KIND_GPU and gpus, where the server has no such GPU",
        "instance_group profile, passive, secondary_devices, host_policy and rate_limiter",
        "dynamic_batching preferred_batch_size",
        "dynamic_batching preserve_ordering",
        "dynamic_batching default_priority_level and priority_queue_policy",
        "dynamic_batching default_queue_policy default_timeout_microseconds and timeout_action",
        "optimization",
        "response_cache",
        "parameters 'execution_mode'",
    ]


SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_STRING: st.text(max_size=8) | st.sampled_from(["m", "onnxruntime"]),
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1) | st.integers(-1, 3),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_FLOAT: st.floats(width=32, allow_nan=False),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(allow_nan=False),
}


def fill(message: Any, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
    """Give a message a few fields of any value."""
    fields = list(message.DESCRIPTOR.fields)
    for field in draw(st.lists(st.sampled_from(fields), max_size=4)) if fields else ():
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            kinds = field.message_type.fields_by_name
            key = draw(SCALARS[kinds["key"].cpp_type])
            if kinds["value"].message_type is None:
                value[key] = draw(SCALARS[kinds["value"].cpp_type])
            else:
                fill(value[key], draw)
        elif field.message_type is not None:
            inner = value.add() if hasattr(value, "add") else value
            inner.SetInParent()
            fill(inner, draw)
        else:
            enum = field.enum_type
            numbers = (
                SCALARS[field.cpp_type] if enum is None else st.sampled_from(list(enum.values))
            )
            numbers = numbers if enum is None else numbers.map(lambda member: member.number)
            if hasattr(value, "append"):
                value.extend(draw(st.lists(numbers, max_size=3)))
            else:
                setattr(message, field.name, draw(numbers))


@given(st.data())
def test_folder_of_any_well_formed_file_is_read_or_refused(data: st.DataObject) -> None:
    config = pb.ModelConfig()
    fill(config, data.draw)
    try:
        found = read_folder(str(config).encode(), FILE, "m")
    except ConfigError as error:
        assert error.message.startswith(FILE)  # noqa: PT017
    else:
        assert found.config == config


HONOURED = {
    "name",
    "platform",
    "backend",
    "instance_group.name",  # a label of Triton's logs
    "input.format",  # told to clients again
    "output.label_filename",  # the names of classes
    "dynamic_batching.priority_levels",  # a request's priority orders the queue, at any level
    "dynamic_batching.default_queue_policy.allow_timeout_override",  # always allowed
}
"""Fields that need neither a note nor a setting, and why where it is not plain."""

VALUES: dict[int, Any] = {
    FieldDescriptor.CPPTYPE_BOOL: True,
    FieldDescriptor.CPPTYPE_STRING: "x",
    FieldDescriptor.CPPTYPE_FLOAT: 1.5,
    FieldDescriptor.CPPTYPE_DOUBLE: 1.5,
}


def leaves(message: Descriptor, above: tuple[FieldDescriptor, ...] = ()) -> Iterator[Any]:
    """Yield the path to every field that holds a value, maps and enums included."""
    for field in message.fields:
        inner = field.message_type
        if inner is None or inner.GetOptions().map_entry or not inner.fields:
            yield (*above, field)
        else:
            yield from leaves(inner, (*above, field))


def with_only(path: tuple[FieldDescriptor, ...]) -> Any:
    """Return a ModelConfig in which this one field is set, to no default."""
    config = message = pb.ModelConfig()
    for field in path:
        value = getattr(message, field.name)
        last = field is path[-1]
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key = 1 if field.name == "priority_queue_policy" else "x"
            if field.message_type.fields_by_name["value"].message_type is None:
                value[key] = "x"
            else:
                value[key].SetInParent()
        elif field.message_type is not None:
            message = value.add() if hasattr(value, "add") else value
            message.SetInParent()
        elif last:
            number = VALUES.get(field.cpp_type, 2 if field.enum_type is None else 1)
            if field.enum_type is not None and number not in field.enum_type.values_by_number:
                number = 0
            if hasattr(value, "append"):
                value.append(number)
            else:
                setattr(message, field.name, number)
    return config


EVERY = [".".join(f.name for f in path) for path in leaves(pb.ModelConfig.DESCRIPTOR)]
PATHS = dict(zip(EVERY, leaves(pb.ModelConfig.DESCRIPTOR), strict=True))


@pytest.mark.parametrize("name", [name for name in EVERY if name not in HONOURED])
def test_folder_no_field_is_ignored_in_silence(name: str) -> None:
    """Each field, set alone, changes what is served, is noted, or keeps it from being served."""
    config = with_only(PATHS[name])
    side = name.split(".")[0]
    bare = pb.ModelConfig()
    if side in ("input", "output"):
        getattr(config, side)[0].name = "x"  # without one it is refused for that alone
        if not name.endswith(".name"):
            getattr(bare, side).add(name="x")
    try:
        found = read_folder(str(config).encode(), FILE, "x")
    except ConfigError:
        return
    nothing = read_folder(str(bare).encode(), FILE, "x")
    changed = (found.settings, found.declaration) != (nothing.settings, nothing.declaration)
    assert changed or found.notes


@pytest.mark.parametrize(
    ("groups", "kinds"),
    [
        ("{ kind: KIND_GPU }", {"gpu": None}),
        ("{ kind: KIND_GPU gpus: [ 1 ] }, { kind: KIND_GPU gpus: [ 3, 2 ] }", {"gpu": (1, 2, 3)}),
        ("{ kind: KIND_GPU gpus: [ 1 ] }, { kind: KIND_GPU }", {"gpu": None}),
        ("{ gpus: [ 0 ] }", {"gpu": (0,)}),
        ("{ kind: KIND_CPU count: 4 }, { kind: KIND_GPU }", {"cpu": None, "gpu": None}),
    ],
)
def test_folder_instance_groups_say_which_devices_load_it(
    groups: str, kinds: dict[str, tuple[int, ...] | None]
) -> None:
    assert read(f"instance_group [ {groups} ]").settings.instances == Instances(kinds, firm=False)


def test_folder_instance_group_without_a_kind_leaves_the_devices_open() -> None:
    found = read("instance_group [ { kind: KIND_CPU }, { count: 1 } ]")
    assert found.settings.instances == EVERYWHERE


@pytest.mark.parametrize(
    ("text", "backend"),
    [
        ('platform: "tensorrt_plan"', "tensorrt"),
        ('backend: "tensorrt"', "tensorrt"),
        ('platform: "onnxruntime_onnx"', "onnxruntime"),
        # On a GPU there is TensorRT for it.
        ('platform: "onnxruntime_onnx" instance_group { kind: KIND_GPU }', None),
        ("max_batch_size: 4", None),
    ],
)
def test_folder_platform_pins_the_backend(text: str, backend: str | None) -> None:
    assert read(text).settings.backend == backend
