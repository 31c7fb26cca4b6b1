"""One slot of a worker: take a run from its link, bind the rows where they lie, run, answer.

Nothing is gathered, concatenated or split: axis-0 rows and their outputs are handed to the
engine at the addresses where they lie in the shared segments. Exceptions are strings (built
into objects here) and tensors whose batch axis is not the first (moved through a staging
array).
"""

from __future__ import annotations

import collections
import logging
import os
import threading
import time
from dataclasses import dataclass
from typing import Callable, Deque, List, Optional, Sequence, Tuple

import numpy as np

from serving.backends.base import BackendError, Binding, DeviceLost
from serving.channel import strings
from serving.channel.layout import STRING_ENTRY_BYTES, Layout, align
from serving.channel.link import BlockingLink
from serving.channel.messages import (
    Afar,
    Define,
    Deny,
    Done,
    Failed,
    Forget,
    ForgetFiles,
    Grant,
    Lend,
    Message,
    More,
    Run,
    Written,
    cut,
)
from serving.tensor import Array, BatchAxes, Signature, Tensor
from serving.worker.client_files import ClientFiles, CutShort
from serving.worker.host import Host, Hosted
from serving.worker.memory import Mappings
from serving.worker.rows import packed_bytes, rows_first, rows_of, string_rows

_log = logging.getLogger("serving.worker")

_CACHED_BINDINGS = 2048
_CANCELS_KEPT = 64

_Key = Tuple[int, ...]
"""Of a binding: model, layout, input, output, first row, rows."""


@dataclass
class _Prepared:
    """A binding and the copies that must be made around a run (none, for axis 0)."""

    binding: Binding
    before: Tuple[Tuple[Array, Array], ...]
    after: Tuple[Tuple[Array, Array], ...]
    bound: bool


def raise_it(error: DeviceLost) -> None:
    """Raise: where nobody else is told of a lost device."""
    raise error


class Unwanted(Exception):
    """Nobody waits for this run any more."""


class Denied(Exception):
    """The master has no memory for this run's outputs."""

    def __init__(self, deny: Deny) -> None:
        super().__init__(deny.message)
        self.code = deny.code
        self.message = deny.message


class Slot:
    """Runs batches, one at a time. ``run`` is its own thread; the others call the rest.

    ``on_device_lost`` ends this process; it does not return.

    A cancel and the run that it means come on different links, so either may be seen first.
    ``_turn`` guards which run is the current one: a cancel must neither be lost before a run has
    begun nor hit the binding of one that is over, for the next run of that binding would end.
    """

    def __init__(
        self,
        link: BlockingLink,
        host: Host,
        mappings: Mappings,
        on_device_lost: Callable[[DeviceLost], None] = raise_it,
        files: Optional[ClientFiles] = None,
    ) -> None:
        self._link = link
        self._on_device_lost = on_device_lost
        self._host = host
        self._mappings = mappings
        self._files = ClientFiles() if files is None else files
        self._layouts: "dict[int, Layout]" = {}
        self._cache: "collections.OrderedDict[_Key, _Prepared]" = collections.OrderedDict()
        self._turn = threading.Lock()
        self._current = 0
        self._binding: Optional[Binding] = None
        self._unwanted: Deque[int] = collections.deque(maxlen=_CANCELS_KEPT)

    def run(self) -> None:
        """Answer the run link until the master hangs up.

        A slot that breaks takes its process with it: a worker that only looks alive is worse
        than one that is replaced.
        """
        try:
            while True:
                message, fds = self._link.receive()
                if message is None:
                    return
                if isinstance(message, Run):
                    self._link.send(self._answer(message, fds))
                else:
                    self._note(message, fds)
        except DeviceLost as error:
            self._on_device_lost(error)
        except BaseException:
            _log.exception("the slot broke; the worker ends")
            os._exit(70)

    def cancel(self, run: int) -> None:
        """End a run early: the current one, or one that is still to come.

        Every slot of a worker is told, and a run may be over by now: no number is used twice, so
        what is kept of those in vain does no harm.
        """
        with self._turn:
            self._unwanted.append(run)
            if self._current == run and self._binding is not None:
                self._binding.cancel()

    def drop(self, model: int) -> None:
        """Forget every binding of a model that is being unloaded; nothing runs it."""
        self._forget(lambda key, _: key[0] == model)

    def _forget(self, unfit: "Callable[[_Key, _Prepared], bool]") -> None:
        """Forget some bindings. The loader may drop those of a model at the same time."""
        for key, kept in list(self._cache.items()):
            if unfit(key, kept):
                self._cache.pop(key, None)

    def _note(self, message: Message, fds: Sequence[int]) -> None:
        if isinstance(message, Lend):
            self._mappings.lend(message, fds[0])
        elif isinstance(message, Forget):
            segment = message.segment
            self._forget(lambda key, _: segment in (key[2], key[3]))
            self._mappings.forget(segment)
        elif isinstance(message, ForgetFiles):
            self._files.forget()
        elif isinstance(message, Define):
            dropped = set(message.drop)
            for layout_id in dropped:
                self._layouts.pop(layout_id, None)
            if dropped:
                self._forget(lambda key, _: key[1] in dropped)
            layout = Layout.from_json(message.layout)
            self._layouts[layout.id] = layout

    def _answer(self, run: Run, fds: Sequence[int]) -> Message:
        try:
            return self._run(run, fds)
        except DeviceLost:
            raise
        except BackendError as error:
            text = cut(str(error))
            _log.info("run failed: %s", text, extra={"request_id": run.ids, "rows": run.rows})
            return Failed(run.run, "execution_failed", text)
        except Unwanted:
            return Failed(run.run, "cancelled", "nobody waits for this run")
        except Denied as denied:
            return Failed(run.run, denied.code, denied.message)
        except CutShort as error:
            return Failed(run.run, error.code, str(error))
        except MemoryError:
            return Failed(run.run, "execution_failed", "the worker's memory does not suffice")
        except Exception:
            _log.exception("run broke", extra={"request_id": run.ids})
            return Failed(run.run, "internal", "the worker met an unexpected failure; see its log")
        finally:
            self._ends()
            for fd in fds:
                os.close(fd)

    def _begins(self, run: int, binding: Binding) -> None:
        """From here on a cancel reaches the binding; raises Unwanted if one came before."""
        with self._turn:
            if run in self._unwanted:
                raise Unwanted
            self._current, self._binding = run, binding

    def _is_wanted(self, run: int) -> bool:
        with self._turn:
            return run not in self._unwanted

    def _ends(self) -> None:
        """No cancel reaches the binding any more; one that was cancelled stays so: drop it."""
        with self._turn:
            cancelled, binding = self._current in self._unwanted, self._binding
            self._current, self._binding = 0, None
        if cancelled:
            self._forget(lambda _, kept: kept.binding is binding)

    def _run(self, run: Run, fds: Sequence[int]) -> Done:
        began = time.perf_counter_ns()
        hosted = self._host.get(run.model)
        layout = self._layouts[run.layout]
        prepared = self._prepare(run, hosted, layout)
        self._begins(run.run, prepared.binding)
        if run.afar is not None:
            self._read(run, run.afar, fds, hosted.model.signature, layout)
        for target, source in prepared.before:
            np.copyto(target, source)
        ready = time.perf_counter_ns()
        try:
            outputs = _in_turn(hosted, prepared.binding)
        except DeviceLost:
            raise
        except BackendError:
            self._uncache(run)
            if not prepared.bound:
                raise
            # The outputs may have other shapes than before (metadata can be wrong): once more
            # with sizes left to the engine; if that fails too, it is the request's fault.
            again = self._unbound(run, hosted, layout)
            self._begins(run.run, again)  # unless it was a cancel that ended it
            outputs = _in_turn(hosted, again)
        ran = time.perf_counter_ns()
        if outputs is None:
            for target, source in prepared.after:
                np.copyto(target, source)
            if run.afar is not None and self._is_wanted(run.run):
                self._write_out(run, run.afar, fds, hosted.model.signature)
            written, segment = None, 0
        else:
            # Bound rows that did not fit may have neighbours: never pack over them.
            scratch = 0 if prepared.bound else run.output
            written, segment = self._write(run.run, scratch, hosted.axes, outputs)
        done = time.perf_counter_ns()
        if _log.isEnabledFor(logging.DEBUG):
            took_ms = (ran - ready) / 1e6
            _log.debug("ran %d rows in %.2f ms", run.rows, took_ms, extra={"request_id": run.ids})
        return Done(run.run, ready - began, ran - ready, done - ran, written, segment)

    # -- files of clients ----------------------------------------------------------------------

    def _read(
        self, run: Run, afar: Afar, fds: Sequence[int], signature: Signature, layout: Layout
    ) -> None:
        """Read the rows that lie in files; those that nobody asked for are as the first."""
        segment = self._mappings.get(run.input)
        for copy in afar.reads:
            self._files.read(fds, copy, segment.bytes, signature.inputs[copy.tensor].name)
        if afar.asked < run.rows:
            for tensor in {copy.tensor for copy in afar.reads}:
                field = layout.inputs[tensor]
                if field.axis is not None:
                    rows = rows_of(segment, field, run)
                    rows[afar.asked :] = rows[0]

    def _write_out(self, run: Run, afar: Afar, fds: Sequence[int], signature: Signature) -> None:
        memory = self._mappings.get(run.output).bytes if afar.writes else None
        for copy in afar.writes:
            assert memory is not None
            self._files.write(fds, copy, memory, signature.outputs[copy.tensor].name)

    # -- binding ------------------------------------------------------------------------------

    def _prepare(self, run: Run, hosted: Hosted, layout: Layout) -> _Prepared:
        key = (run.model, run.layout, run.input, run.output, run.first, run.rows)
        prepared = self._cache.get(key)
        if prepared is not None:
            self._cache.move_to_end(key)
            return prepared
        prepared = self._bind(run, hosted, layout)
        if not any(f.dtype.is_bytes for f in layout.inputs):
            self._cache[key] = prepared
            if len(self._cache) > _CACHED_BINDINGS:
                self._cache.popitem(last=False)
        return prepared

    def _uncache(self, run: Run) -> None:
        self._cache.pop((run.model, run.layout, run.input, run.output, run.first, run.rows), None)

    def _bind(self, run: Run, hosted: Hosted, layout: Layout) -> _Prepared:
        signature = hosted.model.signature
        inputs, before = self._inputs(run, signature, layout)
        if layout.outputs is None:
            return _Prepared(hosted.model.bind(inputs, None), before, (), False)
        segment = self._mappings.get(run.output)
        outputs = []
        after = []
        for spec, field in zip(signature.outputs, layout.outputs):
            rows = rows_of(segment, field, run)
            if field.axis:
                staged = np.empty(field.engine_shape(run.rows), rows.dtype)
                after.append((rows, np.moveaxis(staged, field.axis, 0)))
                rows = staged
            outputs.append(Tensor(spec.name, spec.dtype, rows.shape, rows))
        return _Prepared(hosted.model.bind(inputs, outputs), before, tuple(after), True)

    def _unbound(self, run: Run, hosted: Hosted, layout: Layout) -> Binding:
        inputs, before = self._inputs(run, hosted.model.signature, layout)
        for target, source in before:
            np.copyto(target, source)
        return hosted.model.bind(inputs, None)

    def _inputs(
        self, run: Run, signature: Signature, layout: Layout
    ) -> Tuple[List[Tensor], Tuple[Tuple[Array, Array], ...]]:
        segment = self._mappings.get(run.input)
        tensors = []
        copies = []
        for spec, field in zip(signature.inputs, layout.inputs):
            if field.dtype.is_bytes:
                tensors.append(string_rows(segment, spec.name, field, run))
                continue
            rows = rows_of(segment, field, run)
            if field.axis:
                staged = np.empty(field.engine_shape(run.rows), rows.dtype)
                copies.append((staged, np.moveaxis(rows, 0, field.axis)))
                rows = staged
            tensors.append(Tensor(spec.name, spec.dtype, rows.shape, rows))
        return tensors, tuple(copies)

    # -- outputs whose sizes only the run could tell -------------------------------------------

    def _write(
        self, run: int, segment_id: int, axes: BatchAxes, outputs: Sequence[Tensor]
    ) -> Tuple[Tuple[Written, ...], int]:
        """Pack the outputs, rows first, into the output segment; ask for one if need be."""
        if axes.batched:
            outputs = [rows_first(t, axis) for t, axis in zip(outputs, axes.outputs)]
        wanted = sum(align(packed_bytes(tensor)) for tensor in outputs)
        if wanted and (not segment_id or self._mappings.get(segment_id).size < wanted):
            segment_id = self._ask(run, wanted)
        written = []
        at = 0
        for tensor in outputs:
            size = packed_bytes(tensor)
            if size:
                memory = self._mappings.get(segment_id).bytes
                if tensor.array is not None:
                    memory[at : at + size] = (
                        np.ascontiguousarray(tensor.array).reshape(-1).view(np.uint8)
                    )
                else:
                    items = tensor.items or ()
                    strings.write(memory, at, at + STRING_ENTRY_BYTES * len(items), items)
            written.append(Written(tensor.dtype.code, tensor.shape, at, size))
            at = align(at + size)
        return tuple(written), segment_id

    def _ask(self, run: int, nbytes: int) -> int:
        self._link.send(More(run, nbytes))
        while True:
            message, fds = self._link.receive()
            if isinstance(message, Grant) and message.run == run:
                return message.segment
            if isinstance(message, Deny) and message.run == run:
                raise Denied(message)
            if message is None:
                raise Denied(Deny(run, "unavailable", "the server is going down"))
            self._note(message, fds)


def _in_turn(hosted: Hosted, binding: Binding) -> Optional[Tuple[Tensor, ...]]:
    """Run once, when it is this slot's turn where a backend takes fewer runs than slots bring."""
    if hosted.turn is None:
        return binding.run()
    with hosted.turn:
        return binding.run()
