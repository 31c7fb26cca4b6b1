"""Answers a prober's questions, one line of JSON each; whatever goes wrong becomes words."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Callable, Dict, Mapping

Probe = Callable[..., Dict[str, Any]]
"""Takes what its question holds besides ``id`` and ``probe``."""


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
                number, name = question.pop("id"), str(question.pop("probe"))
                found = _asked(probes, name, question)
                answers.write(json.dumps({"id": number, "found": found}) + "\n")
                answers.flush()


def _asked(probes: Mapping[str, Probe], name: str, details: Dict[str, Any]) -> Dict[str, Any]:
    try:
        return probes[name](**details)
    except Absent as absent:
        return {"problem": str(absent)}
    except ImportError as error:
        return {"problem": f"a package is missing: {error}"}
    except Exception as error:
        return {"problem": f"{type(error).__name__}: {error}"}
