"""The models of this process: loaded, warmed, proved, and forgotten again."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Union

from serving.backends.base import (
    Backend,
    BackendError,
    Device,
    DeviceLost,
    Model,
    ModelSource,
)
from serving.backends.registry import open_backend
from serving.channel.messages import Load, Loaded, LoadFailed, Progress, Unloaded, cut
from serving.tensor import BatchAxes, Signature
from serving.warmup import WarmUp
from serving.worker import sample_file
from serving.worker.memory import Mappings
from serving.worker.proof import prove
from serving.worker.sample_file import Row
from serving.worker.samples import Samples
from serving.worker.warming import warm_up

_log = logging.getLogger("serving.worker")


@dataclass(frozen=True)
class Hosted:
    """A loaded model and what its batch axes are.

    ``turn`` is held during a run where the backend takes fewer runs at once than there are slots.
    """

    model: Model
    axes: BatchAxes
    turn: Optional[threading.Semaphore] = None


class Host:
    """Owns the loaded models. ``load``/``unload``: loader thread; ``get``: slot threads.

    ``device`` is what this process computes on, ``slots`` how many runs may come at once.
    """

    def __init__(
        self,
        device: Device = Device(),  # noqa: B008 - frozen
        mappings: Optional[Mappings] = None,
        slots: int = 1,
    ) -> None:
        self._device = device
        self._mappings = Mappings() if mappings is None else mappings
        self._slots = slots
        self._backends: Dict[str, Backend] = {}
        self._turns: Dict[str, threading.Semaphore] = {}
        self._models: Dict[int, Hosted] = {}
        self._names: Dict[int, str] = {}

    def get(self, model: int) -> Hosted:
        """Return a loaded model; KeyError when it is not loaded."""
        return self._models[model]

    def backend(self, name: str) -> Backend:
        """Return a backend on this process's device, opened if it is not; raises BackendError."""
        backend = self._backends.get(name)
        if backend is None:
            backend = open_backend(name, self._device)
            self._mappings.join(backend)
            self._backends[name] = backend
            if backend.slots < self._slots:
                self._turns[name] = threading.BoundedSemaphore(backend.slots)
            _log.debug("%s on %s: %s", name, self._device, backend.versions())
        return backend

    def close(self) -> None:
        """Close every model and let go of the device; nothing runs any more."""
        for hosted in self._models.values():
            hosted.model.close()
        self._models.clear()
        for backend in self._backends.values():
            backend.close()
        self._backends.clear()

    def load(self, order: Load, tell: Callable[[Progress], None]) -> Union[Loaded, LoadFailed]:
        """Load, warm and (if asked) prove a model; every failure but DeviceLost is a message."""
        try:
            return self._load(order, tell)
        except DeviceLost:
            raise
        except BackendError as error:
            return LoadFailed(order.model, "load_failed", cut(str(error)))
        except MemoryError:
            return LoadFailed(order.model, "load_failed", "the machine's memory does not suffice")
        except Exception as error:
            _log.exception("loading failed", extra={"servable": order.name})
            text = f"unexpected failure while loading ({type(error).__name__}); the log has more"
            return LoadFailed(order.model, "load_failed", text)

    def unload(self, model: int) -> Unloaded:
        """Forget a model; the caller has made sure that no slot uses it."""
        loaded = self._models.pop(model, None)
        if loaded is not None:
            loaded.model.close()
            _log.debug("unloaded", extra={"servable": self._names.pop(model, "")})
        return Unloaded(model)

    def _load(self, order: Load, tell: Callable[[Progress], None]) -> Loaded:
        began = time.monotonic()
        backend = self.backend(order.backend)
        model = backend.load(ModelSource(order.path, order.threads, order.options))
        try:
            return self._warmed(order, model, tell, began)
        except BaseException:
            model.close()
            raise

    def _warmed(
        self, order: Load, model: Model, tell: Callable[[Progress], None], began: float
    ) -> Loaded:
        loaded = time.monotonic()
        tell(Progress(order.model, "warming"))
        claim = BatchAxes.from_json(order.batch)
        _check_claim(claim, model.signature)
        given = _given(order, model.signature, claim)
        samples = Samples(model.signature, claim, given, model.gears)
        ordered = [WarmUp.from_json(told) for told in order.warmup]
        note = ""
        if order.prove:
            claim, note = prove(model, claim, samples, order.max_batch_size)
        elif not ordered:
            note = samples.warm(model)
        if ordered:
            if claim.batched != samples.batched:  # the proof may have refused the claim
                samples = Samples(model.signature, claim, gears=model.gears)
            # What was said of made-up inputs does not matter where proper ones are there.
            note = "; ".join(warm_up(model, samples, ordered, order.max_batch_size))
        self._models[order.model] = Hosted(model, claim, self._turns.get(order.backend))
        self._names[order.model] = order.name
        warm = time.monotonic()
        return Loaded(
            order.model,
            model.signature.to_json(),
            claim.to_json(),
            (loaded - began) * 1e3,
            (warm - loaded) * 1e3,
            cut(note),
            None if model.gears is None else tuple(model.gears),
        )


def _given(order: Load, signature: Signature, claim: BatchAxes) -> List[Row]:
    """Return the rows that lie beside the model, none where they do not fit it."""
    if not order.sample:
        return []
    axes = claim.inputs if claim.batched else (None,) * len(signature.inputs)
    try:
        return sample_file.read(order.sample, signature, axes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        _log.info("its sample is not used: %s", error, extra={"servable": order.name})
        return []


def _check_claim(claim: BatchAxes, signature: Signature) -> None:
    """The claim was made on the file; the engine must see the same tensors."""
    counts = (len(signature.inputs), len(signature.outputs))
    if claim.batched and (len(claim.inputs), len(claim.outputs)) != counts:
        raise BackendError(
            f"the engine sees {counts[0]} inputs and {counts[1]} outputs, the batch axes were "
            f"given for {len(claim.inputs)} and {len(claim.outputs)}"
        )
