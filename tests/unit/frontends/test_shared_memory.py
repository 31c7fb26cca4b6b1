"""Regions of clients' shared memory: bounds, lives of descriptors, and who may use them."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.errors import InvalidRequest, NotFound, Overloaded, TooLarge, Unauthenticated
from serving.frontends.shared_memory import gate, regions, sharing
from serving.frontends.shared_memory.region import Region
from serving.frontends.shared_memory.regions import Registry
from serving.frontends.shared_memory.sharing import Sharing
from serving.request import Description, Elsewhere, InferRequest
from serving.tensor import (
    BOOL,
    BYTES,
    FP32,
    TEXT,
    BatchAxes,
    Signature,
    Tensor,
    TensorSpec,
)  # fmt: skip
from tests.shared_objects import Objects, shared_objects


@pytest.fixture
def objects() -> Iterator[Objects]:
    with shared_objects() as made:
        yield made


@pytest.fixture
def known() -> Registry:
    return Registry(most_bytes=1000, request_bytes=100)


def open_on(path: Path) -> int:
    """Return how many descriptors of this process are of a file, even one without a name."""
    links = (Path(entry) for entry in Path("/proc/self/fd").iterdir())
    return sum(str(path) in _target(link) for link in links)


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:  # of the listing itself
        return ""


async def test_regions_are_bounded_in_bytes(known: Registry, objects: Objects) -> None:
    key = objects.make("a", bytes(2000))
    await known.register("one", key, 0, 600)
    with pytest.raises(Overloaded) as refused:
        await known.register("two", key, 600, 401)
    assert (refused.value.code, refused.value.expected) == (
        "too_many_regions",
        "at most 1000 bytes",
    )
    await known.register("two", key, 600, 400)
    await known.unregister("one")
    await known.register("three", key, 0, 600)
    assert sorted(known.status()) == ["three", "two"]


async def test_regions_are_bounded_in_number(
    known: Registry, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regions, "MOST_REGIONS", 2)
    key = objects.make("a", bytes(10))
    await known.register("one", key, 0, 1)
    await known.register("two", key, 0, 1)
    with pytest.raises(Overloaded, match="too many"):
        await known.register("three", key, 0, 1)


@pytest.mark.parametrize("name", ["", "x" * 256, "a\nb", "a\0b"])
async def test_region_has_a_short_printable_name(
    known: Registry, objects: Objects, name: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await known.register(name, objects.make("a", bytes(10)), 0, 1)
    assert refused.value.code == "bad_region_name"


async def test_failed_registration_leaves_nothing(known: Registry, objects: Objects) -> None:
    key = objects.make("a", bytes(10))
    for offset, size in ((0, 11), (10, 1), (2**62, 1), (0, 0)):
        with pytest.raises(InvalidRequest):
            await known.register("r", key, offset, size)
    assert known.status() == {}
    assert open_on(objects.path("a")) == 0


async def test_descriptor_is_open_as_long_as_somebody_holds_the_region(
    known: Registry, objects: Objects
) -> None:
    path = objects.path("a")
    await known.register("r", objects.make("a", b"0123456789"), 2, 8)
    held: Any = known.find("r", "")
    path.unlink()
    await known.unregister()
    assert open_on(path) == 1
    assert bytes(held.read(1, 3, "")) == b"345"
    del held
    assert open_on(path) == 0


def test_object_cut_short_between_look_and_read_is_an_error(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    region = Region.open("region 'r'", objects.make("a", bytes(8192)), 0, 8192, "")
    monkeypatch.setattr(Region, "check", lambda *_: None)
    os.truncate(objects.path("a"), 5000)
    with pytest.raises(InvalidRequest) as refused:
        region.read(0, 8192, "inputs.x")
    error = refused.value
    assert (error.code, error.given, error.where) == ("region_range", "5000 bytes", "inputs.x")


def places(name: str, size: int, at: int = 0) -> dict[str, Any]:
    return {
        "shared_memory_region": name, "shared_memory_byte_size": size, "shared_memory_offset": at,
    }  # fmt: skip


async def test_strings_are_read_out_of_regions_and_written_into_them(
    known: Registry, objects: Objects
) -> None:
    data = b"".join(struct.pack("<I", len(w)) + w for w in (b"abc", b"", "é".encode()))
    await known.register("in", objects.make("in", data), 0, len(data))
    await known.register("out", objects.make("out", bytes(40)), 8, 32)
    said = Sharing({"x": places("in", len(data))}, {"y": places("out", 20, 4)})
    shared = said.found(known)
    own = Tensor("z", FP32, (1,), np.ones(1, np.float32))
    for dtype in (BYTES, TEXT):
        request = shared.fill(InferRequest("m", (Tensor("x", dtype, (3,)), own)))
        assert request.inputs[0].items == [b"abc", b"", "é".encode()]
        assert request.inputs[1] is own
    before = objects.path("out").read_bytes()
    text = Tensor("y", FP32, (3,), np.ones(3, np.float32))
    assert shared.store([text], ["y"]) == {"y": places("out", 12, 4)}
    assert objects.path("out").read_bytes() == before, "what is stored is not written again"
    told = shared.store([Tensor("y", BYTES, (3,), items=[b"abc", b"", "é".encode()])])
    assert told == {"y": places("out", len(data), 4)}
    assert objects.path("out").read_bytes() == bytes(12) + data + bytes(28 - len(data))


async def test_tensor_without_elements_takes_no_bytes(known: Registry, objects: Objects) -> None:
    await known.register("r", objects.make("a", bytes(4)), 0, 4)
    shared = Sharing({"x": places("r", 0, 4)}, {"y": places("r", 0)}).found(known)
    (tensor,) = shared.fill(InferRequest("m", (Tensor("x", FP32, (0, 3)),))).inputs
    assert tensor.array is not None
    assert tensor.array.shape == (0, 3)
    assert shared.store([Tensor.of("y", tensor.array)])["y"]["shared_memory_byte_size"] == 0


async def test_what_is_read_is_held_against_type_and_shape(
    known: Registry, objects: Objects
) -> None:
    await known.register("in", objects.make("in", b"\2\0\xff\xff"), 0, 4)
    for dtype, shape, size, code in (
        (BOOL, (4,), 4, "bad_element"),
        (FP32, (2,), 4, "wrong_size"),
        (FP32, (2**40,), 4, "wrong_size"),
        (BYTES, (1,), 4, "bad_bytes_tensor"),
    ):
        shared = Sharing({"x": places("in", size)}, {}).found(known)
        with pytest.raises(InvalidRequest) as refused:
            shared.fill(InferRequest("m", (Tensor("x", dtype, shape),)))
        assert refused.value.code == code


def described(axis: int | None, **changed: Any) -> Description:
    spec = TensorSpec("x", FP32, ("n", 100, 100))
    batched = axis is not None
    axes = BatchAxes(batched, "", (axis,) if batched else (), (0,) if batched else ())
    found = Description("m", 1, Signature((spec,), (spec,)), axes, 8, "onnx")
    return replace(found, **changed)


async def asked(objects: Objects, tensor: Tensor, size: int, **changed: Any) -> Elsewhere | None:
    known = Registry(most_bytes=1 << 20, request_bytes=1 << 20)
    await known.register("in", objects.make("in", bytes(size + 10)), 6, size + 4)
    said = Sharing({"x": places("in", size, 4)}, {"x": places("in", size)})
    description = described(**{"axis": 0, **changed})
    return said.found(known).elsewhere(InferRequest("m", (tensor,)), description)


async def test_large_numbers_are_left_to_workers_which_are_told_their_place(
    objects: Objects,
) -> None:
    for axis in (0, None):  # of a model without batches every row is whole
        found = await asked(objects, Tensor("x", FP32, (1, 100, 100)), 40_000, axis=axis)
        assert found is not None
        source, target = found.sources["x"], found.targets["x"]
        assert (source.at, source.size, target.at, target.size) == (10, 40_000, 6, 40_000)
        assert os.fstat(source.fd).st_ino == objects.path("in").stat().st_ino


@pytest.mark.parametrize(
    ("tensor", "size", "changed"),
    [
        (Tensor("x", FP32, (1, 10, 100)), 4_000, {}),  # small
        (Tensor("x", FP32, (1, 100, 100)), 40_004, {}),  # another size than its shape's
        (Tensor("x", FP32, (9, 100, 100)), 360_000, {}),  # more rows than a batch
        (Tensor("x", BOOL, (4, 100, 100)), 40_000, {}),
        (Tensor("x", BYTES, (1, 100, 100)), 40_000, {}),
        (Tensor("x", FP32, (1, 100, 100)), 40_000, {"axis": 1}),
        (Tensor("x", FP32, (1, 100, 100)), 40_000, {"method": "predict"}),
    ],
)
async def test_what_is_not_copied_as_it_is_is_read_here(
    objects: Objects, tensor: Tensor, size: int, changed: dict[str, Any]
) -> None:
    assert await asked(objects, tensor, size, **changed) is None


async def test_place_is_checked_anew_at_each_use(known: Registry, objects: Objects) -> None:
    await known.register("in", objects.make("in", bytes(64)), 0, 64)
    shared = Sharing({"x": places("in", 64)}, {}).found(known)
    shared.check()
    os.truncate(objects.path("in"), 63)
    with pytest.raises(InvalidRequest, match="shorter than the range"):
        shared.check()


async def test_regions_tell_when_some_are_forgotten(known: Registry, objects: Objects) -> None:
    told: list[int] = []
    known.on_unregister.append(lambda: told.append(len(known.status())))
    await known.register("r", objects.make("a", bytes(4)), 0, 4)
    with pytest.raises(InvalidRequest):
        await known.register("r", "/a", 0, 4)
    known.find("r", "")
    await known.unregister("r")
    assert told == [0]


async def test_one_request_reads_so_much_and_no_more(known: Registry, objects: Objects) -> None:
    await known.register("in", objects.make("in", bytes(200)), 0, 200)
    assert Sharing({"a": places("in", 60), "b": places("in", 40)}, {}).found(known)
    with pytest.raises(TooLarge):
        Sharing({"a": places("in", 60), "b": places("in", 41)}, {}).found(known)
    assert Sharing({}, {"y": places("in", 200)}).found(known)


def test_sharing_is_of_parameters_about_shared_memory_only() -> None:
    assert sharing.of({"shared_memory_region": "r", "binary_data": True}) == {
        "shared_memory_region": "r"
    }
    assert sharing.given({}, {}) is None


def test_unknown_region_is_not_found(known: Registry) -> None:
    with pytest.raises(NotFound) as refused:
        Sharing({"x": places("r", 1)}, {}).found(known)
    assert refused.value.where == "inputs.x.parameters.shared_memory_region"


@pytest.mark.parametrize(
    ("address", "is_local"),
    [
        ("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False), ("0.0.0.0", False), ("::ffff:10.0.0.1", False),
        ("fe80::1%eth0", False), ("localhost", False), ("", False),
    ],
)  # fmt: skip
def test_client_is_local_by_its_address(address: str, is_local: bool) -> None:
    assert gate.local_http((address, 5), {}) is is_local
    family = f"ipv6:[{address}]" if ":" in address else f"ipv4:{address}"
    assert gate.local_grpc(f"{family}:5", ()) is is_local


def test_client_is_local_on_a_unix_socket_and_not_without_a_name() -> None:
    assert gate.local_grpc("unix:", None)
    assert gate.local_grpc("ipv6:%5B::1%5D:40000", None)
    assert not gate.local_grpc("", None)
    assert not gate.local_grpc("vsock:3:5", None)
    assert not gate.local_http(None, {})


@pytest.mark.parametrize("field", [b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via"])
def test_client_behind_a_proxy_is_not_local(field: bytes) -> None:
    assert not gate.local_http(("127.0.0.1", 5), {field: b""})
    assert not gate.local_grpc("ipv4:127.0.0.1:5", ((field.decode(), "127.0.0.1"),))


def test_gate_opens_for_local_clients_only(known: Registry) -> None:
    assert gate.opened(known, True, "") is known
    with pytest.raises(Unauthenticated):
        gate.opened(known, False, "")
