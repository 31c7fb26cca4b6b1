"""A cache folder on a full disk is reported once, and everything is served."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models import mlp
from tests.server import serving

_MOUNT = ["unshare", "-Urm", "sh", "-c", "mount -t tmpfs -o size=64k none /mnt"]
_FULL = """#!/bin/sh
exec unshare -Urm sh -c '
    mount -t tmpfs -o size=64k none "{cache}" && mkdir "{cache}/proofs"
    dd if=/dev/zero of="{cache}/filler" bs=4k 2>/dev/null
    exec "{python}" "$@"
' sh "$@"
"""


def _may_mount() -> bool:
    return (
        bool(shutil.which("unshare")) and not subprocess.run(_MOUNT, capture_output=True).returncode
    )


@pytest.mark.skipif(not _may_mount(), reason="no user namespaces to mount a small disk in")
def test_full_cache_folder_is_reported_once_and_all_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two", "three"):
        mlp(tmp_path / "models" / name / "1" / "model.onnx", seed=len(name))
    cache = tmp_path / "run" / "cache"
    cache.mkdir(parents=True)
    python = tmp_path / "python"
    python.write_text(_FULL.format(cache=cache, python=sys.executable))
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with serving(tmp_path / "models", tmp_path / "run") as server:
        for name in ("one", "two", "three"):
            assert server.get(f"/v2/models/{name}/ready")[0] == 200
        drafts = Path(f"/proc/{server.pid}/root{cache}/proofs")
        assert not list(drafts.iterdir()), "half a proof takes room and helps nobody"
        log = server.log()
        said = f"the cache folder {cache}/proofs cannot be written (No space left on device)"
        assert log.count(said) == 1
        assert server.stop() == 0
        assert "Traceback" not in server.log()
