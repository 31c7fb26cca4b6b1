"""Answers a prober's questions, one line of JSON each; whatever goes wrong becomes words."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Callable, Dict, Mapping

Probe = Callable[[], Dict[str, Any]]


class Absent(Exception):
    """What is looked for is not there, in words for an operator."""


def serve(probes: Mapping[str, Probe]) -> None:
    """Answer standard input; everything else that is printed goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with answers:
        for line in sys.stdin:
            if line.strip():
                question = json.loads(line)
                found = _asked(probes, str(question.get("probe")))
                answers.write(json.dumps({"id": question["id"], "found": found}) + "\n")
                answers.flush()


def _asked(probes: Mapping[str, Probe], name: str) -> Dict[str, Any]:
    try:
        return probes[name]()
    except Absent as absent:
        return {"problem": str(absent)}
    except ImportError as error:
        return {"problem": f"a package is missing: {error}"}
    except Exception as error:
        return {"problem": f"{type(error).__name__}: {error}"}
