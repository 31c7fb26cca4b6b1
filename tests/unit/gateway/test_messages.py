"""Every message between master and front end survives the stream; nothing unknown does."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.gateway import frames
from serving.gateway import messages as m

u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
text = st.text(max_size=30)
data = st.binary(max_size=60)
tree = st.dictionaries(text, text | st.integers() | st.none() | st.lists(text), max_size=3)
places = st.lists(st.builds(m.Place, u32, u64, u64), max_size=4).map(tuple)
deadline = st.none() | st.floats(allow_nan=False)
every = st.one_of(
    st.builds(
        m.Claim, u64, u64, deadline, st.integers(-5, 2**31 - 1), data, text, places, data, data
    ),
    st.builds(m.Answer, u64, st.booleans(), data, places, data),
    st.builds(m.Abandon, u64), st.builds(m.Release, u64), st.builds(m.Gone, u64),
    st.builds(m.Hello, u32), st.builds(m.Opened, text), st.builds(m.Want, u64),
    st.builds(m.Back, u32), st.builds(m.Counted, text, text), st.builds(m.Ask, u64, text, tree),
    st.builds(m.Pong, u64), st.builds(m.Drained), st.builds(m.Begin, tree, st.none() | text),
    st.builds(m.Failed, u64, tree, st.booleans()), st.builds(m.Lend, u32, u64, st.booleans()),
    st.builds(m.Deny, tree), st.builds(m.Forget, u32),
    st.builds(m.Table, u64, st.dictionaries(text, st.none() | tree, max_size=3)),
    st.builds(m.Ready, st.booleans()), st.builds(m.Told, u64, tree),
    st.builds(m.Refused, u64, tree), st.builds(m.Ping, u64), st.builds(m.Drain, st.floats(0, 1e9)),
    st.builds(m.Stop),
    st.builds(m.Gather, u64, u64, u32, data, st.builds(m.Place, u32, u64, u64), data),
    st.builds(m.RowsAnswer, u64, u32, u32, data, places, data), st.builds(m.AbandonRow, u64, u32),
    st.builds(m.RowsFailed, u64, u32, u32, tree),
    st.builds(m.Share, u64, text, text, u64, u64), st.builds(m.Unshare, u64),
    st.builds(m.Unused, u64),
)  # fmt: skip


def back(message: m.Message) -> m.Message:
    frame = frames.encode(message)
    length, kind = frames.HEAD.unpack_from(frame)
    assert frames.HEAD.size + length == len(frame)
    return frames.decode(kind, frame[frames.HEAD.size :])


@given(every)
def test_message_survives_the_stream(message: m.Message) -> None:
    assert back(message) == message


def test_lone_surrogate_in_an_id_survives_the_stream() -> None:
    claim = m.Claim(1, 2, None, 0, b"{}", "\ud800", ())
    assert back(claim) == claim


@given(st.integers(0, 255), st.binary(max_size=80))
def test_bytes_are_a_message_or_a_value_error(kind: int, body: bytes) -> None:
    with contextlib.suppress(ValueError):
        frames.decode(kind, body)


@given(every, st.data())
def test_message_cut_short_is_no_other_message_of_its_kind(
    message: m.Message, draw: st.DataObject
) -> None:
    frame = frames.encode(message)
    _, kind = frames.HEAD.unpack_from(frame)
    body = frame[frames.HEAD.size :]
    cut = draw.draw(st.integers(0, max(0, len(body) - 1)))
    try:
        found = frames.decode(kind, body[:cut])
    except ValueError:
        return
    assert found != message or not body


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="kind 99"):
        frames.decode(99, b"{}")
