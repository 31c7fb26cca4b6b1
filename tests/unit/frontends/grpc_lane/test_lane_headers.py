"""Header blocks of the lane: reading them by memory, what calls they are, and writing answers."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import hpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serving.frontends.grpc.lane import answers, metadata, request_head
from serving.frontends.grpc.lane.faults import Code, ConnectionFault
from serving.frontends.grpc.lane.header_reader import MAX_LIST_BYTES, HeaderReader
from serving.frontends.grpc.lane.metadata import BadMetadata
from serving.frontends.grpc.lane.request_head import Malformed, WrongCall, WrongHttp
from serving.frontends.grpc.status_code import StatusCode

from . import raw

NAMES = st.sampled_from(["x-a", "x-b", "x-request-id", "x-long-name-that-takes-room"])
VALUES = st.one_of(st.sampled_from(["1", "2", "v" * 900]), st.text("abc", max_size=3))
HEADS = st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=6)
STEPS = st.lists(
    st.tuples(HEADS, st.sampled_from([None, None, None, 0, 100, 4096])), min_size=1, max_size=20
)


def encoded(fields: list[tuple[str, str]]) -> bytes:
    return bytes(hpack.Encoder().encode(fields))


def head(*more: tuple[str, str], **changed: str | None) -> request_head.Head:
    return HeaderReader().request(encoded(raw.fields(raw.LIVE, *more, **changed)))


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_reader_with_its_memory_says_what_a_fresh_decoder_says(steps: list[Any]) -> None:
    """Blocks repeat, and change the table between: the same bytes must not mean the old thing."""
    encoder, reader, reference = hpack.Encoder(), HeaderReader(), hpack.Decoder()
    for more, resize in steps:
        if resize is not None:
            encoder.header_table_size = resize
        fields = [(n, v) for n, v in raw.fields()] + [
            hpack.NeverIndexedHeaderTuple(n, v) if secret else (n, v) for n, v, secret in more
        ]
        for _ in range(3):
            block = encoder.encode(fields)
            expected = request_head.parse(list(reference.decode(block, raw=True)))
            assert reader.request(block) == expected


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_reader_remembers_nothing_across_trailers_that_change_the_table(steps: list[Any]) -> None:
    encoder, reader, reference = hpack.Encoder(), HeaderReader(), hpack.Decoder()
    for more, _ in steps:
        trailers = encoder.encode([(name, value) for name, value, _ in more])
        assert list(reader.fields(trailers)) == list(reference.decode(trailers, raw=True))
        block = encoder.encode(raw.fields())
        expected = request_head.parse(list(reference.decode(block, raw=True)))
        assert reader.request(block) == expected


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["x-a", "traceparent", "grpc-timeout", "grpc-encoding", "te", "content-length", "X",
                 "content-type", "x-bin", ":path", ":late", "connection", "host", "x y"]
            ),
            st.sampled_from(["1S", "gzip", "trailers", "5", "AAE", "!", " a", "v" * 9000, "ok"]),
        ),
        max_size=3,
    )
)  # fmt: skip
def test_a_call_with_more_behind_known_fields_is_what_it_is_as_a_whole(more: Any) -> None:
    """Fields that stand in the table come first, and then literals, as clients send them."""

    def outcome(read: Callable[[], request_head.Head]) -> Any:
        try:
            return read()
        except Malformed:
            return Malformed

    encoder, reader, reference = hpack.Encoder(), HeaderReader(), hpack.Decoder()
    first = encoder.encode(raw.fields())
    reader.request(first)
    reference.decode(first)
    block = encoder.encode([*raw.fields(), *(hpack.NeverIndexedHeaderTuple(*m) for m in more)])
    fields = list(reference.decode(block, raw=True))
    for _ in range(2):
        assert outcome(lambda: reader.request(block)) == outcome(lambda: request_head.parse(fields))


def test_a_table_resized_behind_known_fields_is_a_fault() -> None:
    reader = HeaderReader()
    block = encoded(raw.fields())
    reader.request(block)
    again = b"\xc1\xc0\xbf\xbe\x83\x86"
    with pytest.raises(ConnectionFault):
        reader.request(again + b"\x20")


def test_reader_takes_the_same_block_from_memory() -> None:
    encoder, reader = hpack.Encoder(), HeaderReader()
    first = reader.request(encoder.encode(raw.fields()))
    block = encoder.encode(raw.fields())
    second = reader.request(block)
    assert second == first
    assert reader.request(block) is second
    reader.fields(encoder.encode([("x-new", "entry")]))
    assert reader.request(encoder.encode(raw.fields())) is not second


def test_reader_with_entries_evicted_reads_anew() -> None:
    """One index, two meanings: after a long entry came in, the old one has another."""
    reader = HeaderReader()
    usual = [(n.encode(), v.encode()) for n, v in raw.fields()]
    block = b"".join(_plain(name, value) for name, value in usual)
    first = b"\x40\x03x-a\x011"
    second = b"\x40\x03x-a\x012"
    indexed = block + b"\xbe"
    reader.fields(first)
    assert reader.request(indexed).metadata == (("x-a", "1"),)
    assert reader.request(indexed).metadata == (("x-a", "1"),)
    reader.fields(second)
    assert reader.request(indexed).metadata == (("x-a", "2"),)
    reader.fields(b"\x20")  # the table is emptied
    with pytest.raises(ConnectionFault):
        reader.request(indexed)


def _plain(name: bytes, value: bytes) -> bytes:
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def test_reader_with_entries_evicted_reads_beginnings_anew() -> None:
    reader = HeaderReader()
    usual = [(n.encode(), v.encode()) for n, v in raw.fields()]
    reader.fields(b"".join(b"\x40" + _plain(name, value)[1:] for name, value in usual))
    references = bytes([0xC3 - index for index in range(len(usual))])
    reader.fields(b"\x40\x03x-a\x011")
    block = bytes(byte + 1 for byte in references) + b"\xbe"
    for value in (b"1", b"2"):
        for more in (b"t", b"u"):
            found = reader.request(block + _plain(b"trace", more))
            assert found.metadata == (("x-a", value.decode()), ("trace", more.decode()))
        if value == b"1":
            for name, text in (*usual, (b"x-a", b"2")):
                reader.fields(b"\x40" + _plain(name, text)[1:])


def test_reader_is_not_made_to_unpack_more_than_its_limit() -> None:
    reader = HeaderReader()
    value = b"v" * 4000
    reader.fields(
        b"\x40\x01x" + b"\x7f" + bytes([4000 - 127 & 0x7F | 0x80, 4000 - 127 >> 7]) + value
    )
    with pytest.raises(ConnectionFault) as fault:
        reader.fields(b"\xbe" * (MAX_LIST_BYTES // 4000 + 1))
    assert fault.value.code is Code.ENHANCE_YOUR_CALM


def test_head_of_a_call_says_what_grpc_wants_to_know() -> None:
    found = head(("grpc-timeout", "1500m"), ("grpc-encoding", "gzip"), ("x-id", "r-1"))
    assert (found.path, found.timeout_s, found.encoding) == (raw.LIVE, 1.5, b"gzip")
    assert found.metadata == (("x-id", "r-1"),)
    assert found.refusal is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0n", 0), ("99999999n", 0.099999999), ("5u", 5e-6), ("7m", 0.007), ("3S", 3), ("2M", 120),
     ("1H", 3600), ("99999999H", 99999999 * 3600)],
)  # fmt: skip
def test_timeouts_are_read(text: str, seconds: float) -> None:
    assert metadata.timeout_s(text.encode()) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "S", "1", "1s", "-1S", "123456789S", "1.5S", "1S ", "٣S"])
def test_timeouts_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(BadMetadata):
        metadata.timeout_s(text.encode())


@pytest.mark.parametrize(
    ("kind", "taken"),
    [("application/grpc", True), ("application/grpc+proto", True), ("Application/GRPC", True),
     ("application/grpc; charset=x", True), ("application/grpc-web", False),
     ("application/json", False), ("application/grpcx", False), (None, False)],
)  # fmt: skip
def test_content_types_of_grpc_are_taken(kind: str | None, taken: bool) -> None:
    assert head(content_type=kind).refusal == (None if taken else WrongHttp(415))


def test_only_post_is_a_call() -> None:
    assert head(method="PUT").refusal == WrongHttp(405)


def test_metadata_over_the_limit_is_refused_as_a_call_and_not_as_a_connection() -> None:
    refusal = head(("x", "v" * 17_000)).refusal
    assert isinstance(refusal, WrongCall)
    assert refusal.code is StatusCode.RESOURCE_EXHAUSTED
    assert head(("x", "v" * 15_000)).refusal is None


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=3), st.booleans())
def test_binary_metadata_comes_back(given_values: list[bytes], padded: bool) -> None:
    texts = [base64.b64encode(value) for value in given_values]
    joined = b",".join([text if padded else text.rstrip(b"=") for text in texts])
    assert metadata.values("x-bin", joined) == given_values
    for value in given_values:
        name, text = metadata.field("x-bin", value)
        assert metadata.values("x-bin", text) == [value]
        assert name == b"x-bin"


def test_metadata_behind_known_fields_counts_together_with_them() -> None:
    encoder, reader = hpack.Encoder(), HeaderReader()
    reader.request(encoder.encode(raw.fields()))
    for size, refused in ((15_000, False), (16_200, True)):
        more = hpack.NeverIndexedHeaderTuple("x", "v" * size)
        found = reader.request(encoder.encode([*raw.fields(), more]))
        assert (found.refusal is not None) is refused


def test_binary_metadata_that_is_none_refuses_the_call() -> None:
    refusal = head(("x-bin", "!")).refusal
    assert refusal == WrongCall(
        StatusCode.INTERNAL, "Error parsing 'x-bin' metadata: illegal base64 encoding"
    )


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
@example("50 % off: é ✓ \n\x7f ~")
def test_messages_are_percent_encoded_as_grpc_reads_them(text: str) -> None:
    encoded_text = metadata.percent_encoded(text)
    assert all(0x20 <= byte <= 0x7E for byte in encoded_text)
    plain = bytearray()
    at = 0
    while at < len(encoded_text):
        if encoded_text[at : at + 1] == b"%":
            plain.append(int(encoded_text[at + 1 : at + 3], 16))
            at += 3
        else:
            plain.append(encoded_text[at])
            at += 1
    assert plain.decode() == text


@given(
    st.sampled_from(list(StatusCode)),
    st.text("ab %é", max_size=300),
    st.lists(st.tuples(st.just("x-more"), st.text("abc", max_size=200)), max_size=3),
)
def test_answers_are_read_by_another_decoder_whatever_its_table(
    code: StatusCode, details: str, more: list[tuple[str, str]]
) -> None:
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 0  # it has told us so, and waits for us to follow
    first = decoder.decode(answers.NO_TABLE + answers.BEGIN)
    assert first == [(":status", "200"), ("content-type", "application/grpc")]
    found = decoder.decode(answers.trailers(code, details, more))
    expected = [("grpc-status", str(int(code)))]
    if details:
        expected.append(("grpc-message", metadata.percent_encoded(details).decode()))
    assert found == expected + more
    assert decoder.header_table.dynamic_entries == type(decoder.header_table.dynamic_entries)()
    assert decoder.decode(answers.http_status(415)) == [(":status", "415")]


@pytest.mark.parametrize("path", ["*", "/" + "x" * 3000, "/%00", "//"])
def test_any_path_can_be_asked_for(path: str) -> None:
    assert HeaderReader().request(encoded(raw.fields(path))).path == path


def test_malformed_heads_leave_the_reader_in_step() -> None:
    encoder, reader = hpack.Encoder(), HeaderReader()
    with pytest.raises(Malformed):
        reader.request(encoder.encode([*raw.fields(), ("x-new", "kept"), ("Bad", "x")]))
    again = reader.request(encoder.encode([*raw.fields(), ("x-new", "kept")]))
    assert again.metadata == (("x-new", "kept"),)


@pytest.mark.parametrize("count", [3, 1000])
def test_what_is_kept_of_blocks_is_short(count: int) -> None:
    """A byte may stand for a field, and a thousand of them would be kept 64 times."""
    encoder, reader = hpack.Encoder(), HeaderReader()
    reader.request(encoder.encode(raw.fields()))
    block = encoder.encode(raw.fields()) + b"\x90" * count  # 16: accept-encoding, with a value
    head = reader.request(block)
    assert len(head.metadata) == count
    assert bool(reader._known) is (count == 3)
    assert all(len(known) <= 64 for known in reader._beginnings)
