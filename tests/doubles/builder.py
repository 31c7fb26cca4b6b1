"""A builder that follows a script: ``python -m tests.doubles.builder``.

The question's options are the script: ``how`` is ``build`` (the default), ``error``, ``crash``,
``hang``, ``no file``, ``nonsense``, ``bad identity`` or ``identity error``; ``asked`` is a file
that every question is appended to; ``content`` is what the engine holds.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


def identity(told: dict[str, Any]) -> dict[str, Any]:
    how = told["options"].get("how", "build")
    if how == "bad identity":
        return {"identity": "../../etc/passwd"}
    if how == "identity error":
        return {"error": {"code": "no_atc", "message": "no compiler", "fix": "install it"}}
    content = Path(told["source"]).read_bytes() + json.dumps(told["batch_sizes"]).encode()
    return {"identity": hashlib.sha256(content).hexdigest()}


def build(told: dict[str, Any]) -> dict[str, Any]:
    how = told["options"].get("how", "build")
    if how == "crash":
        print("the last words of /opt/vendor/lib.so", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    elif how == "hang":
        time.sleep(60)
    elif how == "error":
        return {"error": {"code": "build_failed", "message": "operator Foo", "fix": "remove it"}}
    elif how == "nonsense":
        return {"built": {"file": "../model.plan"}}
    if how != "no file":
        folder = Path(told["folder"])
        (folder / "model.plan").write_text(told["options"].get("content", "engine"))
        (folder / "engine.json").write_text("{}")
    return {
        "built": {
            "file": "model.plan", "identity_parts": {}, "notes": ["as small as can be"],
            "signature": told["signature"], "gears": [1, 8], "took_s": 1.5,
        }
    }  # fmt: skip


def main() -> None:
    for line in sys.stdin:
        question = json.loads(line)
        told = question.get("identity", question)
        if "asked" in told["options"]:
            with open(told["options"]["asked"], "a") as file:
                file.write(line)
        print(json.dumps({"id": question["id"], "progress": "at it"}), flush=True)
        answer = identity(told) if "identity" in question else build(told)
        print(json.dumps({"id": question["id"], **answer}), flush=True)


if __name__ == "__main__":
    main()
