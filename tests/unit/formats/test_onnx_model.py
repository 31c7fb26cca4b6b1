"""What is read out of an ONNX file, and how broken or hostile ones are refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from serving.errors import LoadError
from serving.formats import skeleton
from serving.formats.onnx_model import describe, read_signature
from serving.formats.skeleton import read_skeleton
from serving.tensor import BF16, BYTES, FP32, INT64, TensorSpec
from tests.unit.formats import architectures
from tests.unit.formats.nets import STRING, model, node, tensor, written


def save(net: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(net.SerializeToString())
    return path


def external(folder: Path, location: str = "weights.bin", **entries: Any) -> Path:
    """Save y = x @ w with w's 48 bytes in a file beside it, as ``location`` says."""
    net = written("(float[N,4] x) => (float[N,3] y) { y = MatMul(x, w) }", w=(4, 3))
    held = net.graph.initializer[0]
    (folder / "weights.bin").write_bytes(held.raw_data)
    held.ClearField("raw_data")
    held.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        held.external_data.add(key=key, value=str(value))
    return save(net, folder)


def test_signature_keeps_names_dtypes_and_symbolic_dims(tmp_path: Path) -> None:
    net = written("(int64[batch,sequence] ids, float s, float[?,3] z) => (float[batch,8] y) "
                  "{ a = Cast<to=1>(ids) b = MatMul(a, w) y = Add(b, s) }", w=(5, 8))  # fmt: skip
    net.graph.input[2].type.tensor_type.shape.dim[0].ClearField("dim_param")
    found = describe(save(net, tmp_path)).signature
    assert found is not None
    assert found.inputs == (
        TensorSpec("ids", INT64, ("batch", "sequence")),
        TensorSpec("s", FP32, ()),
        TensorSpec("z", FP32, ("", 3)),
    )
    assert found.outputs == (TensorSpec("y", FP32, ("batch", 8)),)


def test_signature_takes_a_length_of_minus_one_for_a_varying_one(tmp_path: Path) -> None:
    net = written("(float[4,4] x) => (float[4,4] y) { y = Relu(x) }")
    net.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    found = describe(save(net, tmp_path))
    assert found.signature is not None
    assert found.signature.inputs[0].shape == ("", 4)
    assert found.batch.batched


def test_signature_leaves_out_constants_that_are_listed_as_inputs() -> None:
    net = written("(float[N,4] x, float[4,2] w) => (float[N,2] y) { y = MatMul(x, w) }", w=(4, 2))
    assert [spec.name for spec in read_signature(net).inputs] == ["x"]


def test_signature_has_no_shape_where_the_rank_is_unknown() -> None:
    net = model([node("Relu", ["x"], ["y"])], [tensor("x", None)], [tensor("y", None)])
    assert read_signature(net).inputs == (TensorSpec("x", FP32, None),)


def test_output_without_a_type_gets_the_one_that_follows() -> None:
    net = written("(float[N,4] x) => (y) { y = Cast<to=16>(x) }")
    assert read_signature(net).outputs[0].dtype is BF16


def test_sequence_of_maps_is_answered_as_json() -> None:
    label, zipped = read_signature(architectures.pipeline()).outputs
    assert label == TensorSpec("label", BYTES, ("",))
    assert zipped == TensorSpec("probabilities", BYTES, ("",), json=True)


def test_input_that_is_no_tensor_is_refused_by_name() -> None:
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(STRING, []))
    info = helper.make_value_info("words", kind)
    net = model([node("SequenceLength", ["words"], ["y"])], [info], [tensor("y", [], 7)])
    with pytest.raises(LoadError, match="input 'words' is a sequence"):
        read_signature(net)


@pytest.mark.parametrize("kind", ["FLOAT8E4M3FN", "INT4", "COMPLEX64"])
def test_element_type_that_is_not_served_is_refused_by_name(kind: str) -> None:
    number = TensorProto.DataType.Value(kind)
    net = model([node("Identity", ["q"], ["y"])], [tensor("q", ["N"], number)], ["y"])
    with pytest.raises(LoadError, match=f"input 'q' has the element type {kind}"):
        read_signature(net)


def test_description_names_producer_opset_and_nodes(tmp_path: Path) -> None:
    net = architectures.mlp()
    net.producer_name, net.producer_version = "pytorch", "2.5"
    path = save(net, tmp_path)
    found = describe(path)
    assert found.backend == "onnxruntime"
    assert found.producer == "pytorch 2.5"
    assert found.detail == "opset 17, ai.onnx.ml 3, com.acme 1, com.microsoft 1, 4 nodes"
    assert found.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.size_bytes == path.stat().st_size
    assert found.batch.batched


def test_external_data_counts_in_size_and_digest(tmp_path: Path) -> None:
    path = external(tmp_path)
    before = describe(path)
    assert before.size_bytes == path.stat().st_size + 48
    assert before.batch.batched
    assert before.detail.endswith(", weights in 'weights.bin'")
    assert before.notes == ()  # nothing that anybody should mind
    content = bytearray((tmp_path / "weights.bin").read_bytes())
    content[5] ^= 1
    (tmp_path / "weights.bin").write_bytes(content)
    assert describe(path).digest != before.digest


def test_external_data_through_a_link_within_the_folder_is_read(tmp_path: Path) -> None:
    path = external(tmp_path, "linked.bin")
    (tmp_path / "linked.bin").symlink_to("weights.bin")
    assert describe(path).runnable


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../weights.bin", "a/../../b", "C:\\w.bin", "..\\w.bin", "", "a\0b"]
)
def test_external_data_outside_the_folder_is_refused(location: str, tmp_path: Path) -> None:
    with pytest.raises(LoadError) as caught:
        describe(external(tmp_path, location))
    assert caught.value.code == "weights_outside"
    assert "constant 'w'" in str(caught.value)
    assert "passwd" not in str(caught.value)


def test_external_data_linked_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = external(folder, "secret.bin")
    (tmp_path / "outside.bin").write_bytes(bytes(48))
    (folder / "secret.bin").symlink_to(tmp_path / "outside.bin")
    with pytest.raises(LoadError, match="outside the model's folder"):
        describe(path)


def test_external_data_that_is_missing_is_named_without_its_path(tmp_path: Path) -> None:
    path = external(tmp_path, "sub/lost.bin")
    with pytest.raises(LoadError) as caught:
        describe(path)
    assert caught.value.code == "weights_missing"
    assert "'sub/lost.bin'" in str(caught.value)
    assert caught.value.fix == "copy the folder 'sub' beside the model, under that name"
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    "entries", [{}, {"length": 48}, {"offset": 40}, {"offset": 8, "length": 48}]
)
def test_external_data_that_is_cut_short_is_refused(
    entries: dict[str, int], tmp_path: Path
) -> None:
    path = external(tmp_path, **entries)
    (tmp_path / "weights.bin").write_bytes(bytes(47))
    with pytest.raises(LoadError) as caught:
        describe(path)
    assert caught.value.code == "weights_truncated"
    assert caught.value.given == "47"
    assert str(tmp_path) not in str(caught.value)


def test_external_data_at_a_place_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="constant 'w' has a place that is not a number"):
        describe(external(tmp_path, offset="here"))


def test_skeleton_leaves_out_large_constants_and_keeps_small_ones(tmp_path: Path) -> None:
    net = written(
        "(float[N,64] x) => (y) { a = MatMul(x, w) y = Reshape(a, s) }", w=(64, 64), s=[-1, 64]
    )
    large, small = read_skeleton(save(net, tmp_path)).graph.initializer
    assert (large.name, list(large.dims), large.data_type) == ("w", [64, 64], 1)
    assert (large.raw_data, large.data_location) == (b"", TensorProto.EXTERNAL)
    assert small.raw_data == np.array([-1, 64], "int64").tobytes()


def test_model_with_large_constants_is_described_from_its_skeleton(tmp_path: Path) -> None:
    net = written("(float[N,64] x) => (float[N,64] y) { y = MatMul(x, w) }", w=(64, 64))
    found = describe(save(net, tmp_path))
    assert found.batch.batched
    assert found.notes == ()


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.8, 0.99])
def test_file_cut_short_is_refused(keep: float, tmp_path: Path) -> None:
    net = written("(float[N,64] x) => (float[N,64] y) { y = MatMul(x, w) }", w=(64, 64))
    content = net.SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(LoadError) as caught:
        describe(path)
    assert caught.value.code == "broken_model"


@pytest.mark.parametrize("content", [b"", b"\x08\x08", b"\x08\x08:\x02\xff\xff", b"\x0f\x00"])
def test_file_without_a_graph_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(LoadError) as caught:
        describe(path)
    assert caught.value.code == "broken_model"
    assert str(tmp_path) not in str(caught.value)


def test_file_beyond_what_protobuf_holds_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(architectures.mlp(), tmp_path)
    monkeypatch.setattr(skeleton, "PROTOBUF_LIMIT_BYTES", path.stat().st_size - 1)
    with pytest.raises(LoadError, match="larger than 2 GiB"):
        read_skeleton(path)
