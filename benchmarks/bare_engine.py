"""One device's limit: a backend in a loop on memory that it was lent, no server anywhere.

Run as ``python -m benchmarks.bare_engine BACKEND KIND FILE ROW.npy``, in the environment of that
backend, it speaks as ``benchmarks.engine`` does: lines ``<batch> <seconds>`` come in, ``ready`` and
``<inferences> <seconds>`` go out. It makes as many runs at once as the backend takes.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any, List

import numpy as np

from serving.backends.base import Backend, Device, Model, ModelSource
from serving.backends.registry import open_backend
from serving.channel.segment import Segment, view
from serving.tensor import Tensor, TensorSpec


class _Lane:
    """Rows of a batch and of its answer in shared memory, tied to the model."""

    def __init__(self, backend: Backend, model: Model, row: Any, batch: int) -> None:
        rows = np.repeat(row, batch, axis=0)
        (asked,), (answered,) = model.signature.inputs, model.signature.outputs
        told = model.bind([Tensor(asked.name, asked.dtype, rows.shape, rows)], None).run()
        assert told is not None
        self._backend = backend
        self._segments: List[Segment] = []
        given = self._lent(asked, rows.shape, rows.nbytes, writable=False)
        array = told[0].array
        assert array is not None
        taken = self._lent(answered, array.shape, array.nbytes, writable=True)
        assert given.array is not None
        given.array[:] = rows
        self.run = model.bind([given], [taken]).run

    def close(self) -> None:
        """Let go of the memory, when nothing runs on it."""
        del self.run
        for segment in self._segments:
            self._backend.take_back(segment.address)

    def _lent(self, spec: TensorSpec, shape: Any, nbytes: int, *, writable: bool) -> Tensor:
        size = max(4096, -(-nbytes // 4096) * 4096)
        segment = Segment.create(len(self._segments), size, writable_elsewhere=writable)
        self._segments.append(segment)
        self._backend.lend(segment.address, segment.size, writable=writable)
        return Tensor(spec.name, spec.dtype, tuple(shape), view(segment, spec.dtype, 0, shape))


def _count(lane: _Lane, seconds: float, counts: List[int]) -> None:
    end = time.perf_counter() + seconds
    runs = 0
    while time.perf_counter() < end:
        lane.run()
        runs += 1
    counts.append(runs)


def main(name: str, kind: str, file: str, row_file: str) -> None:
    """Answer standard input until it ends."""
    backend = open_backend(name, Device(kind, 0))
    model = backend.load(ModelSource(file, 1))
    row = np.load(row_file)
    for line in sys.stdin:
        batch, seconds = line.split()
        lanes = [_Lane(backend, model, row, int(batch)) for _ in range(backend.slots)]
        for lane in lanes:
            lane.run()
        print("ready", flush=True)
        sys.stdin.readline()
        counts: List[int] = []
        threads = [
            threading.Thread(target=_count, args=(lane, float(seconds), counts)) for lane in lanes
        ]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - start
        for lane in lanes:
            lane.close()
        print(sum(counts) * int(batch), took, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:5])
