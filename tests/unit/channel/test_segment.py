"""Shared memory: sealed, nameless, and writable only for whom it should be."""

import os

import numpy as np
import pytest

from serving.channel.segment import Segment
from tests.shared_objects import names_of_servers


def test_segment_for_inputs_cannot_be_mapped_writable_elsewhere() -> None:
    before = names_of_servers()
    segment = Segment.create(1, 4096, writable_elsewhere=False)
    try:
        with pytest.raises(PermissionError):
            Segment.attach(1, 4096, os.dup(segment.fd), writable=True)
        reader = Segment.attach(1, 4096, os.dup(segment.fd), writable=False)
        segment.bytes[7] = 42
        assert reader.bytes[7] == 42
        with pytest.raises(ValueError, match="read-only"):
            reader.bytes[7] = 1
        with pytest.raises(PermissionError):
            os.ftruncate(segment.fd, 0)
        assert names_of_servers() == before
        reader.close()
    finally:
        segment.close()


def test_segment_for_outputs_is_written_by_the_other_side() -> None:
    segment = Segment.create(1, 4096, writable_elsewhere=True)
    writer = Segment.attach(1, 4096, os.dup(segment.fd), writable=True)
    writer.bytes[:4] = np.arange(4)
    assert segment.bytes[:4].tolist() == [0, 1, 2, 3]
    writer.close()
    segment.close()
