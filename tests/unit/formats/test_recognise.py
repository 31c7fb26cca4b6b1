"""Formats are told by content; heads are made here from the documented layouts."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from serving.artifact import Format
from serving.formats.recognise import recognise
from tests.unit.formats.nets import written

MINDSPORE = b"\x12\x09MindSpore"
ONNX_BYTES = written("(float[N,4] x) => (y) { y = Relu(x) }").SerializeToString()


def om_file(stated: int, body: bytes) -> bytes:
    head = bytearray(256)
    struct.pack_into("<4sII", head, 0, b"IMOD", 256, 0x20000000)
    struct.pack_into("<Q", head, 184, stated)
    return bytes(head) + body


def checkpoint() -> bytes:
    value = b"\x0a\x0aconv.weigh" + b"\x12\x06\x08\x03\x12\x02ab"
    return b"\x0a" + bytes([len(value)]) + value


HEADER = b'{"a":{}}'
FILES = {
    "onnx": ("model.onnx", ONNX_BYTES, Format.ONNX, ""),
    "onnx_by_mindspore": (
        "net.bin",
        b"\x08\x04" + MINDSPORE + b'\x1a\x031.0:\x03\x12\x01g' + b"B\x04\x0a\x00\x10\x0b",
        Format.ONNX,
        "",
    ),
    "onnx_with_another_name": ("weights.ckpt", ONNX_BYTES, Format.ONNX, ""),
    "mindir": (
        "m.mindir",
        b"\x0a\x031.1" + MINDSPORE + b":\x03\x12\x01g",
        Format.MINDIR,
        "",
    ),
    "mindir_1_0": (
        "m.mindir",
        b"\x08\x04" + MINDSPORE + b"\x28\x00:\x03\x12\x01g",
        Format.MINDIR,
        "",
    ),
    "mindir_gcm": ("m.mindir", b"\xd8\x5e\x3a\x7f" + bytes(60), Format.MINDIR_ENCRYPTED, ""),
    "mindir_cbc": ("m.mindir", b"\xd9\x5e\x3a\x7f" + bytes(60), Format.MINDIR_ENCRYPTED, ""),
    "mindir_sm4": ("m.mindir", b"\xda\x5e\x3a\x7f" + bytes(60), Format.MINDIR_ENCRYPTED, ""),
    "checkpoint": ("lenet.ckpt", checkpoint(), Format.CHECKPOINT, "weights without the network"),
    "checkpoint_way_out": ("lenet.ckpt", checkpoint(), Format.CHECKPOINT, "file_format='MINDIR'"),
    "checkpoint_encrypted": (
        "lenet.ckpt", b"\xd8\x5e\x3a\x7f" + bytes(60), Format.CHECKPOINT, "an encrypted checkpoint"
    ),
    "safetensors": (
        "w.safetensors", struct.pack("<Q", len(HEADER)) + HEADER, Format.SAFETENSORS, "weights"
    ),
    "safetensors_way_out": (
        "w.safetensors", struct.pack("<Q", len(HEADER)) + HEADER, Format.SAFETENSORS,
        "export that as ONNX (torch.onnx.export, or optimum-cli export onnx",
    ),
    "lite_way_out": (
        "m.ms", b"\x20\x00\x00\x00MSL2" + bytes(32), Format.MINDSPORE_LITE, "file_format='MINDIR'"
    ),
    "lite": ("m.ms", b"\x20\x00\x00\x00MSL2" + bytes(32), Format.MINDSPORE_LITE, "mindspore-lite"),
    "om": ("m.om", om_file(40, bytes(40)), Format.OM, "needs an Ascend device"),
    "om_cut": (
        "m.om", om_file(4000, bytes(40)), Format.UNKNOWN, "states 4000 bytes and 40 follow"
    ),
    "om_short": ("m.om", b"IMOD" + bytes(20), Format.UNKNOWN, "cut short in its header"),
    "om_newer": (
        "m.om", b"IMOD" + struct.pack("<I", 512) + bytes(600), Format.UNKNOWN, "header of 512 bytes"
    ),
    "om_other": ("m.om", b"something else", Format.UNKNOWN, "does not begin as one"),
    "om_called_onnx": ("m.onnx", om_file(40, bytes(40)), Format.OM, "needs an Ascend device"),
    "onnx_called_om": ("m.om", ONNX_BYTES, Format.ONNX, ""),
    "tensorrt_rtx": (
        "m.engine", b"vtrt" + bytes(12) + bytes([68]) + bytes(51), Format.TENSORRT, "NVIDIA GPU"
    ),
    "tensorrt_rtx_cut": (
        "m.engine", b"vtrt" + bytes(64), Format.UNKNOWN, "states 0 bytes, the file has 68"
    ),
    "tensorrt_short": ("m.plan", b"ftrt" + bytes(20), Format.UNKNOWN, "cut short"),
    "tensorrt": ("m.plan", b"ptrt" + bytes(64), Format.TENSORRT, "NVIDIA GPU"),
    "tensorrt_old": ("m.plan", b"ftrt" + bytes(64), Format.TENSORRT, "NVIDIA GPU"),
    "air": ("m.air", b"\x0a\x02ge\x10\x01\x3a\x03\x0a\x01g", Format.AIR, "compiled for an Ascend"),
    "air_cut": ("m.air", b"\x0a\x02ge\x10\x01\x3a\x63\x0a\x01g", Format.UNKNOWN, "no format"),
    "air_by_another_name": ("m.bin", b"\x0a\x02ge\x10\x01", Format.UNKNOWN, "no format"),
    "empty": ("m.onnx", b"", Format.UNKNOWN, "the file is empty"),
    "lfs": ("m.onnx", b"version https://git-lfs.github.com/spec/v1\n", Format.UNKNOWN, "git lfs"),
    "zip": ("m.pt", b"PK\x03\x04" + bytes(40), Format.UNKNOWN, "use torch.onnx.export"),
    "pickle": ("m.onnx", b"\x80\x04\x95" + bytes(40), Format.UNKNOWN, "or skl2onnx"),
    "page": ("m.onnx", b"<!DOCTYPE html><html>", Format.UNKNOWN, "HTML"),
    "saved_model": (
        "saved_model.pb", b"\x08\x01\x12\x08\x0a\x06\x12\x04serv", Format.UNKNOWN,
        "a TensorFlow SavedModel; convert it to ONNX with tf2onnx (python -m tf2onnx.convert "
        "--saved-model FOLDER --output model.onnx)",
    ),
    "frozen_graph": (
        "net.pb", b"\x0a\x10\x0a\x01x\x12\x0bPlaceholder", Format.UNKNOWN, "a TensorFlow graph"
    ),
    "noise": ("m.onnx", bytes(range(200, 255)), Format.UNKNOWN, "no format that is known"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_format_is_told_by_content_with_the_way_out(name: str, tmp_path: Path) -> None:
    file_name, content, expected, reason = FILES[name]
    path = tmp_path / file_name
    path.write_bytes(content)
    found = recognise(path)
    assert found.format is expected
    assert reason in found.reason if reason else found.reason == ""
    assert str(tmp_path) not in found.reason


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_onnx_cut_short_is_still_taken_for_onnx(share: float, tmp_path: Path) -> None:
    net = written("(float[N,64] x) => (y) { y = MatMul(x, w) }", w=(64, 64))
    net.producer_name = "trainer"
    content = net.SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(content[: int(len(content) * share)])
    assert recognise(path).format is Format.ONNX


def test_onnx_cut_short_in_its_first_long_field_is_told_by_its_name(tmp_path: Path) -> None:
    net = written("(float[N,64] x) => (y) { y = MatMul(x, w) }", w=(64, 64))
    net.ClearField("producer_name")
    content = net.SerializeToString()
    for name, expected in (("net.onnx", Format.ONNX), ("net.bin", Format.UNKNOWN)):
        path = tmp_path / name
        path.write_bytes(content[: len(content) // 2])
        assert recognise(path).format is expected


def test_short_heads_are_survived(tmp_path: Path) -> None:
    path = tmp_path / "m.air"
    for content in (b"\x08", b"\x0a", b"\x0a\xff", b"\x08\xff\xff", b"\xd8\x5e", b"IMO", b"{"):
        path.write_bytes(content)
        assert recognise(path).format is Format.UNKNOWN, content
