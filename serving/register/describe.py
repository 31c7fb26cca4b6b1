"""The helper that imports a ``servable_config.py``, so that the server never runs user code.

``python -m serving.register.describe`` reads lines ``{"id": int, "folder": str, "name": str}``,
optionally with ``"device_id": int`` (0 unless given; user code finds it in the environment as
``SERVING_DEVICE_ID``). It answers each, in order, with ``{"id": int, "definition": {...}}``, the
form of ``Definition.to_json``, or with ``{"id": int, "error": str}``, the reason why there is none.
It ends with its input. What user code prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import IO, Any, Dict

from serving.errors import LoadError
from serving.register.loading import load


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Answer line by line until the requests end."""
    for line in requests:
        if line.strip():
            answers.write(json.dumps(_answer(line)) + "\n")
            answers.flush()


def _answer(line: str) -> Dict[str, Any]:
    try:
        request = json.loads(line)
        number, folder, name = int(request["id"]), Path(request["folder"]), str(request["name"])
        device = int(request.get("device_id", 0))
    except (ValueError, TypeError, KeyError, AttributeError):
        return {"id": None, "error": "the request is no line of JSON with id, folder and name"}
    os.environ["SERVING_DEVICE_ID"] = str(device)
    try:
        found = load(folder, name)
    except LoadError as error:
        return {"id": number, "error": str(error)}
    return {"id": number, "definition": found.definition.to_json()}


def main() -> None:
    """Serve standard input; keep what user code prints, or starts, out of the answers' way."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    serve(requests, answers)
    sys.stderr.flush()
    os._exit(0)  # threads that the user's modules started would keep it alive


if __name__ == "__main__":
    main()
