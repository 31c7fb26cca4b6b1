"""A deserialized engine with its lanes."""

from __future__ import annotations

import builtins
import logging
import mmap
from typing import Any, Optional, Sequence, Tuple

from serving.backends.base import BackendError, DeviceLost, ModelSource
from serving.backends.tensorrt import description, faults, ports, profiles
from serving.backends.tensorrt.binding import TensorRtBinding, job_of
from serving.backends.tensorrt.cuda import Cuda, again, attempt, worst
from serving.backends.tensorrt.lane import Lane
from serving.backends.tensorrt.lanes import Lanes
from serving.backends.tensorrt.lent import LentMemory
from serving.backends.tensorrt.library import Library
from serving.backends.tensorrt.options import Options
from serving.tensor import Tensor

_log = logging.getLogger("serving.tensorrt")


class TensorRtModel:
    """One engine. Bound and run by slot threads, loaded and closed by the loader's."""

    def __init__(
        self, cuda: Cuda, library: Library, lent: LentMemory, source: ModelSource, slots: int
    ) -> None:
        options = Options.parse(source.options)
        told = description.beside(source.path)
        if told is not None and told.module != library.name:
            raise BackendError(
                f"the engine was built by {told.module} {told.version} and this worker runs "
                f"{library.name}: they do not read each other's engines"
            )
        self._cuda = cuda
        self._lent = lent
        self._lanes = Lanes()
        self._engine = _deserialized(cuda, library, source.path, options)
        try:
            self._ports = ports.read(
                self._engine, library.trt, None if told is None else told.signature
            )
            for _ in range(slots):
                self._lanes.add(
                    Lane(cuda, library, self._engine, self._ports, graphs=options.cuda_graphs)
                )
        except BaseException:
            self._release()
            raise
        self.signature = self._ports.signature
        # What we built takes any number of rows up to the largest that was ever asked for.
        self.gears: Optional[Tuple[int, ...]] = profiles.rows(self._ports) if told is None else None

    @property
    def closed(self) -> bool:
        """True once it was closed."""
        return self._engine is None

    def bind(
        self, inputs: Sequence[Tensor], outputs: Optional[Sequence[Tensor]]
    ) -> TensorRtBinding:
        """Tie the engine to rows; raises BackendError where they do not fit it."""
        job = job_of(self._ports, self._lent, inputs, outputs)
        return TensorRtBinding(job, self._ports, self._lanes.run)

    def close(self) -> None:
        """Free contexts, then the engine; raises DeviceLost if the device turns out to be lost."""
        error = self._release()
        if isinstance(error, DeviceLost):
            raise again(error)
        if error is not None:
            _log.warning("closing an engine met a failure: %s", error)

    def _release(self) -> Optional[BackendError]:
        unready = attempt(self._cuda.use)  # the loader may have become another thread
        error = self._lanes.close()
        self._engine = None
        return worst([unready, error])


def _deserialized(cuda: Cuda, library: Library, path: str, options: Options) -> Any:
    cuda.use()
    runtime = library.trt.Runtime(library.logger)
    if options.engine_host_code:
        runtime.engine_host_code_allowed = True
    mark = library.log.mark()
    try:
        with (
            builtins.open(path, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            engine = runtime.deserialize_cuda_engine(data)
    except (OSError, ValueError) as error:
        raise BackendError(f"the engine file cannot be read: {_why(error)}") from error
    if engine is None:
        pending = cuda.pending()
        if isinstance(pending, DeviceLost):
            raise again(pending)
        raise faults.of_tensorrt(
            f"{library.name} {library.version} does not take this engine",
            library.log.since(mark),
        )
    return engine


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "it is empty"
