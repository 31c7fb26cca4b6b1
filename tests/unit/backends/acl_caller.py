"""Calls ``acl`` as a program for CANN would: a model, its data sets and device memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

H2D, D2H = 1, 2
"""Kinds of copies: to the device, and back."""


class Run:
    """A loaded model with data sets and device memory, as a caller of CANN would have them."""

    def __init__(self, acl: Any, path: Path) -> None:
        self.acl = acl
        self.model, code = acl.mdl.load_from_file(str(path))
        assert code == 0
        self.desc = acl.mdl.create_desc()
        assert acl.mdl.get_desc(self.desc, self.model) == 0
        self.stream = acl.rt.create_stream()[0]
        ins = range(acl.mdl.get_num_inputs(self.desc))
        self.inputs = [acl.mdl.get_input_size_by_index(self.desc, i) or 64 for i in ins]
        outs = range(acl.mdl.get_num_outputs(self.desc))
        self.outputs = [acl.mdl.get_output_size_by_index(self.desc, i) or 64 for i in outs]
        self.given, self.given_at, self.given_buffers = self._dataset(self.inputs)
        self.wanted, self.wanted_at, self.wanted_buffers = self._dataset(self.outputs)

    def _dataset(self, sizes: list[int]) -> tuple[int, list[int], list[int]]:
        dataset = self.acl.mdl.create_dataset()
        addresses = [self.acl.rt.malloc(size, 0)[0] for size in sizes]
        buffers = []
        for address, size in zip(addresses, sizes, strict=True):
            buffers.append(self.acl.create_data_buffer(address, size))
            assert self.acl.mdl.add_dataset_buffer(dataset, buffers[-1]) == (dataset, 0)
        return dataset, addresses, buffers

    def put(self, values: Any, index: int = 0) -> None:
        values = np.ascontiguousarray(values)
        size = values.nbytes
        assert self.acl.rt.memcpy(self.given_at[index], size, values.ctypes.data, size, H2D) == 0

    def get(self, count: int, index: int = 0) -> list[float]:
        out = np.zeros(count, np.float32)
        code = self.acl.rt.memcpy(
            out.ctypes.data, out.nbytes, self.wanted_at[index], out.nbytes, D2H
        )
        assert code == 0
        return [float(v) for v in out]

    def start(self, stream: int = 0) -> int:
        code = self.acl.mdl.execute_async(
            self.model, self.given, self.wanted, stream or self.stream
        )
        return int(code)

    def rows(self, count: int) -> int:
        index = len(self.inputs) - 1
        return int(self.acl.mdl.set_dynamic_batch_size(self.model, self.given, index, count))
