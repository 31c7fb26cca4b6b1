"""A message like one before is read as protobuf would read it; all others are left to protobuf."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from serving import protobuf
from serving.errors import NotFound, ServingError
from serving.frontends.grpc import ms_codec, ms_frame
from serving.frontends.grpc.ms_frame import Frame, Frames
from serving.frontends.grpc.ms_reply import Reply
from serving.frontends.grpc.stubs import ms_service_pb2 as pb
from serving.frontends.mindspore.instances import Common
from serving.frontends.mindspore.target import Target
from serving.request import Description, InferRequest
from serving.tensor import BF16, BOOL, BYTES, FP32, INT64, BatchAxes, DType, Signature, TensorSpec
from tests.doubles.methods import ADD, ECHO

TARGET = Target("kinds", "add", 0)
COMMON = Common("call", 7.5)


def message(
    *values: float, kind: int = pb.MS_FLOAT32, dtype: str = "<f4", spare: str = "", name: str = "x2"
) -> pb.PredictRequest:
    """Return a message of an instance for each value: ``x1`` and ``x2`` of two elements."""
    made = pb.PredictRequest(servable_spec=pb.ServableSpec(name="kinds", method_name="add"))
    for value in values:
        items = made.instances.add().items
        for index, item in enumerate(("x1", name, *([spare] if spare else []))):
            items[item].shape.dims.append(2)
            items[item].dtype = kind  # type: ignore[assignment]
            items[item].data = np.array([value, value + index], dtype).tobytes()
    return made


def data(*values: float, **more: Any) -> bytes:
    return message(*values, **more).SerializeToString(deterministic=True)


def decode(given: bytes, description: Description = ADD) -> tuple[InferRequest | ServingError, ...]:
    return ms_codec.decode(ms_codec.parse(given), TARGET, description, COMMON)


def learn(frames: Frames, given: bytes, description: Description = ADD) -> None:
    spec = ms_codec.spec(ms_codec.parse(given))
    frames.learn(given, Reply(spec, TARGET, description), decode(given, description))


def known(*messages: bytes, description: Description = ADD) -> Frames:
    frames = Frames()
    for given in messages:
        learn(frames, given, description)
    return frames


def find(frames: Frames, given: bytes, description: Description = ADD) -> Frame | None:
    frame = frames.find(given)
    return frame if frame is not None and frame.holds(lambda *_: description) else None


def same(found: Any, wanted: Any) -> bool:
    """Return whether requests are the same; their tensors compare by what they hold."""

    def told(request: InferRequest) -> tuple[object, ...]:
        tensors = [(t.name, t.dtype, t.shape, np.asarray(t.array).tolist()) for t in request.inputs]
        return (*request._replace(inputs=()), tensors)

    return [told(request) for request in found] == [told(request) for request in wanted]


@pytest.mark.parametrize("values", [(1.5,), (1.5, -2.0, 3.0)], ids=["one", "three"])
def test_frame_reads_other_numbers_as_protobuf_does(values: tuple[float, ...]) -> None:
    frames = known(data(*values), data(*[value + 1 for value in values]))
    given = data(*[value * 7 for value in values])
    frame = find(frames, given)
    assert frame is not None
    assert frame.reply.target == TARGET
    assert frame.reply.spec == ms_codec.spec(message())
    assert same(frame.requests(given, COMMON), decode(given))


def test_frame_fits_whatever_the_elements_and_no_other_byte_may_differ() -> None:
    given = data(1.5, 2.5)
    frames = known(given, given)
    elements = set()
    for array in (tensor.array for request in decode(given) for tensor in request.inputs):  # type: ignore[union-attr]
        assert array is not None
        start = given.find(array.tobytes())
        elements |= set(range(start, start + array.nbytes))
    assert len(elements) == 32
    for place in range(len(given)):
        changed = bytearray(given)
        changed[place] ^= 0x15
        frame = find(frames, bytes(changed))
        assert (frame is not None) == (place in elements)
        if frame is not None:
            assert same(frame.requests(bytes(changed), COMMON), decode(bytes(changed)))


def test_first_message_of_its_length_is_not_kept() -> None:
    assert find(known(data(1.5)), data(1.5)) is None


def test_frame_holds_for_one_description_and_another_takes_its_place() -> None:
    given = data(1.5)
    frames = known(given, given)
    other = replace(ADD, generation=8)
    assert find(frames, given, other) is None
    learn(frames, given, other)
    frame = find(frames, given, other)
    assert frame is not None
    assert [request.generation for request in frame.requests(given, COMMON)] == [8]
    assert find(frames, given) is None

    def gone(*_: object) -> Description:
        raise NotFound("it was taken down")

    frame = frames.find(given)
    assert frame is not None
    assert not frame.holds(gone)


def described(dtype: DType, *, method: str = "") -> Description:
    specs = tuple(TensorSpec(name, dtype, ("n", 2)) for name in ("x1", "x2"))
    axes = BatchAxes(True, "test", (0, 0), (0, 0))
    return Description("kinds", 1, Signature(specs, specs), axes, 8, "", method=method)


@pytest.mark.parametrize("description", [described(INT64), ECHO], ids=["model", "method"])
def test_frame_of_whatever_takes_the_message_as_it_is(description: Description) -> None:
    if description is ECHO:
        specs = tuple(TensorSpec(f"x{i}", ECHO.signature.inputs[0].dtype, None) for i in (1, 2))
        description = replace(ECHO, signature=Signature(specs, ECHO.signature.outputs))
    given, again = (data(v, kind=pb.MS_INT64, dtype="<i8", spare="z") for v in (3, 4))
    again = again[:-16] + given[-16:]  # what the model does not take must stay as it was
    frames = known(given, given, description=description)
    frame = find(frames, again, description)
    assert frame is not None
    assert same(frame.requests(again, COMMON), decode(again, description))
    assert find(frames, given[:-1] + b"\1", description) is None


def buffers() -> bytes:
    made = message(1.5)
    made.instances[0].output_buffers["y"].memory_key = "k"
    return made.SerializeToString(deterministic=True)


def twice(what: str) -> bytes:
    """Return a message that says a thing twice; protobuf knows what then counts."""
    item = message(1.5).instances[0].items["x1"]
    instance = b"".join(
        protobuf.prefix(1, len(entry)) + entry
        for entry in (
            _entry("x1", item.SerializeToString() + (_data(9.0) if what == "data" else b"")),
            _entry("x2", item.SerializeToString()),
            *([_entry("x2", item.SerializeToString())] if what == "item" else []),
        )
    )
    spec = ms_codec.spec(message())
    return spec + protobuf.prefix(2, len(instance)) + instance


def _entry(name: str, tensor: bytes) -> bytes:
    key = name.encode()
    value = protobuf.prefix(2, len(tensor)) + tensor
    return protobuf.prefix(1, len(key)) + key + value


def _data(value: float) -> bytes:
    return protobuf.prefix(3, 8) + np.full(2, value, "<f4").tobytes()


@pytest.mark.parametrize(
    ("given", "description"),
    [
        (buffers(), ADD),
        (twice("data"), ADD),
        (twice("item"), ADD),
        (data(1, kind=pb.MS_BOOL, dtype="?"), described(BOOL)),
        (data(1.5), described(BF16)),  # FP32 there, BF16 here
        (data(1.5), described(INT64)),  # of another type: an error for that instance
        (data(*([1.5] * 33)), ADD),
        (data(1.5, spare="x" * 5000), ADD),
    ],
    ids=["buffers", "data twice", "item twice", "bool", "bf16", "failed", "many", "long"],
)
def test_message_of_anything_else_has_no_frame(given: bytes, description: Description) -> None:
    if given == buffers():
        taken = decode(data(1.5))
        frames = Frames()
        for _ in range(2):
            frames.learn(given, Reply(b"", TARGET, description), taken)
    else:
        frames = known(given, given, description=description)
    assert find(frames, given, description) is None


def test_string_has_no_frame() -> None:
    made = pb.PredictRequest(servable_spec=pb.ServableSpec(name="kinds", method_name="add"))
    for name in ("x1", "x2"):
        item = made.instances.add().items[name] if name == "x1" else made.instances[0].items[name]
        item.dtype = pb.MS_STRING
        item.bytes_val.append(b"text")
    specs = tuple(TensorSpec(name, BYTES, ("n",)) for name in ("x1", "x2"))
    axes = BatchAxes(True, "test", (0, 0), (0, 0))
    description = Description("kinds", 1, Signature(specs, specs), axes, 8, "")
    given = made.SerializeToString()
    assert find(known(given, given, description=description), given, description) is None


def test_spellings_of_one_length_and_lengths_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    spellings = [data(1.5, spare=f"z{letter}") for letter in "abcdefghijkl"]
    frames = known(*spellings, *spellings)
    kept = [given for given in spellings if find(frames, given) is not None]
    assert kept == spellings[-ms_frame._MOST_ALIKE :]
    monkeypatch.setattr(ms_frame, "_MOST_LENGTHS", 1)
    learn(frames, data(1.5))
    assert find(frames, spellings[-1]) is None


@pytest.mark.parametrize("field", [b"\x0a\x05ab", b"\x0b", b"\x08", b"\x0d\x01", b"\x09\x01"])
def test_spans_stop_at_what_is_cut_short_or_unknown(field: bytes) -> None:
    good = b"\x08\x96\x01\x12\x02ab\x1d\x01\x02\x03\x04\x21\x01\x02\x03\x04\x05\x06\x07\x08"
    found = [(8, 1, 3), (18, 5, 7), (29, 8, 12), (33, 13, 21)]
    assert list(protobuf.spans(good, 0, len(good))) == found
    with pytest.raises(protobuf.Malformed):
        list(protobuf.spans(good + field, 0, len(good + field)))


def test_elements_of_a_frame_lie_as_numbers_should() -> None:
    given = data(1.5)
    frame = find(known(given, given), given)
    assert frame is not None
    for tensor in frame.requests(given, COMMON)[0].inputs:
        assert tensor.array is not None
        assert tensor.dtype is FP32
        assert tensor.array.flags.aligned
