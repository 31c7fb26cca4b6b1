"""Asks ONNX Runtime, in a helper, whether it would refuse models, before anybody loads them.

For commands that tell what would be served: a server finds it out by loading. The helper is only
started for a model that asks for something which not every engine has.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from serving.artifact import Artifact
from serving.config import BackendSettings
from serving.repository.helper import Helper, HelperFailed, last_words

_BACKEND = "onnxruntime"
_PROBER = "serving.probing.onnxruntime_trials"

NOT_TRIED = "not tried"
"""How a note begins that says why nobody knows whether an engine takes a model."""


async def tried(
    artifacts: Iterable[Artifact], backends: Mapping[str, BackendSettings], *, timeout_s: float
) -> list[Artifact]:
    """Return the artifacts, those with trials after they were tried: with what came of it.

    ``backends`` says where the engine lives. Never raises for what goes wrong: a note says so.
    """
    settings = backends.get(_BACKEND, BackendSettings())
    helper = Helper(
        module=_PROBER,
        timeout_s=timeout_s,
        interpreter=settings.interpreter,
        env=settings.environment(_BACKEND),
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(helper.close)
        return [await _tried(artifact, helper) for artifact in artifacts]


async def _tried(artifact: Artifact, helper: Helper) -> Artifact:
    if artifact.backend != _BACKEND or not artifact.trials:
        return artifact
    try:
        answer = await helper.ask({"probe": "refusal", "trials": artifact.trials}, ("found",))
        found = answer["found"] if isinstance(answer["found"], dict) else {}
        problem = str(found.get("problem", "" if "refusal" in found else "an unreadable answer"))
        refusal = str(found.get("refusal", ""))
    except HelperFailed as failure:
        problem, refusal = f"the helper {failure}{last_words(helper.said, Path())}", ""
    if problem:
        note = f"{NOT_TRIED} whether ONNX Runtime has all that the model asks for: {problem}"
        return replace(artifact, trials=(), notes=(*artifact.notes, note))
    return replace(artifact, trials=(), refusal=refusal)
