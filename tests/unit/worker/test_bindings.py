"""What a slot remembers of runs is dropped by the loader's thread too, whenever a model goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from serving.channel.layout import FieldShape, place
from serving.channel.link import BlockingLink, pair
from serving.channel.messages import Define, Forget, Message
from serving.tensor import FP32
from serving.worker.host import Host
from serving.worker.loop import Slot
from serving.worker.memory import Mappings

GOING, STAYING = 1, 2
LAYOUT, SEGMENT = 5, 6


class Segments:
    """Forgets all that it is told to."""

    def forget(self, segment: int) -> None:
        assert segment == SEGMENT


@pytest.fixture
def slot() -> Iterator[Slot]:
    ours, theirs = pair()
    yield Slot(BlockingLink(theirs), Host(), cast(Mappings, Segments()))
    ours.close()
    theirs.close()


@pytest.mark.parametrize(
    "message",
    [Forget(SEGMENT), Define(place(9, 4, (FieldShape(FP32, (), 0),), None).to_json(), (LAYOUT,))],
    ids=["a segment", "a layout"],
)
def test_slot_forgets_while_the_loader_drops_a_model(slot: Slot, message: Message) -> None:
    class Key(tuple[int, ...]):
        """Of a binding; while the slot looks at it, the loader's thread has its turn."""

        def __getitem__(self, index: Any) -> Any:
            if slot_looks:
                slot_looks.clear()
                slot.drop(GOING)
            return super().__getitem__(index)

    slot_looks: list[bool] = []
    for model in (GOING, STAYING):
        for layout, segment in ((LAYOUT, SEGMENT), (7, 8)):
            slot._cache[Key((model, layout, segment, 0, 0, 1))] = cast(Any, None)
    slot_looks.append(True)
    slot._note(message, ())
    assert list(slot._cache) == [(STAYING, 7, 8, 0, 0, 1)]
