"""A backend without an engine, told by a small JSON file what to do: for tests of everything else.

The file says::

    {"inputs": [TensorSpec…], "outputs": [TensorSpec…], "do": {…}}

``do``: ``"echo"`` copies input i to output i; ``"add": number`` adds; ``"sleep_ms": n`` (or
``{"cpu": n, ...}``, by kind of device) takes its time, with ``"sleep_on": value`` only when an
input holds the value; ``"fail_on": value`` fails and
``"die_on": value`` kills the process when one does; ``"load": "crash" | "hang" | "hog"`` misbehaves
while loading; ``"tally": path`` appends a line to a file for each run, ``began ROWS``, and
``cancelled`` when one ends early, with ``"name_device": true`` the device before it.
``"gears": [n, ...]`` refuses runs of other numbers of rows, on all kinds of devices or on those of
``"gears_on": [kind, ...]``; ``"lose_on": value`` loses the device when an input holds the value, if
it is one of ``"lose_devices"``. Devices that ``SERVING_STUB_ABSENT`` names, with commas between
them, cannot be opened. It enforces the contract of ``base`` where a real engine would
misbehave silently: shapes, dtypes, addresses.
"""

from __future__ import annotations

import builtins
import json
import os
import signal
import threading
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from serving.backends.base import BackendError, Device, DeviceLost, ModelSource
from serving.devices import KINDS, SLOTS
from serving.tensor import Signature, Tensor

CPU = Device()


def open(device: Device) -> "Stub":
    """Return the backend; it plays any device but those that it is told are absent."""
    if str(device) in os.environ.get("SERVING_STUB_ABSENT", "").split(","):
        raise DeviceLost(f"{device} does not answer")
    return Stub(device)


class Stub:
    """See the module's text."""

    name = "stub"

    def __init__(self, device: Device) -> None:
        self.slots = SLOTS[device.kind]
        self._device = device
        self.lent: Dict[int, int] = {}

    def versions(self) -> Dict[str, str]:
        """Return the stub's version."""
        return {"stub": "1"}

    def load(self, source: ModelSource) -> "StubModel":
        """Read the description; misbehave if it says so."""
        try:
            with builtins.open(source.path, encoding="utf-8") as file:
                told = json.load(file)
        except ValueError as error:
            raise BackendError(f"not a stub description: {error}") from error
        how = told["do"].get("load")
        if how == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif how == "hang":
            threading.Event().wait()
        elif how == "hog":
            hoard: List[Any] = []
            try:
                while True:
                    hoard.append(np.ones(1 << 24, np.uint8))
            except MemoryError as error:
                hoard.clear()
                raise BackendError("out of memory while loading") from error
        return StubModel(Signature.from_json(told), told["do"], self._device)

    def lend(self, address: int, nbytes: int, *, writable: bool) -> None:  # noqa: ARG002
        """Note it; what is lent twice, or given back without having been lent, is an error."""
        assert address not in self.lent
        self.lent[address] = nbytes

    def take_back(self, address: int) -> None:
        """Forget it; see ``lend``."""
        del self.lent[address]

    def close(self) -> None:
        """Do nothing: there is no device."""


class StubModel:
    """A model that does what its description says."""

    def __init__(self, signature: Signature, do: Dict[str, Any], device: Device = CPU) -> None:
        self.signature = signature
        self._do = do
        self._device = device
        geared = "gears" in do and device.kind in do.get("gears_on", KINDS)
        self.gears: Optional[Tuple[int, ...]] = tuple(do["gears"]) if geared else None

    def bind(self, inputs: Sequence[Tensor], outputs: Optional[Sequence[Tensor]]) -> "StubBinding":
        """Check names and dtypes as a strict engine would."""
        for tensor, spec in zip(inputs, self.signature.inputs):
            if tensor.name != spec.name or tensor.dtype is not spec.dtype:
                raise BackendError(f"bound {tensor!r} where {spec.text()} {spec.name!r} belongs")
        return StubBinding(tuple(inputs), None if outputs is None else tuple(outputs), self)

    def close(self) -> None:
        """Nothing to free."""

    def compute(self, inputs: Tuple[Tensor, ...], stop: threading.Event) -> Tuple[Tensor, ...]:
        """Do what the description says to ``inputs``."""
        rows = inputs[0].shape[0] if inputs[0].shape else 1
        self._note(f"began {rows}")
        if self.gears is not None and rows not in self.gears:
            raise BackendError(f"{rows} rows were run where only {self.gears} can be")
        arrays = [t.array for t in inputs if t.array is not None]
        if self._holds("die_on", arrays):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._holds("lose_on", arrays) and str(self._device) in self._do["lose_devices"]:
            raise DeviceLost(f"{self._device} fell off the bus")
        if self._holds("fail_on", arrays):
            raise BackendError(f"an input holds {self._do['fail_on']}")
        sleeps = "sleep_on" not in self._do or self._holds("sleep_on", arrays)
        ms = self._do.get("sleep_ms", 0)
        ms = ms.get(self._device.kind, 0) if isinstance(ms, dict) else ms
        if ms and sleeps and stop.wait(ms / 1e3):
            self._note("cancelled")
            raise BackendError("cancelled")
        results = []
        for tensor, spec in zip(inputs, self.signature.outputs):
            if tensor.array is None:
                results.append(Tensor(spec.name, spec.dtype, tensor.shape, items=tensor.items))
                continue
            value = tensor.array + tensor.array.dtype.type(self._do.get("add", 0))
            results.append(Tensor(spec.name, spec.dtype, value.shape, value))
        return tuple(results)

    def _holds(self, what: str, arrays: List[Any]) -> bool:
        return what in self._do and any((a == self._do[what]).any() for a in arrays)

    def _note(self, event: str) -> None:
        if "tally" in self._do:
            by = f"{self._device} " if self._do.get("name_device") else ""
            with builtins.open(self._do["tally"], "a", encoding="utf-8") as file:
                file.write(by + event + "\n")


class StubBinding:
    """Inputs and outputs at fixed addresses."""

    def __init__(
        self,
        inputs: Tuple[Tensor, ...],
        outputs: Optional[Tuple[Tensor, ...]],
        model: StubModel,
    ) -> None:
        self._inputs = inputs
        self._outputs = outputs
        self._model = model
        self._stop = threading.Event()

    def run(self) -> Optional[Tuple[Tensor, ...]]:
        """Compute, into the bound outputs if there are any."""
        results = self._model.compute(self._inputs, self._stop)
        if self._outputs is None:
            return results
        for result, bound in zip(results, self._outputs):
            if bound.shape != result.shape or bound.array is None or result.array is None:
                raise BackendError(f"output {bound!r} was bound where {result!r} comes out")
            bound.array[...] = result.array
        return None

    def cancel(self) -> None:
        """End a sleeping run."""
        self._stop.set()
