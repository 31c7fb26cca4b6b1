"""The text of a ``config.pbtxt``: what it says, and where its mistakes are."""

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import ConfigError
from serving.repository.stubs import triton_model_config_pb2 as pb
from serving.repository.triton_text import parse_config

FILE = "m/config.pbtxt"


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse_config(text.encode(), FILE)
    return caught.value


def test_text_both_ways_of_writing_lists_and_messages_are_the_same() -> None:
    short = b"""
        # Triton's documentation writes lists of messages and numbers in brackets.
        input [ { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] }, { name: 'y' } ]
        version_policy: { specific: { versions: [1, 3] } }
        parameters { key: "k" value: { string_value: "a" "b" } }
    """
    long = b"""
        input { name: "x"; data_type: TYPE_FP32; dims: 3, dims: -1 }
        input: < name: "y" >
        version_policy { specific { versions: 0x1 versions: 3 } }
        parameters [ { key: "k", value { string_value: "ab" } } ]
    """
    config = parse_config(short, FILE)
    assert config == parse_config(long, FILE)
    assert list(config.input[0].dims) == [3, -1]
    assert config.parameters["k"].string_value == "ab"


def test_text_tells_a_written_zero_from_nothing() -> None:
    assert parse_config(b"max_batch_size: 0", FILE).HasField("max_batch_size")
    assert not parse_config(b"", FILE).HasField("max_batch_size")


@pytest.mark.parametrize(
    ("text", "place", "message", "fix"),
    [
        (
            'name: "a"\n  max_batchsize: 8', "2:3",
            "'max_batchsize' is not a field of ModelConfig", "did you mean 'max_batch_size'?",
        ),
        (
            "input { dim: 3 }", "1:9",
            "'dim' is not a field of ModelInput", "did you mean 'dims'?",
        ),
        (
            "max_queue_delay_microseconds: 5", "1:1",
            "'max_queue_delay_microseconds' is not a field of ModelConfig",
            "it belongs in dynamic_batching { }",
        ),
        (
            "version_policy { zzzz {} }", "1:18",
            "'zzzz' is not a field of ModelVersionPolicy", "known: latest, all, specific",
        ),
        (
            "input {\n data_type: FP32 }", "2:13",
            "'FP32' is not a DataType", "did you mean 'TYPE_FP32'?",
        ),
        (
            "instance_group { kind: KIND_CPUS }", "1:24",
            "'KIND_CPUS' is not a Kind", "did you mean 'KIND_CPU'?",
        ),
        (
            "dynamic_batching { }\nsequence_batching { }", "2:1",
            "'sequence_batching' cannot stand beside 'dynamic_batching'", "keep one of them",
        ),
        ('name: "a"\nname: "b"', "2:7", "'name' is given twice", "keep one of them"),
        ("max_batch_size: many", "1:17", "Couldn't parse integer: many", ""),
        ("name: 'a", "1:7", 'String missing ending quote: "\'a"', ""),
    ],
)  # fmt: skip
def test_text_mistakes_are_placed_and_explained(
    text: str, place: str, message: str, fix: str
) -> None:
    error = refused(text)
    line, column = place.split(":")
    assert error.where == f"{FILE}:{place}"
    assert error.message == f"{FILE}, line {line}, column {column}: {message}"
    assert error.fix == fix


def test_text_that_is_no_utf8_names_the_line() -> None:
    with pytest.raises(ConfigError, match=r"m/config\.pbtxt is not UTF-8 text \(at line 2\)"):
        parse_config(b'name: "a"\n# \xff', FILE)


@given(st.text(alphabet="{}[]<>:;,\"'\\#-. \n0123456789abcdims_TYPEname", max_size=60))
def test_text_of_any_kind_is_read_or_refused_with_its_place(text: str) -> None:
    try:
        parse_config(text.encode(), FILE)
    except ConfigError as error:
        assert re.fullmatch(r"m/config\.pbtxt:\d+:\d+", error.where)  # noqa: PT017


@given(
    st.builds(
        pb.ModelInput,
        name=st.text(max_size=20),
        data_type=st.sampled_from(pb.DataType.values()),
        dims=st.lists(st.integers(-1, 2**63 - 1), max_size=4),
        optional=st.booleans(),
    )
)
def test_text_reads_back_what_protobuf_writes(tensor: pb.ModelInput) -> None:
    config = pb.ModelConfig(input=[tensor], max_batch_size=3)
    assert parse_config(str(config).encode(), FILE) == config


NUMBERS = """
import tritonclient.grpc.model_config_pb2 as theirs
from serving.repository.stubs import triton_model_config_pb2 as ours

def flat(module):
    package, found = module.DESCRIPTOR.package, {}
    enums = list(module.DESCRIPTOR.enum_types_by_name.values())
    messages = list(module.DESCRIPTOR.message_types_by_name.values())
    for message in messages:
        messages += message.nested_types
        enums += message.enum_types
        for field in message.fields:
            kind = field.message_type or field.enum_type
            name = kind and kind.full_name.removeprefix(package)
            key = field.full_name.removeprefix(package)
            found[key] = field.number, field.type, name
    for enum in enums:
        for value in enum.values:
            found[enum.full_name.removeprefix(package) + "=" + value.name] = value.number
    return found

mine, his = flat(ours), flat(theirs)
wrong = {key: (mine.get(key), his[key]) for key in his if mine.get(key) != his[key]}
assert not wrong, wrong
print(len(his))
"""


def test_stub_has_every_name_and_number_of_tritons_and_lives_beside_it() -> None:
    """Both in one process: that they do not clash is part of the fact."""
    done = subprocess.run(
        [sys.executable, "-c", NUMBERS], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 150
