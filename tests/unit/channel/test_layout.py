"""Where rows lie, and that moving them moves nothing else."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.channel import strings
from serving.channel.arena import Arena
from serving.channel.batch_buffer import BatchBuffer
from serving.channel.layout import FieldShape, Layout, place
from serving.tensor import DTYPES, INT64, Tensor

shapes = st.builds(
    FieldShape,
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 5), max_size=3).map(tuple),
    st.sampled_from([None, 0]),
)


@given(
    st.lists(shapes, max_size=5),
    st.none() | st.lists(shapes, max_size=5),
    st.integers(1, 9),
    st.integers(0, 500),
)
def test_layout_survives_json_and_nothing_overlaps(
    inputs: list[FieldShape], outputs: list[FieldShape] | None, rows: int, heap: int
) -> None:
    layout = place(3, rows, inputs, outputs, heap)
    assert Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout
    for fields, end in ((layout.inputs, layout.heap_offset), (layout.outputs, layout.output_bytes)):
        at = 0
        for field in fields or ():
            assert field.offset >= at
            assert field.offset % 64 == 0
            at = field.offset + field.row_bytes * (1 if field.axis is None else rows)
        assert at <= end
    assert layout.input_bytes - layout.heap_offset == heap


def test_strings_are_read_as_written_and_never_outside() -> None:
    memory, items = np.zeros(256, np.uint8), [b"", b"\xff\0", b"abc" * 9]
    assert strings.write(memory, 16, 100, items) == 129
    assert strings.read(memory, 16, 3) == items
    memory[16 + 16 + 8] = 200
    with pytest.raises(ValueError, match="outside"):
        strings.read(memory, 16, 3)


@pytest.mark.parametrize("axis", [0, 1])
def test_batch_buffer_closes_gaps_repeats_rows_and_gives_back(axis: int) -> None:
    arena = Arena(1 << 20)
    freed: list[BatchBuffer] = []
    buffer = BatchBuffer(place(1, 4, [FieldShape(INT64, (2,), axis)], None), arena, freed.append)
    for n in (1, 2, 3):
        array = np.full((1, 2) if axis == 0 else (2, 1), n)
        buffer.write(buffer.claim(1), 1, [Tensor.of("x", array)])
    buffer.close_gap(1, 1)
    assert buffer.filled == 2
    buffer.repeat(1, 2, 2)
    assert buffer.input.bytes[:64].view("<i8").tolist() == [1, 1, 3, 3, 3, 3, 3, 3]
    assert buffer.fits(2, 0)
    assert not buffer.fits(3, 0)
    buffer.hold()
    buffer.release()
    assert freed == [buffer]
    assert arena.used_bytes == 0
    arena.close()
