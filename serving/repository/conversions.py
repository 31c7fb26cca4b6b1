"""Where the converted form of models goes, and what keeps it there while it is served.

Three places, by what the model is:

- Plain models go to a folder of ``--cache-dir``, found again by content at the next start. While a
  version is served its entry is locked, so that no server that shares the folder deletes it.
- Where that folder cannot be written they go to a temporary folder, removed at the end.
- Encrypted models go to memory (a sealed memfd), unless settings allow the cache: no disk sees
  them. Workers open it as ``/proc/<master>/fd/<n>``, which works for a worker that is started
  again too and needs no message of its own; it is gone with this process, however that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
from pathlib import Path

from serving.artifact import Artifact
from serving.inspection import Question, hold_folder
from serving.repository.settings import ServableSettings

_FOLDER = "mindir"


class Kept:
    """A question about one model file, and later what it was converted to, kept until ``close``."""

    def __init__(self, question: Question, memory: int) -> None:
        self.question = question
        self._memory = memory
        self._folder = -1

    def settle(self, artifact: Artifact) -> None:
        """Keep what the answer to the question uses, and let go of the rest."""
        path = "" if artifact.conversion is None else artifact.conversion.path
        if self._memory >= 0 and path == self.question.private:
            # Workers can open what this process holds: nobody may change it from now on.
            seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
            fcntl.fcntl(self._memory, fcntl.F_ADD_SEALS, seals | fcntl.F_SEAL_SEAL)
            return
        self.close()
        if path:
            held = hold_folder(Path(path).parent)
            self._folder = -1 if held is None else held

    def close(self) -> None:
        """Let go of it: nothing loads it any more."""
        for held in (self._memory, self._folder):
            if held >= 0:
                os.close(held)
        self._memory = self._folder = -1


class Conversions:
    """The places for one server's or command's converted models; ``close`` removes what is left."""

    def __init__(self, cache_dir: Path, limit_mb: int) -> None:
        self._cache_dir = cache_dir / _FOLDER
        self._limit_bytes = limit_mb << 20
        name = f"serving-{os.getpid()}-{secrets.token_hex(8)}"
        self._scratch = _temporary() / name

    def ask(self, path: Path, settings: ServableSettings, *, free: bool = False) -> Kept:
        """Return the question about a servable's model file; settle it with the answer.

        For ``free`` see ``Question``.
        """
        memory, private = -1, ""
        if settings.key is not None and not settings.cache_decrypted:
            memory = os.memfd_create("serving-model", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            private = f"/proc/{os.getpid()}/fd/{memory}"
        question = Question(
            path,
            key=settings.key,
            cache_dir=str(self._cache_dir.absolute()),
            cache_bytes=self._limit_bytes,
            scratch=str(self._scratch),
            private=private,
            free=free,
        )
        return Kept(question, memory)

    def close(self) -> None:
        """Remove the temporary folder, if one had to be made."""
        with contextlib.suppress(OSError):
            shutil.rmtree(self._scratch)


def _temporary() -> Path:
    """Return the folder for temporary ones; it need not be one that can be written.

    Most servers never use it: on a read-only system only the model that does is refused.
    """
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return Path("/tmp")
