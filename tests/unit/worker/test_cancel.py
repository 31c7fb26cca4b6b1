"""A cancel comes on another link than the run that it means: before it, during it or after it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from serving.channel.arena import Arena
from serving.channel.batch_buffer import BatchBuffer
from serving.channel.layout import FieldShape, place
from serving.channel.link import BlockingLink, pair
from serving.channel.messages import (
    Define,
    Done,
    Failed,
    Lend,
    Load,
    Message,
    Run,
    decode,
    encode,
)
from serving.channel.segment import Segment
from serving.tensor import FP32, BatchAxes, Signature, Tensor, TensorSpec
from serving.worker.host import Host
from serving.worker.loop import Slot
from serving.worker.memory import Mappings
from tests.server import until

_SPECS = (TensorSpec("x", FP32, ("n",)),)
_FIELDS = (FieldShape(FP32, (), 0),)
_SLEEPS, _QUICK = 1.0, 2.0


class Desk:
    """A slot with a stub on its own thread, and the master's end of its link."""

    def __init__(self, folder: Path, *, known: bool) -> None:
        self._tally = folder / "tally"
        do = {"sleep_ms": 60_000, "sleep_on": _SLEEPS, "add": 1, "tally": str(self._tally)}
        path = folder / "stub.json"
        signature, axes = Signature(_SPECS, _SPECS), BatchAxes(True, "asserted", (0,), (0,))
        path.write_text(json.dumps({**signature.to_json(), "do": do}))
        host = Host()
        host.load(
            Load(1, "m", str(path), "stub", axes.to_json(), True, 4, 1, False), lambda _: None
        )
        self._tally.unlink()  # what warming ran
        self._ours, self._theirs = pair()
        self._ours.settimeout(20)
        self.slot = Slot(BlockingLink(self._theirs), host, Mappings())
        self._arena = Arena(1 << 24)
        layout = place(1, 4, _FIELDS, _FIELDS if known else None, 0)
        self._buffer = BatchBuffer(layout, self._arena, lambda _: None)
        self._scratch = self._arena.take(4096, writable_elsewhere=True)
        self._thread = threading.Thread(target=self.slot.run)
        self._thread.start()
        for segment in (self._buffer.input, self._buffer.output, self._scratch):
            if segment is not None:
                self._lend(segment)
        self._say(Define(layout.to_json()))

    @property
    def told(self) -> list[str]:
        return self._tally.read_text().splitlines() if self._tally.exists() else []

    def send(self, number: int, value: float) -> None:
        """Send a run of one row, always the same row."""
        x = np.array([value], np.float32)
        self._buffer.write(0, 1, [Tensor("x", FP32, x.shape, x)])
        output = self._buffer.output or self._scratch
        self._say(Run(number, 1, 1, self._buffer.input.id, output.id, 0, 1))

    def answer(self) -> Message:
        return decode(self._ours.recv(1 << 16))

    def close(self) -> None:
        self._ours.close()
        self._thread.join(20)
        assert not self._thread.is_alive()
        self._theirs.close()
        self._arena.close()

    def _say(self, message: Message) -> None:
        self._ours.send(encode(message))

    def _lend(self, segment: Segment) -> None:
        lend = Lend(segment.id, segment.size, segment.writable_elsewhere)
        socket.send_fds(self._ours, [encode(lend)], [segment.fd])


@pytest.fixture(params=["outputs known", "outputs not known"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    opened = Desk(tmp_path, known=request.param == "outputs known")
    yield opened
    opened.close()


def test_cancel_that_comes_before_its_run_keeps_it_from_the_engine(desk: Desk) -> None:
    desk.slot.cancel(1)
    desk.send(1, _SLEEPS)
    assert desk.answer() == Failed(1, "cancelled", "nobody waits for this run")
    assert desk.told == []
    desk.send(2, _QUICK)
    assert isinstance(desk.answer(), Done)


def test_cancel_ends_its_run_and_it_is_not_tried_again(desk: Desk) -> None:
    desk.send(1, _SLEEPS)
    until(lambda: desk.told == ["began 1"], 20, "the run")
    desk.slot.cancel(1)
    answer = desk.answer()
    assert isinstance(answer, Failed)
    assert (answer.run, desk.told) == (1, ["began 1", "cancelled"])
    # The same rows, and so the same binding, run again.
    desk.send(2, _QUICK)
    assert isinstance(desk.answer(), Done)


def test_cancel_that_comes_after_its_run_hits_no_other(desk: Desk) -> None:
    for number in range(1, 4):
        desk.send(number, _QUICK)
        assert isinstance(desk.answer(), Done)
        desk.slot.cancel(number)
    desk.send(4, _QUICK)
    assert isinstance(desk.answer(), Done)
    assert desk.told == ["began 1"] * 4
