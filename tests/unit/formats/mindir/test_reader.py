"""Files of every kind are read: split, encrypted, older releases; and damaged ones are refused."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from serving.errors import LoadError
from serving.formats.mindir.convert import convert
from serving.formats.mindir.reader import read_model
from serving.formats.mindir.stubs import mindir_pb2 as pb
from tests.unit.formats.mindir.mindir_files import Net, array, run, tensor

F = "float32"
KEY = b"0123456789ABCDEF"
W = np.arange(12, dtype=F).reshape(3, 4)
X = np.array([[1, -1, 2], [0, 3, 1]], F)


def product_net(release: str = "2.10") -> Net:
    """Write ``x @ w`` with MindSpore's plumbing around the weight."""
    net = Net(release)
    w, x = net.weight("w", W), net.input("x", F, (2, 3))
    token = net.monad()
    loaded = net.op("Load", [w, token], (F, (3, 4)))
    y = net.op("MatMul", [x, loaded], (F, (2, 4)), transpose_a=False, transpose_b=False)
    after = net.op("UpdateState", [token, loaded], None)
    net.output(net.op("Depend", [y, after], (F, (2, 4))))
    return net


def split(net: Net, folder: Path, name: str = "net") -> Path:
    """Write the weights into a file of their own, as MindSpore does above 1 GB."""
    content = b"\x01" + bytes(63)
    (folder / f"{name}_variables").mkdir()
    for parameter in net.model.graph.parameter:
        place = parameter.external_data
        place.location, place.offset = f"{name}_variables/data_0", len(content)
        place.length = len(parameter.raw_data)
        content += parameter.raw_data + bytes(-len(parameter.raw_data) % 64)
        parameter.ClearField("raw_data")
    (folder / f"{name}_variables" / "data_0").write_bytes(content)
    return net.save(folder / f"{name}_graph.mindir")


def encrypted(plain: bytes, mode: str) -> bytes:
    """Encrypt in blocks as MindSpore's layout says."""
    blocks = b""
    half = max(len(plain) // 2, 1)
    for part in (plain[:half], plain[half:]):
        iv = bytes(range(16))
        tag = b""
        if mode == "AES-GCM":
            sealed = Cipher(algorithms.AES(KEY), modes.GCM(iv[:12])).encryptor()
            cipher = sealed.update(part) + sealed.finalize()
            tag, magic = sealed.tag, 0x7F3A5ED8
        else:
            pad = padding.PKCS7(128).padder()
            algorithm = algorithms.AES(KEY) if mode == "AES-CBC" else algorithms.SM4(KEY)
            chained = Cipher(algorithm, modes.CBC(iv)).encryptor()
            cipher = chained.update(pad.update(part) + pad.finalize()) + chained.finalize()
            magic = 0x7F3A5ED9 if mode == "AES-CBC" else 0x7F3A5EDA
        inner = struct.pack("<i", 16) + iv + struct.pack("<i", len(cipher)) + cipher
        blocks += struct.pack("<I", magic) + tag + struct.pack("<i", len(inner)) + inner
    return blocks


@pytest.mark.parametrize("release", ["2.0", "2.10"])
def test_reader_erases_the_plumbing_around_a_weight(tmp_path: Path, release: str) -> None:
    path = product_net(release).save(tmp_path / "m.mindir")
    np.testing.assert_array_equal(run(path, X)[0], X @ W)
    model = convert(path).model
    assert [n.op_type for n in model.graph.node] == ["MatMul", "Identity"]
    assert [i.name for i in model.graph.input] == ["x"]
    assert [o.name for o in model.graph.output] == ["output"]


def test_weights_stay_in_the_mapped_file(tmp_path: Path) -> None:
    (weight,) = read_model(product_net().save(tmp_path / "m.mindir")).weights.values()
    assert weight.name == "w"
    assert not weight.array().flags.owndata
    np.testing.assert_array_equal(weight.array(), W)


def test_split_weights_are_read_beside_the_model(tmp_path: Path) -> None:
    np.testing.assert_array_equal(run(split(product_net(), tmp_path), X)[0], X @ W)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"location": "../data_0"}, "weights_outside"),
        ({"location": "/etc/passwd"}, "weights_outside"),
        ({"location": "net_variables/data_1"}, "weights_missing"),
        ({"offset": 1 << 40}, "weights_truncated"),
        ({"offset": 0}, "broken_model"),
        ({"offset": -64}, "broken_model"),
        ({"length": 4}, "broken_model"),
        ({"length": -1}, "broken_model"),
    ],
)
def test_split_weights_elsewhere_are_refused(
    tmp_path: Path, change: dict[str, Any], code: str
) -> None:
    net = product_net()
    split(net, tmp_path)
    for name, value in change.items():
        setattr(net.model.graph.parameter[0].external_data, name, value)
    with pytest.raises(LoadError) as caught:
        convert(net.save(tmp_path / "net_graph.mindir"))
    assert caught.value.code == code


@pytest.mark.parametrize("mode", ["AES-GCM", "AES-CBC", "SM4-CBC"])
def test_encrypted_file_opens_with_its_key(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "m.mindir"
    path.write_bytes(encrypted(product_net().model.SerializeToString(), mode))
    np.testing.assert_array_equal(run(path, X, key=KEY)[0], X @ W)


@pytest.mark.parametrize("mode", ["AES-GCM", "AES-CBC", "SM4-CBC"])
def test_encrypted_split_weights_open_with_the_key(tmp_path: Path, mode: str) -> None:
    path = split(product_net(), tmp_path)
    for file in (path, tmp_path / "net_variables" / "data_0"):
        file.write_bytes(encrypted(file.read_bytes(), mode))
    np.testing.assert_array_equal(run(path, X, key=KEY)[0], X @ W)


@pytest.mark.parametrize("key", [b"0123456789ABCDEX", b"short", b"", bytes(24)])
@pytest.mark.parametrize("mode", ["AES-GCM", "AES-CBC", "SM4-CBC"])
def test_encrypted_file_does_not_open_with_another_key(
    tmp_path: Path, mode: str, key: bytes
) -> None:
    path = tmp_path / "m.mindir"
    path.write_bytes(encrypted(product_net().model.SerializeToString(), mode))
    with pytest.raises(LoadError) as caught:
        convert(path, key)
    # With CBC one key in 256 leaves padding that looks right; what follows is no protobuf.
    assert caught.value.code in ("wrong_key", "broken_model")
    assert not key or key.decode("latin1") not in str(caught.value)


def test_encrypted_file_asks_for_its_key(tmp_path: Path) -> None:
    path = tmp_path / "m.mindir"
    path.write_bytes(encrypted(b"x" * 40, "AES-GCM"))
    with pytest.raises(LoadError) as caught:
        convert(path)
    assert caught.value.code == "key_missing"


def legacy_file(path: Path) -> Path:
    """Write ``reshape(x, (2, -1))`` as 1.0 did: ONNX's schema, elements of tuples in tensors."""
    graph = pb.LegacyGraphProto(name="7_net")
    info = pb.LegacyValueInfoProto(name="7_net:x")
    info.type.tensor_type.elem_type = 1
    info.type.tensor_type.shape.dim.add(dim_value=6)
    graph.input.append(info)
    constant = graph.node.add(op_type="Constant", output=["7_net:[ValueNode]4((2, -1)):7"])
    elements = [
        pb.LegacyTensorProto(data_type=6, int32_data=[n], name=f"value{i}")
        for i, n in ((1, 2), (2, -1))
    ]
    constant.attribute.add(
        name="value", tensors=elements, ref_attr_name="scalar:Tuple[value1,value2,],"
    )
    node = graph.node.add(
        op_type="Reshape", input=["7_net:x", constant.output[0]], output=["7_net:y:1"]
    )
    shape = pb.LegacyTensorProto(data_type=1, dims=[2, 3], name="shape1")
    node.attribute.add(tensors=[shape], ref_attr_name="shape:shape1,")
    graph.output.add(name="7_net:y:1").type.tensor_type.elem_type = 1
    head = b"\x08\x04\x12\x09MindSpore"
    path.write_bytes(head + pb.LegacyModelProto(graph=graph).SerializeToString())
    return path


def test_reader_reads_the_container_of_1_0(tmp_path: Path) -> None:
    x = np.arange(6, dtype=F)
    np.testing.assert_array_equal(run(legacy_file(tmp_path / "m.mindir"), x)[0], x.reshape(2, 3))


def test_reader_reads_attributes_arranged_by_a_text(tmp_path: Path) -> None:
    """1.1 to 1.4: operators and attributes on the node, elements in ints, arranged by a text."""
    net = Net()
    x = net.input("x", F, (2, 3))
    constant = net.graph.node.add(op_type="Constant", output=["perm"])
    constant.attribute.add(
        name="value", type=7, ints=[1, 0], ref_attr_name="scalar:Tuple[value1,value2,]"
    )
    node = net.graph.node.add(op_type="Transpose", input=[x, "perm"], output=["y"])
    shape = tensor((F, (3, 2)), name="shape1")
    node.attribute.add(tensors=[shape], ref_attr_name="shape:shape1,")
    mean = net.graph.node.add(op_type="ReduceMean", input=["y", "axis"], output=["z"])
    axis = net.graph.node.add(op_type="Constant", output=["axis"])
    axis.attribute.add(name="value", type=7, i=1, ref_attr_name="scalar:value0")
    mean.attribute.add(name="keep_dims", type=9, i=1, ref_attr_name="scalar:value0")
    mean.attribute.add(tensors=[tensor((F, (3, 1)))], ref_attr_name="shape:shape1,")
    net.output("z")
    (y,) = run(net.save(tmp_path / "m.mindir"), X)
    np.testing.assert_allclose(y, X.T.mean(1, keepdims=True), rtol=1e-6)


def test_bfloat16_is_computed_as_float32_and_stays_outside(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", "bfloat16", (3,))
    half = pb.TensorProto(data_type=16, dims=[], raw_data=b"\x00\x3f", name="value0")  # 0.5
    node = net.graph.node.add(op_type="Constant", output=["half"])
    node.attribute.add(name="value", type=19).tensors.append(half)
    net.output(net.op("Mul", [x, "half"], ("bfloat16", (3,))), ("bfloat16", (3,)))
    model = convert(net.save(tmp_path / "m.mindir")).model
    assert [n.op_type for n in model.graph.node] == ["Cast", "Mul", "Cast", "Identity"]
    kinds = [i.type.tensor_type.elem_type for i in (model.graph.input[0], model.graph.output[0])]
    assert kinds == [16, 16]


def test_dynamic_axis_has_no_name(tmp_path: Path) -> None:
    net = Net()
    net.output(net.op("ReLU", [net.input("x", F, (-1, 3))], (F, (-1, 3))))
    (info,) = convert(net.save(tmp_path / "m.mindir")).model.graph.input
    first, second = info.type.tensor_type.shape.dim
    assert first.WhichOneof("value") is None
    assert second.dim_value == 3


def test_large_weights_are_written_beside_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.formats.mindir.convert.INLINE_BYTES", 1000)
    net = Net()
    big = np.random.default_rng(3).standard_normal((3, 500)).astype(F)
    x = net.input("x", F, (2, 3))
    y = net.op("MatMul", [x, net.weight("w", big)], (F, (2, 500)))
    net.output(net.op("Mul", [y, net.weight("s", np.array(2, F))], (F, (2, 500))))
    (y,) = run(net.save(tmp_path / "m.mindir"), X)
    np.testing.assert_allclose(y, X @ big * 2, rtol=1e-5, atol=1e-5)
    assert (tmp_path / "m.onnx.data").stat().st_size == big.nbytes


def test_operators_without_a_conversion_are_all_listed(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", F, (2,))
    for operator in ("Mystery", "Riddle", "Mystery"):
        x = net.op(operator, [x], (F, (2,)))
    net.op("NeverUsed", [x], (F, (2,)))
    net.output(x)
    with pytest.raises(LoadError) as caught:
        convert(net.save(tmp_path / "m.mindir"))
    assert caught.value.code == "unsupported_operator"
    assert "Mystery (2, first at 'Default/Mystery-op1')" in caught.value.message
    assert "Riddle (1, first at 'Default/Riddle-op2')" in caught.value.message
    assert "NeverUsed" not in caught.value.message
    assert "file_format='ONNX'" in caught.value.fix


def test_operator_that_changes_the_models_state_is_refused(tmp_path: Path) -> None:
    net = product_net()
    net.op("Assign", [net.graph.parameter[0].name, net.input("v", F, (3, 4)), net.monad()], None)
    with pytest.raises(LoadError, match="Assign at .* changes the model's state"):
        convert(net.save(tmp_path / "m.mindir"))


@pytest.mark.parametrize("token", ["constant", "made", "given"])
def test_effect_ordered_by_any_token_is_refused(tmp_path: Path, token: str) -> None:
    net = product_net()
    name = net.monad()
    if token == "made":
        name = net.op("UpdateState", [name], None)
    if token == "given":
        name = f"{net.graph.name}:u"
        net.graph.input.add(name=name, denotation="UMonadType")
    net.op("AssignAdd", [net.graph.parameter[0].name, net.constant(1), name], None)
    with pytest.raises(LoadError, match="AssignAdd at"):
        convert(net.save(tmp_path / "m.mindir"))


def test_sum_in_place_is_refused_if_what_it_overwrites_is_used_again(tmp_path: Path) -> None:
    for again in (False, True):
        net = Net()
        x, y = net.input("x", F, (2,)), net.input("y", F, (2,))
        x = net.op("ReLU", [x], (F, (2,)))
        z = net.op("InplaceAddExt", [x, y], (F, (2,)), alpha=1)
        net.output(net.op("Mul", [z, x if again else y], (F, (2,))))
        path = net.save(tmp_path / "m.mindir")
        if again:
            with pytest.raises(LoadError, match="overwrites a value"):
                convert(path)
        else:
            one, two = np.array([1, -1], F), np.array([3, 4], F)
            np.testing.assert_array_equal(run(path, one, two)[0], [12, 16])


def test_stated_type_that_an_operator_does_not_give_is_refused(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", F, (2, 4))
    net.output(net.op("TensorShape", [x], (F, (2,))))
    with pytest.raises(LoadError, match="gives INT64 and states FP32") as caught:
        convert(net.save(tmp_path / "m.mindir"))
    assert caught.value.code == "broken_model"


def product(net: Net) -> pb.NodeProto:
    return next(n for n in net.graph.node if n.op_type.startswith("REF::MatMul"))


DAMAGES: dict[str, Any] = {
    "no output": lambda n: n.graph.ClearField("output"),
    "unknown output": lambda n: n.graph.output[0].__setattr__("name", "nowhere"),
    "unknown input": lambda n: product(n).input.__setitem__(0, "nowhere"),
    "an input from behind": lambda n: product(n).input.__setitem__(0, n.graph.node[-1].output[0]),
    "negative length": lambda n: n.graph.parameter[0].dims.__setitem__(0, -3),
    "huge length": lambda n: n.graph.parameter[0].dims.__setitem__(0, 1 << 60),
    "many axes": lambda n: n.graph.parameter[0].dims.extend([1] * 100),
    "lengths whose product overflows": lambda n: n.graph.parameter[0].dims.__setitem__(
        slice(None), [1 << 40] * 8
    ),
    "missing data": lambda n: n.graph.parameter[0].ClearField("raw_data"),
    "too much data": lambda n: n.graph.parameter[0].__setattr__("raw_data", bytes(49)),
    "two weights of one name": lambda n: n.graph.parameter.append(n.graph.parameter[0]),
    "two graphs of one name": lambda n: n.model.functions.add(name=n.graph.name),
    "no node output": lambda n: n.graph.node[-1].ClearField("output"),
}


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_damaged_file_is_refused_as_such(tmp_path: Path, damage: str) -> None:
    net = product_net()
    DAMAGES[damage](net)
    with pytest.raises(LoadError) as caught:
        convert(net.save(tmp_path / "m.mindir"))
    assert caught.value.code == "broken_model"
    assert str(tmp_path) not in str(caught.value)


def test_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    content = product_net().model.SerializeToString()
    path = tmp_path / "m.mindir"
    path.write_bytes(content.replace(b"Default/MatMul", b"Default/\xffatMul"))
    with pytest.raises(LoadError) as caught:
        convert(path)
    assert caught.value.code == "broken_model"


def test_calls_that_double_at_every_level_are_bounded(tmp_path: Path) -> None:
    net = Net()
    for level in range(40):
        net.function(f"{level}_level")
        x = net.input("x", F, (2,))
        callee = f"{level - 1}_level"
        for _ in range(2):
            x = net.call(callee, [x], (F, (2,))) if level else net.op("Neg", [x], (F, (2,)))
        net.output(x)
    net.graph = net.model.graph
    net.output(net.call("39_level", [net.input("x", F, (2,))], (F, (2,))))
    with pytest.raises(LoadError, match="unfolds into more than"):
        convert(net.save(tmp_path / "m.mindir"))


def test_calls_within_calls_are_bounded(tmp_path: Path) -> None:
    net = Net()
    for level in range(200):
        net.function(f"{level}_level")
        x = net.input("x", F, (2,))
        x = net.call(f"{level - 1}_level", [x], (F, (2,))) if level else x
        net.output(net.op("Neg", [x], (F, (2,))))
    net.graph = net.model.graph
    net.output(net.call("199_level", [net.input("x", F, (2,))], (F, (2,))))
    with pytest.raises(LoadError, match="deep"):
        convert(net.save(tmp_path / "m.mindir"))


@pytest.mark.parametrize(("width", "levels"), [(1, 5000), (2, 60), (300, 3)])
def test_tuples_of_tuples_are_bounded(tmp_path: Path, width: int, levels: int) -> None:
    net = Net()
    x = net.input("x", F, (2,))
    for _ in range(levels):
        x = net.op("MakeTuple", [x] * width, None)
    net.output(x)
    with pytest.raises(LoadError, match="unfolds into more than|deep"):
        convert(net.save(tmp_path / "m.mindir"))


def test_damaged_bytes_never_give_another_error(tmp_path: Path) -> None:
    """Every cut, and many flips and gaps: a file converts or is refused, with nothing else."""
    good = product_net().model.SerializeToString()
    path = tmp_path / "m.mindir"
    generator = random.Random(17)
    refused = 0
    for turn in range(len(good) + 300):
        content = bytearray(good[:turn]) if 0 < turn < len(good) else bytearray(good)
        if turn >= len(good):
            for _ in range(generator.choice((1, 4))):
                content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        path.write_bytes(content)
        try:
            convert(path)
        except LoadError:
            refused += 1
    assert refused > len(good) * 0.9


def test_array_helper_writes_what_the_reader_reads(tmp_path: Path) -> None:
    net = Net()
    values = np.arange(4, dtype="int16").reshape(2, 2)
    assert array(values).raw_data == values.tobytes()
    net.output(net.op("Cast", [net.constant(values)], ("float32", (2, 2))))
    np.testing.assert_array_equal(run(net.save(tmp_path / "m.mindir"))[0], values.astype(F))
