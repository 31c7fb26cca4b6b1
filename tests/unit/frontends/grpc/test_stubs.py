"""The committed stubs are those of the .proto files, and every admitted runtime takes them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from serving.frontends.grpc.apart_pool import POOL
from serving.frontends.grpc.stubs import (
    grpc_health_pb2,
    grpc_reflection_pb2,
    ms_service_pb2,
    tensorflow_error_pb2,
    tensorflow_pb2,
    tensorflow_serving_pb2,
)
from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from serving.v1 import tensors
from serving.v1.stubs import serving_v1_pb2 as v1

ROOT = Path(__file__).resolve().parents[4]
GENERATE = ROOT / "protos" / "generate.py"
THEIRS = (tensorflow_pb2, tensorflow_error_pb2, tensorflow_serving_pb2)
GRPCS = {grpc_health_pb2: health_pb2, grpc_reflection_pb2: reflection_pb2}
STUBS = [Path(str(module.__file__)) for module in (pb, ms_service_pb2, v1, *THEIRS, *GRPCS)]


def generate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(GENERATE), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_committed_stubs_are_those_of_the_protos() -> None:
    done = generate("--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_check_fails_when_a_number_changes(tmp_path: Path) -> None:
    text = (ROOT / "protos" / "inference_v2.proto").read_text()
    changed = text.replace("raw_input_contents = 7", "raw_input_contents = 8")
    assert changed != text
    (tmp_path / "inference_v2.proto").write_text(changed)
    done = generate("--check", "--protos", str(tmp_path))
    assert done.returncode == 1
    assert "inference_v2_pb2.py" in done.stderr


def test_check_is_blind_to_comments(tmp_path: Path) -> None:
    proto = tmp_path / "inference_v2.proto"
    shutil.copy(ROOT / "protos" / "inference_v2.proto", proto)
    proto.write_text(proto.read_text() + "\n// One more remark.\n")
    assert generate("--check", "--protos", str(tmp_path)).returncode == 0


def test_check_fails_when_a_stub_is_missing(tmp_path: Path) -> None:
    done = generate("--check", "--stubs", str(tmp_path))
    assert done.returncode == 1
    assert "missing" in done.stderr


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: stub.stem)
def test_stubs_run_on_the_oldest_protobuf_that_is_admitted(stub: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (bound,) = (d for d in project["dependencies"] if d.startswith("protobuf"))
    found = re.search(r">=([\d.]+)", bound)
    written = re.search(r"Protobuf Python Version: ([\d.]+)", stub.read_text())
    assert found is not None
    assert written is not None
    oldest = [int(part) for part in found.group(1).split(".")]
    needed = [int(part) for part in written.group(1).split(".")]
    assert needed <= oldest + [0] * (3 - len(oldest))


def test_field_numbers_are_those_of_the_protocol() -> None:
    numbers = {
        message.name: {field.name: field.number for field in message.fields}
        for message in (
            pb.ModelInferRequest.DESCRIPTOR,
            pb.ModelInferRequest.InferInputTensor.DESCRIPTOR,
            pb.ModelInferResponse.DESCRIPTOR,
            pb.InferTensorContents.DESCRIPTOR,
            pb.InferParameter.DESCRIPTOR,
        )
    }
    assert numbers == {
        "ModelInferRequest": {
            "model_name": 1, "model_version": 2, "id": 3, "parameters": 4, "inputs": 5,
            "outputs": 6, "raw_input_contents": 7,
        },
        "InferInputTensor": {
            "name": 1, "datatype": 2, "shape": 3, "parameters": 4, "contents": 5,
        },
        "ModelInferResponse": {
            "model_name": 1, "model_version": 2, "id": 3, "parameters": 4, "outputs": 5,
            "raw_output_contents": 6,
        },
        "InferTensorContents": {
            "bool_contents": 1, "int_contents": 2, "int64_contents": 3, "uint_contents": 4,
            "uint64_contents": 5, "fp32_contents": 6, "fp64_contents": 7, "bytes_contents": 8,
        },
        "InferParameter": {
            "bool_param": 1, "int64_param": 2, "string_param": 3, "double_param": 4,
            "uint64_param": 5,
        },
    }  # fmt: skip


def test_field_numbers_are_those_of_tensorflow() -> None:
    messages = {
        message.name: {field.name: field.number for field in message.fields}
        for stub in THEIRS
        for message in stub.DESCRIPTOR.message_types_by_name.values()
        if message.fields
    }
    assert messages == {
        "TensorShapeProto": {"dim": 2, "unknown_rank": 3},
        "TensorProto": {
            "dtype": 1, "tensor_shape": 2, "version_number": 3, "tensor_content": 4,
            "float_val": 5, "double_val": 6, "int_val": 7, "string_val": 8, "int64_val": 10,
            "bool_val": 11, "half_val": 13, "uint32_val": 16, "uint64_val": 17,
        },
        "TensorInfo": {"name": 1, "dtype": 2, "tensor_shape": 3},
        "SignatureDef": {"inputs": 1, "outputs": 2, "method_name": 3},
        "ModelSpec": {"name": 1, "version": 2, "signature_name": 3, "version_label": 4},
        "PredictRequest": {"model_spec": 1, "inputs": 2, "output_filter": 3},
        "PredictResponse": {"outputs": 1, "model_spec": 2},
        "SignatureDefMap": {"signature_def": 1},
        "GetModelMetadataRequest": {"model_spec": 1, "metadata_field": 2},
        "GetModelMetadataResponse": {"model_spec": 1, "metadata": 2},
        "StatusProto": {"error_code": 1, "error_message": 2},
        "ModelVersionStatus": {"version": 1, "state": 2, "status": 3},
        "GetModelStatusRequest": {"model_spec": 1},
        "GetModelStatusResponse": {"model_version_status": 1},
    }  # fmt: skip
    (dim,) = tensorflow_pb2.TensorShapeProto.DESCRIPTOR.nested_types
    assert {field.name: field.number for field in dim.fields} == {"size": 1, "name": 2}


@pytest.mark.parametrize("stub", GRPCS, ids=lambda stub: stub.__name__.rpartition(".")[2])
def test_messages_of_grpc_are_those_of_its_own_packages(stub: Any) -> None:
    ours, theirs = (
        FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        for module in (stub, GRPCS[stub])
    )
    assert ours.package == theirs.package
    known = {message.name: message for message in theirs.message_type}
    assert [m.name for m in ours.message_type if m != known[m.name]] == []
    assert len(ours.message_type) >= 2
    for service, its in zip(ours.service, theirs.service, strict=True):
        assert service.name == its.name
        calls = {call.name: call for call in its.method}
        assert [call.name for call in service.method if call != calls[call.name]] == []


def test_server_needs_no_package_that_fixes_the_release_of_protobuf() -> None:
    # Those of gRPC want protobuf 7 where tritonclient, put beside the server, brings 6.
    program = (
        "import sys; sys.modules.update(dict.fromkeys(('grpc_health', 'grpc_reflection')));"
        "import serving.frontends.grpc.server"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [d for d in project["dependencies"] if d.startswith("grpcio-")] == []


def test_stubs_that_others_declare_too_have_a_pool_of_their_own() -> None:
    for stub in (*THEIRS, *GRPCS):
        assert stub.DESCRIPTOR.pool is POOL
        with pytest.raises(KeyError):
            descriptor_pool.Default().FindFileByName(stub.DESCRIPTOR.name)


def test_numbers_of_the_tensors_are_those_that_are_written_by_hand() -> None:
    assert v1.PredictRequest.DESCRIPTOR.fields_by_name["inputs"].number == tensors.REQUEST_INPUTS
    assert (
        v1.PredictResponse.DESCRIPTOR.fields_by_name["outputs"].number == tensors.RESPONSE_OUTPUTS
    )


def test_stubs_of_the_own_protocol_do_not_import_those_of_v2() -> None:
    # A process that has tritonclient's V2 messages cannot load ours beside them.
    program = "import serving.client, sys; print(*sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert not [name for name in told.stdout.split() if "inference_v2" in name]
