"""The memory of one side of a run: a data set, device memory, and pinned memory to copy by.

Rows are not copied to the device from where they lie. They lie in memory that the master shares
read-only, and CANN registers a mapping for transfers only if it may be written to; so each tensor
has pinned memory of its own, and rows pass through it.

What a data set refers to is owned here: destroying a data set frees neither the data buffers in it
nor the memory that they name.
"""

from __future__ import annotations

from typing import Callable, List, Sequence

import acl

from serving.backends.ascend.constants import HUGE_PAGES_FIRST
from serving.backends.ascend.failure import check, handle, released, value


class Side:
    """Inputs or outputs of one model; used by one run at a time.

    Sizes are in bytes. A size of 0 is not known yet: ``grow`` gives the tensor memory later.
    ``unpinned`` tensors at the end have device memory only (the input that sets gears).
    ``refused`` is told when something could not be given up.
    """

    def __init__(self, refused: Callable[[], None]) -> None:
        self._refused = refused
        self._buffers: List[int] = []
        self._room: List[int] = []
        self.device: List[int] = []
        self.pinned: List[int] = []
        self.dataset = 0

    def open(self, sizes: Sequence[int], unpinned: int = 0) -> None:
        """Take the memory; after a failure ``close`` gives back what was taken."""
        self.dataset = handle("mdl.create_dataset", acl.mdl.create_dataset())
        for index, size in enumerate(sizes):
            self.device.append(0)
            self.pinned.append(0)
            self._room.append(0)
            self._take(index, max(size, 1), pinned=index < len(sizes) - unpinned)
            buffer = acl.create_data_buffer(self.device[index], self._room[index])
            self._buffers.append(handle("create_data_buffer", buffer))
            _, code = acl.mdl.add_dataset_buffer(self.dataset, buffer)
            check("mdl.add_dataset_buffer", code)

    def grow(self, index: int, nbytes: int) -> None:
        """Make room for so many bytes of a tensor; its data buffer names the new memory then."""
        if nbytes <= self._room[index]:
            return
        self._give_back(index)
        self._take(index, nbytes, pinned=True)
        address, room = self.device[index], self._room[index]
        check("update_data_buffer", acl.update_data_buffer(self._buffers[index], address, room))

    def room(self, index: int) -> int:
        """Return how many bytes a tensor may have."""
        return self._room[index]

    def close(self) -> None:
        """Give everything back: data buffers, memory, and the data set last."""
        while self._buffers:
            self._gave("destroy_data_buffer", acl.destroy_data_buffer(self._buffers.pop()))
        for index in range(len(self.device)):
            self._give_back(index)
        if self.dataset:
            self._gave("mdl.destroy_dataset", acl.mdl.destroy_dataset(self.dataset))
            self.dataset = 0

    def _take(self, index: int, nbytes: int, *, pinned: bool) -> None:
        self.device[index] = value("rt.malloc", acl.rt.malloc(nbytes, HUGE_PAGES_FIRST))
        if pinned:
            self.pinned[index] = value("rt.malloc_host", acl.rt.malloc_host(nbytes))
        self._room[index] = nbytes

    def _give_back(self, index: int) -> None:
        self._room[index] = 0
        address, self.device[index] = self.device[index], 0
        if address:
            self._gave("rt.free", acl.rt.free(address))
        address, self.pinned[index] = self.pinned[index], 0
        if address:
            self._gave("rt.free_host", acl.rt.free_host(address))

    def _gave(self, call: str, code: int) -> None:
        if not released(call, code):
            self._refused()
