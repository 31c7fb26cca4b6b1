"""Every message survives the wire; nothing unknown does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.channel import messages as m

u16 = st.integers(0, 2**16 - 1)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
i63 = st.integers(0, 2**63 - 1)
text = st.text(max_size=50)
tree = st.dictionaries(text, text | st.integers() | st.lists(text), max_size=3)
written = st.builds(m.Written, st.integers(1, 14), st.lists(i63, max_size=6).map(tuple), u64, u64)
done = st.builds(m.Done, u64, u64, u64, u64, st.none(), st.just(0)) | st.builds(
    m.Done, u64, u64, u64, u64, st.lists(written, max_size=4).map(tuple), u32
)
copies = st.lists(st.builds(m.Copy, u16, u16, u64, u64, u64), max_size=3).map(tuple)
afar = st.builds(m.Afar, u32, copies, copies)
every = st.one_of(
    st.builds(m.Load, u32, text, text, text, tree, st.booleans(), u32, u32, st.booleans()),
    st.builds(m.Unload, u32), st.builds(m.Cancel, u64), st.builds(m.Ping, u64),
    st.builds(m.Stop), st.builds(m.Hello, u32, u32, st.dictionaries(text, text)),
    st.builds(m.Progress, u32, text),
    st.builds(m.Loaded, u32, tree, tree, st.floats(0, 1e9), st.floats(0, 1e9), text),
    st.builds(m.LoadFailed, u32, text, text), st.builds(m.Unloaded, u32),
    st.builds(m.Pong, u64), st.builds(m.Lend, u32, u64, st.booleans()), st.builds(m.Forget, u32),
    st.builds(m.ForgetFiles),
    st.builds(m.Define, tree, st.lists(u32).map(tuple)), st.builds(m.Grant, u64, u32),
    st.builds(m.Deny, u64, text, text),
    st.builds(m.Run, u64, u32, u32, u32, u32, u32, u32, text, st.none() | afar),
    st.builds(m.Registered, text), st.builds(m.StageRun, u64, u32, u32, text, text),
    st.builds(m.StageDone, u64, u32, u64, u64), st.builds(m.Call, u64, text, u32, u32),
    st.builds(m.CallDone, u64, u32), st.builds(m.CallFailed, u64, text, text),
    done, st.builds(m.Failed, u64, text, text), st.builds(m.More, u64, u64),
)  # fmt: skip


@given(every)
def test_message_survives_the_wire(message: m.Message) -> None:
    assert m.decode(m.encode(message)) == message


def test_message_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown message kind 99"):
        m.decode(b"\x63{}")


def test_message_that_does_not_fit_a_datagram_is_refused() -> None:
    with pytest.raises(ValueError, match="Define"):
        m.encode(m.Define({"x": "y" * m.MAX_DATAGRAM}))


def test_run_that_is_shorter_than_its_copies_is_no_message() -> None:
    run = m.Run(1, 2, 3, 4, 5, 6, 7, "", m.Afar(7, (m.Copy(0, 0, 1, 2, 3),), ()))
    with pytest.raises(ValueError, match="no message|shorter"):
        m.decode(m.encode(run)[:-1])
